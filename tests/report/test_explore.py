"""`explore.html` as a file: complete by itself, and safe whatever the names in it."""

import base64
import hashlib
import json
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest

from jaxnn.errors import StorageError, UsageError
from jaxnn.gradcheck.explanations import LESSONS
from jaxnn.nn.activations import ACTIVATIONS
from jaxnn.report import explore
from jaxnn.runs.trained import Trained
from jaxnn.training.config import Config

from .. import shell, small, trained_run
from . import explored
from .test_page import Page

CONFIG = Config(n_h=(7,))


@pytest.fixture(scope="module")
def page():
    digits = trained_run.digits()
    return explore.page(explored.network(digits, CONFIG), digits)


def run_of(page):
    """What the script is given."""
    return json.loads(
        re.search(r'<script type="application/json" id="run">(.*?)</script>', page)[1]
    )


def test_nothing_is_loaded_from_elsewhere(page):
    parsed = Page(page)
    names = {name for _, attrs in parsed.elements for name in attrs}
    assert not {"src", "href", "srcset", "action"} & names
    assert "url(" not in page
    assert "@import" not in page
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|\beval\(|innerHTML", page)


def test_the_policy_lets_the_page_s_own_script_and_style_run_and_nothing_else(page):
    (policy,) = [a["content"] for a in Page(page).attributes("meta") if "http-equiv" in a]
    script = re.search(r"<script>(.*)</script>", page, re.DOTALL)[1]
    style = re.search(r"<style>(.*)</style>", page, re.DOTALL)[1]
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in (script, style)
    ]
    assert policy == f"default-src 'none'; script-src {hashes[0]}; style-src {hashes[1]}"


def test_the_parameters_and_the_images_are_the_run_s_to_the_bit():
    digits = trained_run.digits()
    network = explored.network(digits, CONFIG)
    run = run_of(explore.page(network, digits))
    for name, value in network.params.items():
        found = np.frombuffer(base64.b64decode(run["params"][name]), "<f4")
        np.testing.assert_array_equal(found, np.asarray(value).ravel())
    images = run["images"]
    pixels = np.frombuffer(zlib.decompress(base64.b64decode(images["data"])), images["dtype"])
    numbers = images["numbers"]
    np.testing.assert_array_equal(pixels.reshape(-1, 64), digits.x_test[numbers])
    assert images["labels"] == digits.y_test[numbers].tolist()


def test_the_document_s_network_takes_a_few_hundred_kilobytes():
    dataset = explored.enlarged()
    content = explore.page(explored.network(dataset, Config(n_h=(64,))), dataset)
    assert 270_000 < len(content) < 600_000


def test_mistakes_come_first_the_surest_before_others_then_the_classes_in_turn():
    truth = np.array([0, 0, 1, 1, 2, 2, 0])
    logits = np.eye(3)[[0, 1, 1, 0, 2, 2, 0]] * np.array([[3, 4, 3, 9, 3, 3, 3]]).T
    assert explore.chosen_images(truth, logits).tolist() == [3, 1, 0, 2, 4, 6, 5]


def test_names_are_text_and_never_markup(monkeypatch):
    evil = "</script><script>alert('\"&')</script>$title ${x}<!--"
    digits = replace(trained_run.digits(), name=evil)
    monkeypatch.setattr(Trained, "class_names", (evil,) * 10)
    content = explore.page(explored.network(digits, CONFIG), digits)
    parsed = Page(content)
    assert len(parsed.attributes("script")) == 2
    assert " ".join(evil.split()) in parsed.words()
    assert run_of(content)["classes"] == [evil] * 10


def test_inputs_that_are_no_images_are_refused_in_a_line():
    data = small.dataset()
    with pytest.raises(UsageError, match="11 inputs are not the pixels of an image"):
        explore.page(explored.network(data, CONFIG), data)


def test_images_in_colour_are_refused_in_a_line():
    digits = trained_run.digits()
    network = explored.network(digits, CONFIG)
    run = network.run._replace(data=network.run.data | {"image_shape": [4, 4, 4]})
    network = network._replace(run=run, frame=None)
    with pytest.raises(UsageError, match="expected a run on grey images, found colours"):
        explore.page(network, digits)


