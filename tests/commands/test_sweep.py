"""`scripts/sweep.py`, as a user meets it."""

import json
import os
import re
import signal
from types import SimpleNamespace

import pytest

from jaxnn import data
from jaxnn.commands import experiment
from jaxnn.compilation import QUICKLY
from jaxnn.training import sweep as sweeps
from jaxnn.training.config import Config
from jaxnn.training.loop import train_epochs

from .. import shell

GRID = ("--data", "digits", "--lr", "0.1", "2", "--n_h", "6", "--batch_size", "64", "--seeds", "2")
FILES = {"results.json", "histories.jsonl", "table.txt", "best"}


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a script with these arguments, in an empty folder; quick to compile, and unverified."""
    monkeypatch.setattr(sweeps, "compiled", lambda program, spread: program.compile(QUICKLY))
    verdict = SimpleNamespace(ok=True, max_relative_error=1e-7)
    monkeypatch.setattr(experiment, "verify", lambda *arguments: verdict)
    monkeypatch.chdir(tmp_path)
    return lambda name, *argv: shell.here(monkeypatch, capsys, name, *argv)


def results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.slow
def test_a_sweep_on_several_devices_from_start_to_the_best_run(run, tmp_path):
    outcome = shell.run(
        "sweep", *GRID, "--epochs", 3, "--out", "s", "--no_plots",
        cwd=tmp_path,
        XLA_FLAGS=f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=3",
    )  # fmt: skip
    edge = "--lr 2 is the largest of the sweep, at the grid's edge: a larger value may be better\n"
    assert (outcome.status, outcome.err) == (0, edge)
    assert "3 × cpu" in outcome.out
    assert "verified" in outcome.out
    folder = tmp_path / "s"
    assert {path.name for path in folder.iterdir()} == FILES
    assert (folder / "table.txt").read_text() in outcome.out
    assert len((folder / "histories.jsonl").read_text().splitlines()) == 4

    found = results(folder)
    assert found["complete"] is True
    seeds = [(point["lr"], [run["seed"] for run in point["runs"]]) for point in found["points"]]
    assert seeds == [(0.1, [0, 1]), (2.0, [0, 1])]
    best = found["best"]["config"]
    assert (best["lr"], best["beta"], best["n_h"]) == (2.0, 0.9, [6])
    assert json.loads((folder / "best/config.json").read_text())["config"] == best
    assert_trained_alone(folder / "best", Config.from_dict(best))

    assert run("evaluate", "s/best").status == 0
    assert run("compare", "s/best").status == 0


def assert_trained_alone(folder, config):
    digits = data.load("digits")
    training_set = data.with_validation(digits, config.validation, config.seed)
    *_, last = train_epochs(training_set, config)
    lines = (folder / "history.jsonl").read_text().splitlines()
    for wanted, line in zip(last.history, lines, strict=True):
        found = json.loads(line)
        assert found.pop("seconds") > 0
        assert found == pytest.approx({name: wanted[name] for name in found}, rel=1e-5)


def test_a_line_names_the_settings_that_differ(run):
    argv = ("--data", "digits", "--n_h", 4, 5, "--lr", 0.5, "--seeds", 1, "--epochs", 1)
    outcome = run("sweep", *argv, "--out", "s", "--no_plots")
    named = re.findall(r"lowest \S+ \(n_h (\d), lr 0.5, beta 0.9, seed 0\)", outcome.out)
    assert named == ["4", "5"]


def test_ctrl_c_ends_with_what_there_is(run, tmp_path, monkeypatch):
    whole = sweeps.sweep

    def interrupted(*arguments):
        for status in whole(*arguments):
            if status.epoch == 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield status

    monkeypatch.setattr(sweeps, "sweep", interrupted)
    outcome = run("sweep", *GRID, "--epochs", 6, "--out", "s", "--no_plots")
    assert outcome.status == 130
    assert "the sweep ends here, and its best network is saved. To go on:" in outcome.out
    assert "train.py --resume s/best" in outcome.out
    found = results(tmp_path / "s")
    assert found["complete"] is False
    epochs = {run["epochs"] for point in found["points"] for run in point["runs"]}
    assert len(epochs) == 1
    assert min(epochs) < 6
    assert not (tmp_path / "s/best/result.json").exists()
    resumed = run("train", "--resume", "s/best", "--no_plots")
    assert resumed.status == 0, resumed.err


def test_a_grid_of_which_every_point_diverges(run, tmp_path):
    hopeless = ("--activation", "relu", "--n_h", "7x7x7", "--lr", "1e6", "--seeds", 1)
    outcome = run("sweep", "--data", "digits", *hopeless, "--epochs", 1, "--out", "s")
    assert outcome.status == 2
    assert re.fullmatch(
        r"error: of every combination a run diverged: .*--lr 1e\+06.*\n", outcome.err
    )
    assert results(tmp_path / "s")["best"] is None


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--lr", "0"), r"--lr: expected a number greater than 0"),
        (
            ("--beta", "0.5", "1"),
            r"--beta: expected a number at least 0 and less than 1, found '1'",
        ),
        (
            ("--n_h", "64", "6x"),
            r"--n_h: expected up to 1000 widths .* such as 64 or 256x128, .*'6x'",
        ),
        (("--seeds", "0"), r"--seeds: expected an integer from 1 to 10000"),
        (("--seed", "4294967295", "--seeds", "2"), r"--seeds 2: expected at most 1"),
        (("--validation", "1.5"), r"--validation: expected a fraction"),
        (
            ("--data", "digits", "--batch_size", "8", "5000"),
            r"--batch_size 5000: expected 1 to 1198",
        ),
        (("--data", "digits", "--memory", "1"), r"--memory: expected at least \d+ MiB"),
        (("--activation", "cosine"), r"--activation: expected one of sigmoid, "),
    ],
)
def test_flags_out_of_range(run, tmp_path, argv, message):
    outcome = run("sweep", *argv, "--out", "s")
    assert outcome.status == 2
    assert re.search(message, outcome.err.splitlines()[0])
    assert not (tmp_path / "s").exists()


def test_a_folder_that_holds_something(run, tmp_path):
    (tmp_path / "kept").write_text("kept")
    outcome = run("sweep", "--data", "digits", "--seeds", 1, "--out", tmp_path)
    assert outcome.status == 2
    assert "expected a new or empty folder" in outcome.err
    assert (tmp_path / "kept").read_text() == "kept"
