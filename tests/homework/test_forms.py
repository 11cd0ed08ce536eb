"""Homework as students write it: every classic form, right and wrong, is read as it is."""

import json
from pathlib import Path

import pytest

from jaxnn.commands import check as check_gradients
from jaxnn.homework.homework import HomeworkError, Setting, check_homework
from jaxnn.homework.trial import trials

from .forms import FILES, LAYERS, MISTAKES, changed

FORMS = [name for name in FILES if name != LAYERS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of docs/homework.md, as somebody copies them."""
    made = tmp_path_factory.mktemp("hw")
    for name, source in FILES.items():
        (made / name).write_text(source, encoding="utf-8")
    return made


@pytest.fixture
def check(tmp_path):
    def run(source, name="mine.py", **setting):
        file = tmp_path / name
        file.write_text(source, encoding="utf-8")
        return check_homework(file, Setting(**setting))

    return run


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", FORMS)
def test_the_files_of_the_page_are_right(folder, name):
    report = check_homework(folder / name)
    assert report.ok, str(report)
    assert report.notes[0].startswith("read as ")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("mistake", MISTAKES, ids=[m.file for m in MISTAKES])
def test_a_mistake_in_a_classic_form_is_named(check, mistake):
    report = check(changed(mistake))
    assert (report.first_wrong, report.cause) == (mistake.first_wrong, mistake.cause), str(report)


def test_several_files_make_a_table_and_the_highest_status(folder, tmp_path, capsys):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(changed(MISTAKES[0]), encoding="utf-8")
    nothing = tmp_path / "nothing.py"
    nothing.write_text("x = 1\n", encoding="utf-8")
    files = [str(folder / "course.py"), str(wrong), str(nothing)]
    assert check_gradients.main(files) == 2
    lines = capsys.readouterr().out.splitlines()
    head, *rows = lines[:-2]
    assert head.split() == ["file", "verdict", "first", "wrong", "cause", "what", "to", "change"]
    assert [row.split()[:2] for row in rows] == [
        [files[0], "right"], [files[1], "WRONG"], [files[2], "not"]
    ]  # fmt: skip
    assert "dZ1" in rows[1]
    assert "derivative_at_activation" in rows[1]
    assert lines[-1] == "3 files: 1 right, 1 wrong, 1 not judged"


@pytest.mark.slow
def test_several_files_are_a_list_in_json(folder, tmp_path, capsys):
    nothing = tmp_path / "nothing.py"
    nothing.write_text("x = 1\n", encoding="utf-8")
    assert check_gradients.main([str(folder / "course.py"), str(nothing), "--json"]) == 2
    right, neither = json.loads(capsys.readouterr().out)
    assert (right["ok"], Path(right["file"]).name) == (True, "course.py")
    assert neither["ok"] is None
    assert "no backward pass" in neither["error"]


# ------------------------------------------------------------------------------------ its own words

OTHER_LETTERS = {
    'params["W1"]': 'params["W"]', 'params["b1"]': 'params["b"]', 'params["W2"]': 'params["V"]',
    'params["b2"]': 'params["c"]', 'cache["Z1"]': 'cache["K"]', 'cache["A1"]': 'cache["H"]',
    'cache["Z2"]': 'cache["S"]', 'cache["A2"]': 'cache["P"]', '"dW1"': '"dW"', '"db1"': '"db"',
    '"dW2"': '"dV"', '"db2"': '"dc"',
}  # fmt: skip
LETTERS = FILES["document.py"]
for _old, _new in OTHER_LETTERS.items():
    assert _old in LETTERS
    LETTERS = LETTERS.replace(_old, _new)


def test_other_letters_are_understood_and_used(check):
    report = check(LETTERS)
    assert report.ok, str(report)
    assert [leaf.path for leaf in report.leaves] == ["dV", "dc", "dW", "db"]
    assert "W1 is W, W2 is V, b1 is b, b2 is c" in str(report)
    wrong = check(LETTERS.replace("dA1 * sigmoid", "sigmoid"))
    assert wrong.first_wrong == "dK"
    assert wrong.cause != "zero"


@pytest.mark.slow
def test_an_output_that_is_called_like_the_labels_is_not_taken_for_them(check):
    report = check(LETTERS.replace('cache["P"]', 'cache["Y"]'))
    assert report.ok, str(report)


RETURN = 'return {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2}'


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "returned",
    ["return dW1, db1, dW2, db2", 'return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}',
     "grads = (dW2, db2, dW1, db1)\n    return grads", "return dict(grad_W1=dW1, grad_b1=db1, "
     "grad_W2=dW2, grad_b2=db2)", "return [dW1, db1, dW2, db2], 1.0"],
)  # fmt: skip
def test_a_tuple_and_keys_without_the_d_are_a_gradient_too(check, returned):
    assert RETURN in FILES["document.py"]
    assert check(FILES["document.py"].replace(RETURN, returned)).ok


def test_parameters_that_are_returned_in_place_of_gradients(check):
    stepped = ", ".join(f'"{k}": params["{k}"] - 0.1 * d{k}' for k in ("W1", "b1", "W2", "b2"))
    report = check(FILES["document.py"].replace(RETURN, f"return {{{stepped}}}"))
    assert not report.ok
    assert "are the parameters after a step of 0.1; return the gradients" in report.explanation
    report = check(FILES["document.py"].replace(RETURN, "return params"))
    assert "are the parameters themselves" in report.explanation


@pytest.mark.slow
def test_parameters_that_are_returned_by_what_takes_a_rate_are_a_step(check):
    stepped = ", ".join(f'params["{k}"] - lr * d{k}' for k in ("W1", "b1", "W2", "b2"))
    names = "W1, b1, W2, b2"
    source = FILES["document.py"].replace("params, cache):", "params, cache, lr):")
    source = source.replace(RETURN, f"{names} = {stepped}\n    return {names}")
    report = check(source)
    assert report.ok, str(report)
    assert "(W - W') / rate" in str(report)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("np.sum(dZ2)", "np.sum(dZ2) sums over the units as well"),
        ("np.sum(dZ2, axis=1)", "keepdims=True keeps it"),
        (
            "np.sum(dZ2, axis=0)",
            "summed over the units, where it is to be summed over the examples",
        ),
    ],
)
def test_a_sum_over_the_wrong_axis_has_the_words_that_help(check, wrong, told):
    source = FILES["document.py"].replace("np.sum(dZ2, axis=1, keepdims=True)", wrong)
    report = check(source)
    assert (report.first_wrong, report.cause) == ("db2", "shape")
    assert told in report.explanation
    assert "Write db2 = np.sum(dZ2, axis=1, keepdims=True)" in report.explanation
    assert [leaf.path for leaf in report.leaves if leaf.ok] == ["dW2", "dW1", "db1"]


@pytest.mark.slow
def test_a_wrong_shape_hides_no_other_mistake(check):
    source = FILES["document.py"].replace("np.sum(dZ2, axis=1, keepdims=True)", "np.sum(dZ2)")
    report = check(source.replace('cache["A2"] - Y', 'Y - cache["A2"]'))
    assert report.cause == "shape+sign"


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "way", ["dZ1.dot(X.T)", "np.dot(dZ1, np.transpose(X))", "np.matmul(dZ1,X.T)"]
)
def test_nobody_is_told_to_write_the_line_that_is_there_in_other_words(check, way):
    """dW1 is wrong since X is: its own line is the right one."""
    source = FILES["document.py"].replace("np.matmul(dZ1, X.T)", way)
    source = source.replace("    dW1 = ", "    X = X * 1.5\n    dW1 = ")
    report = check(source)
    assert report.first_wrong == "dW1"
    assert "Write" not in report.explanation


# ------------------------------------------------------------------------- what the flags decide


def test_without_a_forward_pass_the_activation_is_tried_and_said(check):
    source = FILES["document.py"].replace("def feed_forward", "def unused")
    slope = 'sigmoid(cache["Z1"]) * (1 - sigmoid(cache["Z1"]))'
    tanh = source.replace(slope, '(1 - np.tanh(cache["Z1"]) ** 2)')
    assert tanh != source
    report = check(tanh)
    assert report.ok
    assert "the file has no forward pass: tanh is taken" in str(report)
    assert not check(tanh, activation="sigmoid").ok


@pytest.mark.slow
def test_the_loss_that_is_named_is_what_the_gradient_is_held_to(check):
    source = FILES["updating.py"]
    assert check(source).scope == "for half the squared error, mean over the examples"
    assert check(source, loss="half_squared,mean").scope == ""
    report = check(source, loss="squared,mean")
    assert not report.ok
    assert report.factor == pytest.approx(0.5)


@pytest.mark.slow
def test_a_loss_of_its_own_is_what_the_gradient_is_held_to(check):
    loss = "\ndef compute_loss(Y, Y_hat):\n    return -np.sum(Y * np.log(Y_hat)){}\n"
    assert check(FILES["document.py"] + loss.format(" / Y.shape[1]")).ok
    report = check(FILES["document.py"] + loss.format(""))
    assert "softmax and cross-entropy, sum over the examples" in str(report)
    assert (report.cause, report.first_wrong) == ("extra_mean", "dW2")


def test_a_constant_that_the_own_loss_has_is_told_as_the_loss_that_was_differentiated(check):
    loss = "\n    def compute_loss(self, y, y_hat):\n        return np.mean((y - y_hat) ** 2)\n"
    report = check(FILES["updating.py"] + loss)
    assert (report.cause, report.factor) == ("scale", pytest.approx(2.5))
    assert "half the squared error, mean over the examples" in report.explanation


@pytest.mark.slow
def test_a_loss_that_is_unknown_is_said_to_be(check):
    loss = (
        "\n    def compute_loss(self, y, y_hat):\n        return np.mean(np.abs(y - y_hat) ** 3)\n"
    )
    report = check(FILES["updating.py"] + loss)
    assert report.ok
    assert "compute_loss gives a loss that is none of those known here" in str(report)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "softplus", "gelu", "silu"])
def test_all_activations_are_found_in_a_forward_pass(tmp_path, name):
    """Only found: the gradient is the sigmoid's, and wrong for it."""
    from jaxnn.homework.process import Process
    from jaxnn.homework.trial import read

    functions = {
        "relu": "np.maximum(Z, 0)", "leaky_relu": "np.where(Z > 0, Z, 0.01 * Z)",
        "softplus": "np.log(1 + np.exp(Z))", "silu": "Z / (1 + np.exp(-Z))",
        "gelu": "Z * np.vectorize(lambda z: (1 + math.erf(z / math.sqrt(2))) / 2)(Z)",
    }  # fmt: skip
    source = FILES["document.py"].replace(
        'cache["A1"] = sigmoid(cache["Z1"])', 'cache["A1"] = g(cache["Z1"])'
    )
    file = tmp_path / "mine.py"
    file.write_text(f"import math\n{source}\ndef g(Z):\n    return {functions[name]}\n")
    setting = Setting()
    with Process(file, 10.0) as process:
        about, _ = process.ask({"function": "", "sizes": setting.sizes()})
        assert read(process, about, setting).network.activation == name


def test_rows_are_tried_alone_where_they_are_asked_for():
    about = {"shapes": {}, "leaves": [], "holds": "dict", "form": "f(X, Y)"}
    assert all(trial.layout.rows for trial in trials(None, about, Setting(rows=True)))
    assert not any(trial.layout.rows for trial in trials(None, about, Setting(rows=False)))


@pytest.mark.slow
def test_one_of_several_functions_can_be_chosen(check):
    source = FILES["document.py"] + "\ndef other(X, Y, params, cache):\n    return params\n"
    assert check(source).ok
    assert not check(source, function="other").ok
    with pytest.raises(HomeworkError, match="defines no nothing; it has sigmoid, feed_forward"):
        check(source, function="nothing")


# --------------------------------------------------------------------------------- what is left out


def notebook(*cells):
    made = [{"cell_type": "markdown", "source": ["# Exercise"]}]
    made += [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    return json.dumps({"cells": made, "nbformat": 4, "metadata": {}})


def test_a_notebook_is_examined_as_it_is(check):
    first, second = "%matplotlib inline\n!pip install numpy\nimport numpy as np\n", "%%bash\nls\n"
    report = check(notebook(first, second, FILES["document.py"], "train()\n"), "homework.ipynb")
    assert report.ok, str(report)
    assert "left out, as no import, definition or constant: cell 4, line 1: train()" in str(report)


def test_a_line_of_a_notebook_is_named_by_its_cell(check):
    broken = FILES["document.py"].replace('dZ2 = cache["A2"] - Y', "1 / 0")
    with pytest.raises(HomeworkError, match=r"raised cell 2, line 1[0-9]: ZeroDivisionError"):
        check(notebook("x = 1\n", broken), "homework.ipynb")


@pytest.mark.parametrize("text", ["{", "[]", '{"cells": 3}', '{"cells": [{"cell_type": "code"}]}'])
def test_what_is_no_notebook_is_told_in_one_line(check, text):
    with pytest.raises(HomeworkError, match=r"^homework\.ipynb: "):
        check(text, "homework.ipynb")


AT_IMPORT = """
import argparse, sys
import matplotlib.pyplot as plt
from keras.datasets import mnist
from nowhere_to_be_found import *
np.random.seed(3)
opt = argparse.ArgumentParser().parse_args()
(x_train, y_train), _ = mnist.load_data()
data = np.loadtxt("train.csv")
digits = 10
layers = [784, 64, digits]
open("written.txt", "w").write("x")
for epoch in range(10):
    while True:
        pass
with open("nothing.txt") as file:
    file.read()
if __name__ == "__main__":
    sys.exit(4)
plt.show()
"""


def test_what_trains_plots_reads_and_parses_at_import_is_left_out_and_said(check, tmp_path):
    head, tail = FILES["document.py"].split("\n", 1)
    report = check(f"{head}\n{AT_IMPORT}\n{tail}")
    assert report.ok, str(report)
    told = next(note for note in report.notes if note.startswith("left out, as"))
    assert "line 8: opt = argparse" in told
    assert told.endswith(" more")
    assert any("from nowhere_to_be_found import *" in note for note in report.notes)
    assert not (tmp_path / "written.txt").exists()


@pytest.mark.slow
def test_a_constant_and_a_helper_that_a_function_needs_are_there(check):
    source = FILES["document.py"].replace("(1 / m_batch)", "scale * over(m_batch)")
    source += (
        "\nhalf = 0.5\nscale = 2 * half\nover = make()\ndef make():\n    return lambda m: 1 / m\n"
    )
    source = source.replace("over = make()\n", "") + "\nover = make()\n"
    assert check(source).ok


def test_a_module_that_is_not_there_is_named_where_it_is_needed(check):
    source = "from course_utils import sigmoid\n" + FILES["document.py"].replace(
        "def sigmoid", "def unused"
    )
    with pytest.raises(
        HomeworkError, match="needs sigmoid of course_utils, which cannot be import"
    ):
        check(source)


def test_layers_by_themselves_want_an_adapter(folder):
    with pytest.raises(HomeworkError, match=r"Dense, Sigmoid are layers.*docs/homework\.md"):
        check_homework(folder / LAYERS)


ATTRIBUTES = FILES["updating.py"].replace(
    "backward(self, X, y, learning_rate)", "backward(self, X, y)"
)
for _name in ("W2", "b2", "W1", "b1"):
    ATTRIBUTES = ATTRIBUTES.replace(f"self.{_name} -= learning_rate * ", f"self.KEPT_{_name} = ")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("kept", ["d", "grad_", "d_"])
def test_gradients_that_are_kept_in_attributes(check, kept):
    assert "KEPT_" in ATTRIBUTES
    assert check(ATTRIBUTES.replace("KEPT_", kept)).ok


@pytest.mark.slow
def test_gradients_that_are_kept_in_a_dict(check):
    source = ATTRIBUTES
    for name in ("W1", "b1", "W2", "b2"):
        source = source.replace(f"self.KEPT_{name} = ", f'self.grads["{name}"] = ')
    assert check(source.replace("        d2 = ", "        self.grads = {}\n        d2 = ")).ok


@pytest.mark.slow
def test_a_program_for_two_classes_may_insist_on_one_output(check):
    source = FILES["course.py"].replace(
        "return A, caches", "assert A.shape[0] == 1\n    return A, caches"
    )
    report = check(source)
    assert report.ok
    assert "11-7-1" in str(report)


def test_a_program_for_ten_digits_is_given_ten_classes(check):
    source = FILES["notebook.py"].replace("Y.max() + 1", "10")
    report = check(source)
    assert report.ok, str(report)
    assert "11-7-10" in str(report)


@pytest.mark.slow
def test_a_class_that_only_trains_makes_one_step(check):
    source = FILES["updating.py"].replace("def backward(self, X, y, learning_rate):", FIT)
    assert FIT in source
    report = check(source)
    assert report.ok, str(report)
    assert "NeuralNetwork.fit(X, y, epochs, learning_rate)" in str(report)


FIT = """def fit(self, X, y, epochs, learning_rate):
        self.forward(X)"""


@pytest.mark.slow
def test_names_of_several_words_are_read_word_by_word(check):
    source = FILES["updating.py"].replace(
        "backward(self, X, y,", "backward(self, inputImages, trueLabels,"
    )
    source = source.replace("(self.output - y)", "(self.output - trueLabels)")
    source = source.replace("X.T @ d1", "inputImages.T @ d1").replace("len(X)", "len(inputImages)")
    assert check(source).ok


@pytest.mark.slow
def test_sizes_may_be_numbered(check):
    source = FILES["updating.py"].replace("input_size, hidden_size, output_size", "n_in, h1, n_out")
    source = source.replace("(input_size, hidden_size)", "(n_in, h1)").replace("hidden_size", "h1")
    assert check(source.replace("output_size", "n_out")).ok


GLOBALS = """
import numpy as np

W1, b1, W2, b2 = np.ones((3, 4)), np.zeros(4), np.ones((4, 2)), np.zeros(2)

def forward(X):
    global A1
    A1 = np.tanh(X @ W1 + b1)
    return A1 @ W2 + b2

def backward(X, y, y_hat):
    global W1, b1, W2, b2
    lr = 0.1
    d = y_hat - y
    dA = d @ W2.T * (1 - A1 ** 2)
    W2, b2 = W2 - lr * A1.T @ d, b2 - lr * d.sum(axis=0)
    W1, b1 = W1 - lr * X.T @ dA, b1 - lr * dA.sum(axis=0)
"""


def test_parameters_may_be_globals_and_the_rate_a_constant(check):
    report = check(GLOBALS)
    assert report.ok, str(report)
    assert "(W - W') / 0.1" in str(report)


def test_expressions_without_names_are_taken_in_the_order_of_the_layers(check):
    source = GLOBALS.replace("def forward(X)", "def forward(X, W1, b1, W2, b2)")
    source = source.replace("def backward(X, y, y_hat)", "def backward(X, y, y_hat, W2)")
    source = source.replace("    global W1, b1, W2, b2\n", "").split("    W2, b2 = W2 - lr")[0]
    source += "    return X.T @ dA, dA.sum(axis=0), A1.T @ d, d.sum(axis=0)\n"
    report = check(source)
    assert report.ok, str(report)
    assert "a tuple without names, taken in the order W1, b1, W2, b2" in str(report)


def test_a_class_without_a_dict_of_attributes_is_told_in_one_line(check):
    source = FILES["updating.py"].replace(
        "class NeuralNetwork:", 'class NeuralNetwork:\n    __slots__ = ("W1", "b1", "W2", "b2")\n'
    )
    with pytest.raises(HomeworkError, match="keeps no arrays of weights in its attributes"):
        check(source)
