"""Somebody's file: whatever it does, the answer is clear."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jaxnn.commands import check as check_gradients
from jaxnn.gradcheck.explanations import LESSONS
from jaxnn.gradcheck.report import GradientReport
from jaxnn.homework import homework, shapes
from jaxnn.homework.homework import HomeworkError, Setting, check_homework
from jaxnn.nn import mlp
from jaxnn.nn.activations import ACTIVATIONS

from .. import shell

RIGHT = """
import numpy as np

def sigmoid(z):
    return 1 / (1 + np.exp(-z))

def feed_forward(X, params):
    cache = {}
    cache["Z1"] = params["W1"] @ X + params["b1"]
    cache["A1"] = sigmoid(cache["Z1"])
    cache["Z2"] = params["W2"] @ cache["A1"] + params["b2"]
    cache["A2"] = np.exp(cache["Z2"]) / np.sum(np.exp(cache["Z2"]), axis=0)
    return cache

def back_propagate(X, Y, params, cache, m_batch):
    dZ2 = cache["A2"] - Y
    dW2 = (1. / m_batch) * dZ2 @ cache["A1"].T
    db2 = (1. / m_batch) * np.sum(dZ2, axis=1, keepdims=True)
    dA1 = params["W2"].T @ dZ2
    dZ1 = dA1 * sigmoid(cache["Z1"]) * (1 - sigmoid(cache["Z1"]))
    dW1 = (1. / m_batch) * dZ1 @ X.T
    db1 = (1. / m_batch) * np.sum(dZ1, axis=1, keepdims=True)
    return {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2}
