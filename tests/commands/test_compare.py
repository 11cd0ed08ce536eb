"""`scripts/compare.py`: runs side by side, whatever state they are in."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from jaxnn.report import plots

from .. import shell, trained_run


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    trained_run.finished(folder / "a")
    trained_run.finished(folder / "b", replace(trained_run.CONFIG, epochs=5, lr=0.25, n_h=(9, 8)))
    trained_run.finished(folder / "a1", replace(trained_run.CONFIG, seed=1))
    trained_run.finished(folder / "v", replace(trained_run.CONFIG, validation=0.2))
    trained_run.unfinished(folder / "u", epochs=2)
    trained_run.unfinished(folder / "uv", replace(trained_run.CONFIG, validation=0.2), epochs=2)
    trained_run.unfinished(folder / "0", epochs=0)
    return folder


@pytest.fixture
def compare(originals, monkeypatch, capsys, tmp_path):
    """Run `scripts/compare.py` where copies of these runs lie."""
    shutil.copytree(originals, tmp_path / "runs")
    monkeypatch.chdir(tmp_path / "runs")
    return lambda *argv: shell.here(monkeypatch, capsys, "compare", *argv)


def rows(outcome):
    """The table by run, as text by column."""
    table = outcome.out.split("\n\n")[1].splitlines()
    header, *lines = [re.split(r"\s{2,}", line.strip()) for line in table]
    return {line[0]: dict(zip(header, line, strict=True)) for line in lines}


def test_one_table_with_what_differs_and_one_picture(compare, tmp_path):
    outcome = compare("a", "b", "--out", "comparison.png")
    assert (outcome.status, outcome.err) == (0, "")
    common = outcome.out.splitlines()[0]
    assert common.startswith("all: data digits, beta 0.9, batch_size 16, activation sigmoid")
    found = rows(outcome)
    assert list(found) == ["a", "b"]
    assert list(found["a"]) == [
        "run", "lr", "n_h", "epochs", "train loss", "test loss", "test accuracy", "F1", "seconds",
    ]  # fmt: skip
    assert [found["b"][name] for name in ("lr", "n_h", "epochs")] == ["0.25", "9 8", "5"]
    with Image.open(tmp_path / "runs" / "comparison.png") as picture:
        assert picture.format == "PNG"


def test_the_figures_are_those_of_the_results(compare):
    found = rows(compare("a"))["a"]
    result = json.loads(Path("a/result.json").read_text())
    assert found["test loss"] == f"{result['test_loss']:.4f}"
    assert found["test accuracy"] == f"{result['test_accuracy']:.2%}"
    assert found["F1"] == f"{result['f1']:.4f}"
    assert found["seconds"] == f"{result['train_seconds']:.1f}"


def test_runs_that_are_not_finished_are_shown_as_far_as_they_have_come(compare):
    outcome = compare("a", "u", "uv", "v", "0")
    assert outcome.status == 0
    assert "u: not finished: its state after 2 of 12 epochs" in outcome.err
    found = rows(outcome)
    assert [found[name]["epochs"] for name in found] == [
        "12",
        "2 of 12",
        "2 of 12",
        "12",
        "0 of 12",
    ]
    assert found["u"]["test accuracy"].endswith("%")
    assert found["u"]["F1"] == "–"
    # The test set of a run with a validation set is not opened before its end.
    assert found["uv"]["test accuracy"] == "–"
    assert found["v"]["test accuracy"].endswith("%")
    assert found["0"]["train loss"] == "–"


def test_a_run_before_its_first_epoch_has_nothing_to_draw(compare):
    assert compare("0").status == 0
    outcome = compare("0", "--out", "c.png")
    assert outcome.status == 2
    assert "--out c.png: expected a run with an epoch to draw, found none" in outcome.err


def test_the_same_run_twice_is_one(compare):
    assert list(rows(compare("a", "a"))) == ["a"]


def test_nothing_is_written_but_where_out_says(compare, tmp_path):
    before = set((tmp_path / "runs").rglob("*"))
    assert compare("a", "b").status == 0
    assert set((tmp_path / "runs").rglob("*")) == before
    assert compare("a", "--out", "mine.png").status == 0
    assert set((tmp_path / "runs").rglob("*")) == {*before, tmp_path / "runs" / "mine.png"}


def test_a_sweep_without_a_best_run_and_what_cannot_be_read_are_left_out(compare):
    Path("s").mkdir()
    Path("s/histories.jsonl").write_text("")
    outcome = compare("a", "s", "b")
    assert (outcome.status, list(rows(outcome))) == (0, ["a", "b"])
    assert outcome.err == "s: a sweep that has no best run; left out\n"
    outcome = compare("a", "nowhere", "b")
    assert (outcome.status, list(rows(outcome))) == (2, ["a", "b"])
    assert outcome.err == "error: nowhere: expected the folder of a run, found none; left out\n"


def test_a_curve_is_named_by_what_differs_and_what_it_was_measured_on(compare, monkeypatch):
    drawn = []
    comparison = plots.comparison
    monkeypatch.setattr(plots, "comparison", lambda runs: drawn.append(runs) or comparison(runs))
    assert compare("a", "b", "--out", "c.png").status == 0
    assert compare("a", "v", "--out", "c.png").status == 0
    assert compare("a", "--out", "c.png").status == 0
    assert [list(runs) for runs in drawn] == [
        ["a: lr 0.5, n_h 24", "b: lr 0.25, n_h 9 8"],
        ["a: validation –, on the test set", "v: validation 0.2, on the validation set"],
        ["a"],
    ]
    (loss, accuracy) = comparison(drawn[0]).axes
    assert (loss.get_title("left"), accuracy.get_title("left")) == ("Loss", "Accuracy")


def test_a_finished_run_without_checkpoints_has_no_curves_but_its_figures(compare, tmp_path):
    shutil.rmtree(tmp_path / "runs" / "a" / "checkpoints")
    outcome = compare("a", "b")
    assert outcome.status == 0
    assert "its curves are left out" in outcome.err
    found = rows(outcome)
    assert (found["a"]["epochs"], found["a"]["seconds"]) == ("12", "–")
    assert found["a"]["test accuracy"].endswith("%")


def test_a_damaged_checkpoint_of_an_unfinished_run_is_named(compare, tmp_path):
    *_, newest = sorted((tmp_path / "runs" / "u" / "checkpoints").iterdir())
    newest.write_bytes(b"")
    outcome = compare("u")
    assert outcome.status == 0
    assert outcome.err.count(newest.name) == 1
    assert rows(outcome)["u"]["epochs"] == "1 of 12"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: RUN"),
        (["nowhere"], "nowhere: expected the folder of a run, found none"),
        (["."], "not the folder of a run: expected parameters.safetensors or checkpoints/"),
        (["a", "--out", "a.pdf"], "--out a.pdf: expected a file name that ends in .png"),
        (["a", "--out", "gone/a.png"], "gone/a.png: cannot write the picture"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(compare, argv, message):
    outcome = compare(*argv)
    assert outcome.status == 2
    assert outcome.err.startswith("error: ")
    assert message in outcome.err.splitlines()[0]


@pytest.mark.parametrize("others", [("a", "b"), ("a", "a1", "b"), ("a", "a/../a"), ("a", "u")])
def test_there_is_no_mean_of_unlike_runs_nor_of_one_twice(compare, others):
    assert "mean ±" not in compare(*others).out


def test_of_a_sweep_the_best_run_is_compared(compare, tmp_path):
    sweep = tmp_path / "runs" / "sweep"
    shutil.copytree(tmp_path / "runs" / "b", sweep / "best")
    (sweep / "histories.jsonl").write_text("")
    outcome = compare("a", "sweep")
    assert outcome.status == 0
    assert list(rows(outcome)) == ["a", str(Path("sweep", "best"))]


def test_runs_of_other_seeds_have_a_mean_and_a_standard_deviation(compare):
    line = next(line for line in compare("a", "a1", "u").out.splitlines() if "mean ±" in line)
    a, b = (
        100 * json.loads(Path(f"{run}/result.json").read_text())["test_accuracy"]
        for run in ("a", "a1")
    )
    mean, deviation = (a + b) / 2, abs(a - b) / 2**0.5
    assert line.startswith("mean ± standard deviation of 2 runs: ")
    assert f"test accuracy {mean:.2f} ± {deviation:.2f} %" in line
