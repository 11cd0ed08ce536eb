"""`scripts/train.py`, as a user meets it."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxnn.commands import experiment
from jaxnn.errors import UsageError
from jaxnn.io import arrayfile, command
from jaxnn.nn.losses import cross_entropy_derivative
from jaxnn.runs import results, run_folder
from jaxnn.training import loop
from jaxnn.training.config import Config

from .. import shell

DIGITS = ("--data", "digits", "--batch_size", "32")

RESULT_FIELDS = {
    "dataset", "n_train", "n_test", "seed", "config", "epochs", "train_loss", "test_loss",
    "train_accuracy", "test_accuracy", "precision", "recall", "f1", "train_seconds",
    "total_seconds", "gradient_check", "versions", "member_accuracies",
    "resumed_after",
}  # fmt: skip


@pytest.fixture
def train(monkeypatch, capsys, tmp_path):
    """Run `scripts/train.py` with these arguments, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *argv: shell.here(monkeypatch, capsys, "train", *argv)


def parameters(folder):
    return load_file(folder / "parameters.safetensors")


def history(folder):
    lines = (folder / "history.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def until_first_epoch(process):
    next(line for line in process.stdout if line.startswith("epoch"))


def same_run(one, other):
    a, b = parameters(one), parameters(other)
    return (
        a.keys() == b.keys()
        and all(np.array_equal(a[name], b[name]) for name in a)
        and history(one) == history(other)
    )


def test_a_run_on_digits_from_start_to_table(tmp_path):
    outcome = shell.run("train", *DIGITS, "--epochs", 40, "--out", "run", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert outcome.err == ""
    assert "verified" in outcome.out
    assert "epoch 40/40" in outcome.out
    assert outcome.out.rstrip().endswith("results in run")
    assert "resumed" not in outcome.out

    folder = tmp_path / "run"
    result = json.loads((folder / "result.json").read_text())
    assert set(result) >= RESULT_FIELDS
    assert (result["dataset"], result["epochs"], result["seed"]) == ("digits", 40, 0)
    assert result["n_train"] + result["n_test"] == 1797
    assert result["test_accuracy"] > 0.93
    assert result["gradient_check"]["ok"] is True
    assert 0 < result["gradient_check"]["max_relative_error"] < 1e-5

    lines = history(folder)
    assert [line["epoch"] for line in lines] == list(range(1, 41))
    assert lines[-1]["test_accuracy"] == result["test_accuracy"]
    assert lines[-1]["test_loss"] == pytest.approx(result["test_loss"], rel=1e-6)

    shapes = {name: value.shape for name, value in parameters(folder).items()}
    assert shapes == {"W1": (64, 64), "b1": (64,), "W2": (10, 64), "b2": (10,)}
    assert (folder / "table.txt").read_text() in outcome.out


def test_the_table_has_precision_and_recall_the_right_way_round(train, tmp_path):
    assert train(*DIGITS, "--epochs", 2, "--out", "run").status == 0
    from sklearn.metrics import precision_score, recall_score

    from jaxnn import data
    from jaxnn.nn.mlp import feed_forward
    from jaxnn.training.objective import unit_interval

    digits = data.load("digits")
    X = unit_interval(digits.x_test, np.float32(digits.scale))
    predicted = np.asarray(feed_forward(parameters(tmp_path / "run"), X)["A2"]).argmax(axis=1)
    lines = (tmp_path / "run" / "table.txt").read_text().splitlines()
    rows = [line.split() for line in lines if line.split() and line.split()[0].isdigit()]
    each = {"average": None, "zero_division": 0}
    precision = precision_score(digits.y_test, predicted, **each)
    recall = recall_score(digits.y_test, predicted, **each)
    assert [row[1:3] for row in rows] == [
        [f"{p:.4f}", f"{r:.4f}"] for p, r in zip(precision, recall, strict=True)
    ]
    assert not np.allclose(precision, recall)
    assert [int(row[4]) for row in rows] == np.bincount(digits.y_test).tolist()


def test_help_needs_neither_data_nor_jax(tmp_path):
    path = str(shell.ROOT / "scripts" / "train.py")
    code = (
        "import sys, runpy\n"
        f"sys.path.insert(0, {str(shell.ROOT)!r})\n"
        "sys.argv = ['train.py', '--help']\n"
        "try:\n"
        f"    runpy.run_path({path!r}, run_name='__main__')\n"
        "finally:\n"
        "    assert not {'jax', 'numpy', 'rich', 'sklearn'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    for flag in (
        "--lr",
        "--epochs",
        "--n_x",
        "--n_h",
        "--beta",
        "--batch_size",
        "--data",
        "--seed",
    ):
        assert flag in done.stdout
    for default in ("0.5", "50", "64", "0.9", "784", "auto", "runs/"):
        assert default in done.stdout


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--lr", "0"], "--lr: expected a number greater than 0"),
        (["--lr", "-1"], "--lr: expected"),
        (["--lr", "nan"], "--lr: expected"),
        (["--lr", "inf"], "--lr: expected"),
        (["--lr", "1e30"], "--lr: expected .* at most 1e"),
        (["--lr", "fast"], "--lr: expected .* found 'fast'"),
        (["--beta", "1"], "--beta: expected a number at least 0 and less than 1"),
        (["--beta", "-0.1"], "--beta: expected"),
        (["--weight_decay", "0.1"], "--weight_decay: expected --optimiser adamw as well"),
        (["--temperature", "3"], "--temperature: expected --teacher as well"),
        (["--teacher_weight", "0.2"], "--teacher_weight: expected --teacher as well"),
        (["--ease", "0.5"], "--ease: expected --elastic or --affine as well"),
        (["--epochs", "0"], "--epochs: expected an integer from 1 to"),
        (["--epochs", "2.5"], "--epochs: expected an integer"),
        (["--batch_size", "0"], "--batch_size: expected an integer from 1"),
        (["--batch-size", "-4"], "--batch_size: expected an integer from 1"),
        (["--n_h"], "--n_h: expected at least one argument"),
        (["--seed", "-1"], "--seed: expected an integer from 0 to"),
        (["--validation", "0"], "--validation: expected a fraction"),
        (["--validation", "1.5"], "--validation: expected a fraction"),
        (["--n_x", "0"], "--n_x: expected an integer from 1"),
        (
            ["--n_h", "64", "70000"],
            "--n_h: expected .* widths from 1 to 65536, .*'64 70000'",
        ),
        (
            ["--n_h", "0", "5"],
            "--n_h: expected .* or 0 alone for no hidden layer",
        ),
        (["--n_h", *["9"] * 1001], "--n_h: expected up to 1000 widths"),
        (["--epochs", "1e3"], "--epochs: expected an integer"),
        (["--epochs", "9" * 5000], "--epochs: expected an integer"),
        (["--lr", "1e999"], "--lr: expected"),
        (["--beta", "nan"], "--beta: expected"),
        (["--seed", "9" * 30], "--seed: expected an integer from 0 to 4294967295"),
        (["--validation", "nan"], "--validation: expected a fraction"),
        (["--validation", "-3"], "--validation: expected a fraction"),
        (["--patience", "0"], "--patience: expected an integer from 1"),
        (["--checkpoint_every", "0"], "--checkpoint_every: expected epochs from 1 to 1000000, or"),
        (["--checkpoint_every", "-1"], "--checkpoint_every: expected"),
        (["--checkpoint_every", "0s"], "--checkpoint_every: expected"),
        (["--checkpoint_every", "1.5"], "--checkpoint_every: expected"),
        (["--checkpoint_every", "9999999"], "--checkpoint_every: expected"),
        (["--checkpoint_every", "99999999999999999h"], "--checkpoint_every: expected"),
        (["--checkpoint_every", "5 days"], "--checkpoint_every: expected .* found '5 days'"),
        (["--patience", "3"], "--patience: expected --validation"),
        (
            ["--activation", "sigmoidal"],
            "--activation: expected one of sigmoid, .*'sigmoidal'",
        ),
        (["--learning_rate", "1"], r"unrecognized arguments: --learning_rate .*mean --lr\?"),
        (["--optimizer", "adam"], r"unrecognized arguments: --optimizer .*mean --optimiser\?"),
        (["--weight-decy=1"], r"unrecognized arguments: --weight-decy=1; .*mean --weight_decay\?"),
        (["--nothing_like_it"], "unrecognized arguments: --nothing_like_it$"),
        (["--activation", "swish"], r"--activation: .*found 'swish'; did you mean silu\?"),
        ([*DIGITS, "--n_x", "784"], "--n_x 784: contradicts the data, which have 64 inputs"),
        (["--data", "digits", "--batch_size", "9999"], "--batch_size 9999: expected 1 to 1"),
        ([*DIGITS, "--validation", "9999"], "--validation 9999: expected 1 to"),
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--resume", "nowhere"], "nowhere: expected the folder of a run, found nothing of that"),
        (["--resume", "."], "no checkpoints"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_changes_nothing(train, tmp_path, argv, message):
    outcome = train(*argv)
    assert outcome.status == 2
    assert outcome.err.startswith("error: ")
    first, *others = outcome.err.splitlines()
    assert all(line.startswith("(`") for line in others)
    assert re.search(message, first), first
    assert list(tmp_path.rglob("*")) == []


def test_a_folder_with_files_is_refused_and_left_alone(train, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    outcome = train(*DIGITS, "--out", "mine")
    assert outcome.status == 2
    assert "error: --out mine: expected a new or empty folder, found files in it" in outcome.err
    assert outcome.out == ""  # said before anything is read or computed
    with pytest.raises(UsageError, match="expected a new or empty folder, found files in it"):
        run_folder.create("mine", Config(), {"name": "digits"})  # filled meanwhile
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_out_may_not_be_a_file(train, tmp_path):
    (tmp_path / "file").write_text("x")
    outcome = train(*DIGITS, "--out", "file")
    assert outcome.status == 2
    assert "error: --out file: expected a new or empty folder, found a file" in outcome.err


def test_out_may_not_be_longer_than_a_name_can_be(train, tmp_path):
    outcome = train(*DIGITS, "--out", "x" * 300)
    assert outcome.status == 2
    assert outcome.err.endswith("cannot write there: File name too long\n")


@pytest.fixture
def no_compiled_programs():
    """Programs compiled from the right equations must not stand in for the wrong ones, or after."""
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.usefixtures("no_compiled_programs")
def test_training_is_refused_when_a_gradient_is_wrong(train, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "jaxnn.nn.losses.cross_entropy_derivative",
        lambda A, Y: 1.01 * cross_entropy_derivative(A, Y),
    )
    outcome = train(*DIGITS, "--out", "run")
    assert outcome.status == 2
    assert "error: training refused" in outcome.err
    assert "dZ2" in outcome.err
    assert not (tmp_path / "run").exists()


def test_hyphens_underscores_and_several_layers(train, tmp_path):
    outcome = train(*DIGITS, "--batch-size=50", "--n-h", 9, 8, "--n_x", 64, "--epochs", 1)
    assert outcome.status == 0
    (folder,) = (tmp_path / "runs").iterdir()
    config = json.loads((folder / "config.json").read_text())["config"]
    assert (config["batch_size"], config["n_h"]) == (50, [9, 8])
    assert list(parameters(folder)) == ["W1", "W2", "W3", "b1", "b2", "b3"]


def test_a_diverging_run_says_so_and_keeps_the_last_finite_state(train, tmp_path):
    argv = ["--activation", "relu", "--n_h", *[32] * 5, "--lr", 1e5, "--out", "run"]
    outcome = train(*DIGITS, *argv)
    assert outcome.status == 2
    assert "error: the loss is no longer finite in epoch 1: --lr 100000" in outcome.err
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == [
        "epoch-000000.safetensors"
    ]
    assert not (tmp_path / "run" / "result.json").exists()


def test_the_test_set_is_opened_once_with_validation(train, tmp_path, monkeypatch):
    """All that training measures is the 1,150 examples kept and the 288 held out."""
    measured, evaluate = [], loop.evaluate

    def counting(params, x, *rest, **options):
        measured.append(len(x))
        return evaluate(params, x, *rest, **options)

    monkeypatch.setattr(loop, "evaluate", counting)
    monkeypatch.setattr(results, "evaluate", counting)
    outcome = train(*DIGITS, "--epochs", 4, "--validation", 0.2, "--patience", 4, "--out", "run")
    assert outcome.status == 0
    assert measured == [1150, 288] * 4 + [359]
    assert all("test_loss" not in line for line in history(tmp_path / "run"))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert 0 < result["test_accuracy"] < 1


def test_results_without_room_are_written_by_a_resumption(train, tmp_path, monkeypatch):
    """The trained network is not thrown away; and the report, which is written last, is made up."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    argv = (*DIGITS, "--epochs", 1, "--no-plots", "--out", "run")
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_results", full)
        outcome = train(*argv)
    assert outcome.status == 2
    assert re.search("run: cannot write the results: No space left .*--resume run", outcome.err)
    assert train("--resume", "run", "--no-plots").status == 0
    assert {path.suffix for path in (tmp_path / "run").iterdir()} == {
        *("", ".json", ".jsonl", ".safetensors", ".html", ".txt")
    }
    (tmp_path / "run" / "report.html").unlink()
    assert train("--resume", "run", "--no-plots").status == 0
    assert (tmp_path / "run" / "report.html").exists()
    assert "all 1 epochs are done" in train("--resume", "run").err


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Runs of 2, 3 and 100 epochs that were never interrupted, in folders of these names."""
    folder = tmp_path_factory.mktemp("finished")
    for epochs in ("2", "3", "100"):
        argv = [*DIGITS, "--no_plots", "--epochs", epochs, "--out", str(folder / epochs)]
        assert shell.script("train").main(argv) == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the run of 2 epochs."""
    return shutil.copytree(finished / "2", tmp_path / "run")


class TestResume:
    def test_more_epochs_give_the_run_that_asked_for_them_at_once(self, train, run, finished):
        outcome = train("--resume", "run", "--epochs", 3)
        assert outcome.status == 0
        assert "\nresumed   after epoch 2 of 3\n" in outcome.out
        assert outcome.out.splitlines()[-2].endswith(" s in all since it was resumed")
        assert same_run(finished / "3", run)

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["--lr", "0.1"], "--lr 0.1: contradicts the run to resume, which has 0.5"),
            (["--n_h", "3"], r"--n_h 3: contradicts the run to resume, which has 64;"),
            (["--epochs", "1"], "--epochs 1: expected 2, as first asked, or more"),
            (["--out", "b"], "--out: contradicts --resume"),
            ([], "all 2 epochs are done; expected --epochs above 2"),
            (["--data", "other", "--epochs", "3"], "the run began on other data"),
            (["--resume", "other"], "other.npz: expected the folder of a run, found a file"),
            (["--resume", "run/checkpoints"], "run/checkpoints: .*, found no checkpoints/ in it"),
        ],
    )
    def test_contradictions(self, train, run, tmp_path, argv, message):
        np.savez(
            tmp_path / "other.npz",
            x_train=np.eye(40, 64, dtype=np.uint8),
            y_train=np.arange(40) % 10,
            x_test=np.eye(10, 64, dtype=np.uint8),
            y_test=np.arange(10),
        )
        before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
        argv = [f"{word}.npz" if word == "other" else word for word in argv]
        outcome = train("--resume", "run", *argv)
        assert outcome.status == 2
        assert re.search(message, outcome.err), outcome.err
        assert {p: p.read_bytes() for p in before} == before

    def test_the_old_result_stays_until_the_new_one_is_there(self, train, run, finished, capsys):
        """Killed before it trains, and again before its results: as many epochs, made up later."""
        old = {name: (run / name).read_bytes() for name in ("result.json", "report.html")}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "train_epochs", lambda *_: pytest.fail("killed"))
            with pytest.raises(pytest.fail.Exception):
                shell.script("train").main(["--resume", "run", "--epochs", "3"])
        assert {name: (run / name).read_bytes() for name in old} == old
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(experiment, "write_results", lambda *_: pytest.fail("killed"))
            with pytest.raises(pytest.fail.Exception):
                shell.script("train").main(["--resume", "run"])
            assert {name: (run / name).read_bytes() for name in old} == old
            shell.script("compare").main(["run"])
        assert re.search(
            r"run: its result after 2 epochs.* not finished after 3", capsys.readouterr().err
        )
        assert train("--resume", "run", "--no_plots").status == 0
        result = json.loads((run / "result.json").read_text())
        assert (result["epochs"], result["resumed_after"]) == (3, 3)
        assert "all 3 epochs are done" in train("--resume", "run").err
        name = "parameters.safetensors"
        assert (run / name).read_bytes() == (finished / "3" / name).read_bytes()

    @pytest.mark.parametrize("operation", ["open", "mkstemp"])
    def test_a_folder_that_cannot_be_written_is_said_in_one_line(
        self, train, run, monkeypatch, operation
    ):
        """Where the lock is made, and where the first file is written."""

        def read_only(*arguments, **options):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        with monkeypatch.context() as patch:
            if operation == "open":
                patch.setattr(run_folder.FileLock, "acquire", read_only)
            else:
                patch.setattr(run_folder.tempfile, operation, read_only)
            outcome = train("--resume", "run", "--epochs", 3)
        expected = "error: --resume run: cannot write there: Read-only file system\n"
        assert (outcome.status, outcome.err) == (2, expected)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("mixup", 0.2, "config.json: expected settings that jaxnn .* knows, found 'mixup': go"),
            ("lr", 0.1, "config.json: expected lr 0.5 as the run began, found 0.1: put it back"),
        ],
    )
    def test_settings_that_are_not_those_of_the_run_are_refused(
        self, train, run, name, value, message
    ):
        path = run / "config.json"
        written = json.loads(path.read_text())
        written["config"][name] = value
        path.write_text(json.dumps(written))
        outcome = train("--resume", "run", "--epochs", 3)
        assert outcome.status == 2
        assert re.match(f"error: run/{message}", outcome.err), outcome.err
        assert outcome.err.count("\n") == 1

    def test_settings_of_another_version_in_the_checkpoints_are_refused(self, train, run):
        for path in (run / "checkpoints").iterdir():
            arrays, notes = arrayfile.load(path)
            notes["config"]["mixup"], notes["versions"]["jaxnn"] = 0.2, "9.9"
            arrayfile.save(path, arrays, notes)
        outcome = train("--resume", "run", "--epochs", 3)
        assert outcome.status == 2
        assert re.match(r"error: run/checkpoints/epoch-000002.*found 'mixup'.* 9\.9", outcome.err)
        assert outcome.err.count("\n") == 1

    def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(
        self, train, run, finished
    ):
        *_, newest = sorted((run / "checkpoints").iterdir())
        newest.write_bytes(newest.read_bytes()[:-1])
        outcome = train("--resume", "run", "--epochs", 3)
        assert outcome.status == 0
        assert f"{newest.name}: not a whole file written by a training run" in outcome.err
        assert same_run(finished / "3", run)

    def test_no_whole_checkpoint_is_an_error(self, train, run):
        for path in (run / "checkpoints").iterdir():
            path.write_bytes(b"")
        outcome = train("--resume", "run", "--epochs", 3)
        assert outcome.status == 2
        assert "none of its 2 checkpoints is whole" in outcome.err.splitlines()[-1]

    def test_no_checkpoint_at_all_is_an_error(self, train, run):
        for path in (run / "checkpoints").iterdir():
            path.unlink()
        outcome = train("--resume", "run")
        assert outcome.status == 2
        assert "error: run: not the folder of a run: it has no checkpoints/epoch-" in outcome.err

    @pytest.mark.parametrize(
        ("on_path", "here", "typed"),
        [
            (".venv/bin", ".", "python"),
            ("other", ".", ".venv/bin/python"),
            ("other", "other", "{}/.venv/bin/python"),
        ],
    )
    def test_how_to_go_on_is_typed_as_this_command_was(
        self, tmp_path, monkeypatch, on_path, here, typed
    ):
        """The interpreter by its name where that finds it, by its path from here or as a whole."""
        for python in (tmp_path / "other/python", tmp_path / ".venv/bin/python"):
            python.parent.mkdir(parents=True)
            python.touch(mode=0o755)
        monkeypatch.setenv("PATH", str(tmp_path / on_path))
        monkeypatch.chdir(tmp_path / here)
        monkeypatch.setattr(sys, "executable", str(python))
        monkeypatch.setattr(sys, "argv", ["my scripts/train.py", "--lr", "1"])
        expected = f"{typed.format(tmp_path)} 'my scripts/train.py' --resume 'my run'"
        assert command.resuming("my run") == expected

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_signal_saves_says_how_to_go_on_and_loses_nothing(
        self, train, finished, tmp_path, signum, status
    ):
        process = shell.start("train", *DIGITS, "--epochs", 100, "--out", "run", cwd=tmp_path)
        until_first_epoch(process)
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, err
        assert "finishing this epoch" in err
        assert f"{shell.ROOT / 'scripts' / 'train.py'} --resume run" in out
        assert 0 < len(history(tmp_path / "run")) < 100

        assert train("--resume", "run", "--no_plots").status == 0
        assert same_run(finished / "100", tmp_path / "run")

    def test_two_processes_in_one_folder(self, train, tmp_path):
        process = shell.start("train", *DIGITS, "--epochs", 100_000, "--out", "run", cwd=tmp_path)
        until_first_epoch(process)
        outcome = train("--resume", "run")
        process.kill()
        process.communicate(timeout=60)
        assert outcome.status == 2
        assert "another process is training in this folder" in outcome.err