def test_of_several_networks_one_is_shown():
    digits = trained_run.digits()
    network = explored.network(digits, replace(CONFIG, committee=2))
    both = {name: np.stack([value, value + 1]) for name, value in network.params.items()}
    network = network._replace(params=both)
    second = run_of(explore.page(network, digits, member=2))
    found = np.frombuffer(base64.b64decode(second["params"]["b1"]), "<f4")
    np.testing.assert_array_equal(found, both["b1"][1])
    assert "network 2 of 2" in explore.page(network, digits, member=2)
    with pytest.raises(UsageError, match="expected 1 to 2"):
        explore.page(network, digits, member=3)


def test_a_folder_that_is_gone(tmp_path):
    digits = trained_run.digits()
    with pytest.raises(StorageError, match=r"explore\.html: cannot write the page"):
        explore.write(tmp_path / "gone" / "explore.html", explored.network(digits, CONFIG), digits)


# ------------------------------------------------------------------------------- the equations


def script(name):
    return (shell.ROOT / "jaxnn" / "report" / "explore" / name).read_text(encoding="utf-8")


def equations():
    """Number and LaTeX of every equation that the page shows."""
    return re.findall(r"\w+: \[(\d+), String\.raw`(.*?)`\]", script("equations.js"))


def test_there_are_equations():
    assert len(equations()) >= 24


@pytest.mark.parametrize(("number", "latex"), equations())
def test_an_equation_is_that_of_the_derivation_under_its_number(number, latex):
    derivation = (shell.ROOT / "docs" / "derivation.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```math\n(.*?)\n```", derivation, re.DOTALL)
    (block,) = [block for block in blocks if rf"\tag{{{number}}}" in block]

    def bare(text):
        return re.sub(r"\\[,;]|\\qquad|\\q?quad|\s|,|&", "", text)

    assert bare(latex) in bare(block)


def test_every_activation_is_there_with_its_equation():
    """Whoever adds one to `jaxnn/nn/activations.py` adds it here."""
    functions = script("mathematics.js").split("const ACTIVATIONS = {")[1].split("};")[0]
    shown = script("equations.js").split("const OF_ACTIVATION = {")[1].split("};")[0]
    for table in (functions, shown):
        assert {*re.findall(r"^  (\w+): ", table, re.MULTILINE)} == ACTIVATIONS.keys()


def test_every_mistake_is_one_of_the_doctor_s():
    codes = re.findall(r'code: "(\w+)"', script("mistakes.js"))
    assert len(codes) >= 15
    assert len({*codes}) == len(codes)
    assert {*codes} <= LESSONS.keys()


# --------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run.finished(tmp_path_factory.mktemp("explore") / "run")


def test_the_command_writes_the_page_beside_the_report_or_elsewhere(
    run, tmp_path, monkeypatch, capsys
):
    done = shell.here(monkeypatch, capsys, "explore", run)
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{run / 'explore.html'}: 0.1 MB; open it in a browser\n"
    elsewhere = tmp_path / "page.html"
    assert shell.here(monkeypatch, capsys, "explore", run, "--out", elsewhere).status == 0
    assert elsewhere.read_bytes() == (run / "explore.html").read_bytes()


def test_a_run_that_is_not_finished_is_shown_as_far_as_it_has_come(tmp_path, monkeypatch, capsys):
    run = trained_run.unfinished(tmp_path / "run")
    done = shell.here(monkeypatch, capsys, "explore", run)
    assert done.status == 0
    assert "not finished: after 3 of 12 epochs" in (run / "explore.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--out", "page.png"], "error: --out page.png: expected a file name that ends in .html\n"),
        (["--member", "2"], "error: --member 2: expected 1 to 1, the networks of the run\n"),
    ],
)
def test_a_mistake_of_the_user_s_is_one_line(run, argv, line, monkeypatch, capsys):
    done = shell.here(monkeypatch, capsys, "explore", run, *argv)
    assert (done.status, done.out, done.err) == (2, "", line)


def test_no_page_of_other_data_than_the_run_s(run, tmp_path, monkeypatch, capsys):
    digits = trained_run.digits()
    other = tmp_path / "other.npz"
    np.savez(
        other, x_train=digits.x_train, y_train=digits.y_train, x_test=digits.x_test[1:],
        y_test=digits.y_test[1:],
    )  # fmt: skip
    page = tmp_path / "page.html"
    argv = ("explore", run, "--data", other, "--out", page)
    assert shell.here(monkeypatch, capsys, *argv).status == 0
    assert run_of(page.read_text("utf-8"))["images"]["labels"]