"""

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_gradients.py"


def changed(*changes):
    source = RIGHT
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    return source


@pytest.fixture
def check(tmp_path):
    def run(source, **setting):
        file = tmp_path / "my_backprop.py"
        file.write_text(source, encoding="utf-8")
        return check_homework(file, Setting(**setting))

    return run


WITHOUT_FORWARD = RIGHT.replace("def feed_forward", "def something_else")
GLOBAL = RIGHT.replace("cache, m_batch):", "cache):")
RETURNED = '"dZ2": dZ2, "dA1": dA1, "dZ1": dZ1, "dW1": dW1'


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "source", [RIGHT, WITHOUT_FORWARD, GLOBAL, changed(('"dW1": dW1', RETURNED))]
)
def test_right_files(check, source):
    report = check(source)
    assert report.ok, str(report)
    assert report.witness.status == "confirms"


@pytest.mark.slow
def test_the_documents_sizes_and_a_sum_and_a_penalty(check):
    assert check(RIGHT, m=64, n_x=784, n_h=(64,), n_classes=10).ok
    penalty = changed(
        ("@ X.T", '@ X.T + 0.1 * params["W1"]'),
        ('cache["A1"].T', 'cache["A1"].T + 0.1 * params["W2"]'),
    )
    assert check(penalty, l2=0.1).ok
    assert check(RIGHT.replace("(1. / m_batch) * ", ""), loss="sum").ok


SLOPE = 'sigmoid(cache["Z1"]) * (1 - sigmoid(cache["Z1"]))'
CLASSES = 'np.sum(np.exp(cache["Z2"]), axis=0)'

#: (the right text, what stands there instead, code, first wrong equation)
FAULTS = [
    (SLOPE, 'sigmoid(cache["Z1"])', "wrong_activation_derivative", "dZ1"),
    (SLOPE, "1", "missing_activation_derivative", "dZ1"),
    (SLOPE, SLOPE.replace("Z1", "A1"), "derivative_at_activation", "dZ1"),
    ('cache["A2"] - Y', 'Y - cache["A2"]', "sign", "dZ2"),
    ("keepdims=True)\n    dA1", ")\n    dA1", "shape", "db2"),
    ("@ X.T", "@ X.T * np.random.default_rng().normal()", "nondeterministic", "dW1"),
    (', "db2": db2', "", "structure", None),
    ('params["W2"].T @ dZ2', 'params["W2"] @ dZ2', "weights_not_transposed", "dA1"),
    (CLASSES, CLASSES.replace("axis=0", "axis=1, keepdims=True"), "feed_forward", "A2"),
    ('cache["A1"] = sigmoid', 'cache["A1"] = np.tanh', "wrong_activation_derivative", "dZ1"),
]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("right", "wrong", "code", "first"), FAULTS)
def test_wrong_files_are_told_in_their_own_notation(check, right, wrong, code, first):
    report = check(changed((right, wrong)))
    assert (report.ok, report.cause, report.first_wrong) == (False, code, first)


SHORT = 'dZ2 = (cache["A2"] - Y).astype(np.float32)'
LEAVES = "dW1, db1, dW2, db2 = (v.astype('f2') for v in (dW1, db1, dW2, db2))\n    return {"


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("change", "precision"),
    [
        (('dZ2 = cache["A2"] - Y', SHORT), "float32"),
        (("return {", LEAVES), "float16"),
    ],
)
def test_rounding_in_a_short_dtype_is_no_fault(check, change, precision):
    report = check(changed(change))
    assert report.ok, str(report)
    assert report.precision == precision


def test_a_fault_is_named_through_the_rounding_of_float32(check):
    report = check(changed(('dZ2 = cache["A2"] - Y', SHORT), (SLOPE, "1")))
    assert (report.cause, report.first_wrong) == ("missing_activation_derivative", "dZ1")


def test_one_entry_that_is_off_is_no_rounding(check):
    report = check(changed(("return {", "dW1[2, 3] *= 1 + 1e-6\n    return {")))
    assert (report.cause, report.first_wrong) == ("scale", "dW1")


def test_an_intermediate_that_is_returned_is_checked_too(check):
    report = check(changed(('"dW1": dW1', '"dA1": 2 * dA1, "dZ1": dZ1, "dW1": dW1')))
    assert report.first_wrong == "dA1"
    assert [leaf.path for leaf in report.leaves if not leaf.ok] == ["dA1"]
    assert "return both" not in report.explanation


def test_its_own_forward_pass_comes_first(check):
    tanh = changed(('["A1"] = sigmoid', '["A1"] = np.tanh'), ('["A2"] - Y', '["A2"]'))
    report = check(tanh, activation="sigmoid")
    assert report.first_wrong == "A1"
    assert report.cause == "feed_forward+labels_not_subtracted"
    assert "it is tanh(Z1); if that is meant, name tanh" in report.explanation
    without_bias = changed((' + params["b1"]', ""))
    assert "without the bias" in check(without_bias).explanation


THREE_LAYERS = """
import numpy as np

def back_propagate(X, Y, params, cache, m_batch):
    d, dZ = {}, cache["A3"] - Y
    for l in (3, 2, 1):
        A = cache[f"A{l - 1}"] if l > 1 else X
        d[f"dW{l}"] = dZ @ A.T / m_batch
        d[f"db{l}"] = dZ.sum(axis=1, keepdims=True) / m_batch
        dZ = (params[f"W{l}"].T @ dZ) * (A * (1 - A) if l != WRONG else 1)
    return d
"""


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("layer", "first"), [(0, None), (3, "dZ2"), (2, "dZ1")])
def test_three_layers(check, layer, first):
    report = check(f"WRONG = {layer}\n{THREE_LAYERS}", n_h=(7, 13))
    assert report.first_wrong == first
    assert report.ok == (first is None)


def test_the_right_equation_is_written_with_examples_as_columns(check):
    report = check(changed(("dZ1 @ X.T", "X @ dZ1.T")))
    assert (report.cause, report.first_wrong) == ("transpose", "dW1")
    assert "Write dW1 = dZ1 @ X.T / m (without / m if dZ1 has it" in report.explanation


@pytest.mark.slow
def test_nobody_is_told_to_write_the_line_that_is_there(check):
    stale = ("dA1 =", 'params["W2"] = params["W2"] - 0.1 * dW2\n    W2 = params["W2"]\n    dA1 =')
    as_written = ('params["W2"].T @ dZ2', "W2.T @ dZ2")
    report = check(changed(stale, as_written))
    assert (report.cause, report.first_wrong) == ("stale_weights", "dA1")
    assert "Write" not in report.explanation
    doubtful = check(changed(("dZ1 = dA1", "dZ1 = 2 * dA1")))
    assert "or dA1: return both to tell which" in doubtful.explanation
    assert "Write" not in doubtful.explanation


BACK = "import os, sys\n\ndef back_propagate(X, Y, params, cache):\n    "


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nowhere_to_be_found", "defines no backward pass .* nor any other function"),
        ("def f(:", "line 1: SyntaxError"),
        ("import sys; sys.exit(0)", "defines no backward pass"),
        (BACK + "os._exit(0)", "ended its process with status 0"),
        (BACK + "sys.exit(3)", r"back_propagate ended the program with exit\(3\)"),
        (BACK + "while True: pass", "still running after 2 seconds"),
        (BACK + "while True: print('x' * 1000)", "still running after 2 seconds"),
        (BACK + "input()", "EOFError"),
        (BACK + "return 1 / 0", "line 4: ZeroDivisionError"),
        (BACK + "os.write(4, b'x' * 99)", "answered with something else|raised line 4"),
        (BACK + "raise ValueError('two\\nlines')", "line 4: ValueError: two$"),
        ("x = 1", "defines no backward pass under a usual name"),
        ("def backprob(X, Y): pass", "found backprob: if that is it, name it with"),
        ("def back_propagate(X, Y, qqq): pass", "takes qqq, and nothing of that name is known"),
        ("def back_propagate(X, Y, chache): pass", "takes chache, .* is it cache"),
        ("x = '\\0'; \0", "SyntaxError|no Python"),
        (RIGHT.replace("cache = {}", "cache = []"), "feed_forward raised line 9"),
    ],
)
def test_files_that_cannot_be_examined(check, source, message):
    with pytest.raises(HomeworkError, match=message):
        check(source, timeout=2.0)


def test_what_a_file_prints_does_not_get_in_the_way(check):
    report = check(changed(("dZ2 =", 'print("hello")\n    dZ2 =')))
    assert report.ok
    assert report.notes[-1] == "the file printed 'hello'"


@pytest.mark.slow
def test_a_processes_children_end_with_it(check, tmp_path):
    start = "subprocess.Popen([sys.executable, '-c', 'input()'])\n    dZ2 ="
    source = "import subprocess, sys\n" + changed(("dZ2 =", start))
    assert check(source).ok


def test_no_object_comes_back_from_the_file(check):
    report = check(changed(('"dW1": dW1', '"dW1": [object()]')))
    assert report.cause == "dtype"


def command(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_json_and_nothing_else(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(changed(('cache["A2"] - Y', 'cache["A2"]; print("noise")')))
    done = command(file, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert (told["ok"], told["cause"], told["first_wrong"]) == (
        False,
        "labels_not_subtracted",
        "dZ2",
    )
    assert set(told) == {
        "ok", "first_wrong", "cause", "factor", "explanation", "not_judged", "leaves", "witness",
        "file", "notes",
    }  # fmt: skip


MISUSE = pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_file.py"], "expected a Python file or a notebook, found none at"),
        (["--m", "0"], "argument --m: expected an integer from 1"),
        (["--m", "19"], "--m: expected FILE as well"),
        (["--n_h", "5", "7"], "--n_h: expected FILE as well"),
        (["--loss", "sum"], "--loss: expected FILE as well"),
        (["--loss", "hinge"], "argument --loss: expected one of softmax, sigmoid"),
        (["--explain", "no_such_code"], "no fault is called no_such_code; the codes are sign, "),
        (["--no-such-flag"], "unrecognized arguments: --no-such-flag"),
    ],
)


@MISUSE
def test_the_command_tells_misuse_in_one_line(monkeypatch, capsys, arguments, message):
    told = shell.here(monkeypatch, capsys, "check_gradients", *arguments)
    assert (told.status, told.out) == (2, "")
    assert told.err.startswith(f"error: {message}")
    assert all(line.startswith("(`") for line in told.err.splitlines()[1:])


@MISUSE
def test_where_nothing_can_be_examined_json_says_why(monkeypatch, capsys, arguments, message):
    told = shell.here(monkeypatch, capsys, "check_gradients", *arguments, "--json")
    answer = json.loads(told.out)
    assert set(answer) == {"ok", "error"}
    assert answer["ok"] is None
    assert answer["error"].startswith(message)
    assert (told.status, told.err.splitlines()[0]) == (2, f"error: {answer['error']}")


def test_json_holds_what_does_not_print(monkeypatch, capsys):
    """A file name may hold bytes that are no text, which cannot be printed."""
    told = shell.here(monkeypatch, capsys, "check_gradients", "--\udcff", "--json")
    assert json.loads(told.out)["error"] == "unrecognized arguments: --\\udcff"


def test_the_flags_reach_the_examination(monkeypatch):
    seen = []
    right = GradientReport(True, ())
    monkeypatch.setattr(homework, "check_homework", lambda *asked: seen.append(asked) or right)
    flags = "--activation tanh --l2 0.1 --loss sum --m 19 --n_x 3 --n_h 5 7 --n_classes 2 --seed 4"
    flags += " --rows --function Net.backward --timeout 3"
    assert check_gradients.main(["mine.py", *flags.split()]) == 0
    expected = Setting(19, 3, (5, 7), 2, "tanh", "sum", 0.1, 4, 3.0, True, "Net.backward")
    assert seen == [(Path("mine.py"), expected)]


def test_what_cannot_be_judged_is_neither_right_nor_wrong_to_a_shell(monkeypatch, capsys):
    report = GradientReport(False, (), not_judged="the loss is another one in float64")
    monkeypatch.setattr(homework, "check_homework", lambda path, setting: report)
    assert check_gradients.main(["mine.py"]) == 2
    assert "CANNOT BE JUDGED" in capsys.readouterr().out


def test_our_own_network_can_be_found_wrong(monkeypatch, capsys):
    """Not a wrong line of its table, but a wrong network: db1 with another sign."""
    right = mlp.back_propagate

    def wrong(params, cache, Y, activation):
        d = right(params, cache, Y, activation)
        return {**d, "db1": -d["db1"]}

    monkeypatch.setattr(mlp, "back_propagate", wrong)
    monkeypatch.setattr(shapes, "SHAPES", (shapes.Shape((13, 11, 5), "sigmoid"),))
    assert check_gradients.main([]) == 1
    assert capsys.readouterr().out.rstrip().endswith("WRONG  our network's hand-derived gradients")
    assert check_gradients.main(["--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["cause"], told["first_wrong"]) == (False, "sign", "db1")


def test_our_own_network_is_examined_at_several_depths_activations_and_dtypes():
    sizes, activations, regularised = zip(*shapes.SHAPES, strict=True)
    assert sizes[0] == (784, 64, 10)
    assert {len(s) - 1 for s in sizes} >= {1, 2, 3, 4}
    assert set(activations) == set(ACTIVATIONS)
    assert {*regularised} == {False, True}


@pytest.mark.parametrize("code", LESSONS)
def test_every_code_is_explained_by_the_command(code, capsys):
    assert check_gradients.main(["--explain", code]) == 0
    assert capsys.readouterr().out.startswith(f"{code}\n")


def test_the_command_lists_the_codes(capsys):
    assert check_gradients.main(["--explain", "codes"]) == 0
    assert capsys.readouterr().out.splitlines() == list(LESSONS)


def test_the_command_examines_our_own_network(monkeypatch, capsys):
    told = shell.here(monkeypatch, capsys, "check_gradients")
    assert (told.status, told.err) == (0, "")
    assert told.out.rstrip().endswith("RIGHT  our network's hand-derived gradients")


def test_the_default_sizes_are_distinct_primes():
    setting = Setting()
    sizes = [setting.m, setting.n_x, *setting.n_h, setting.n_classes]
    assert len(set(sizes)) == len(sizes)
    assert all(n % d for n in sizes for d in range(2, n))
