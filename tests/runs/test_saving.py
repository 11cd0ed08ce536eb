"""Whichever epochs have a checkpoint: the last one has, and history and resumption are the same."""

import json
import shutil

import pytest

from jaxnn.commands import cli
from jaxnn.errors import TrainingDivergedError
from jaxnn.runs import run_folder
from jaxnn.runs.interval import EVERY_EPOCH, Interval
from jaxnn.training.interrupt import Interrupted
from jaxnn.training.loop import start, train_epochs

from .. import shell, small
from ..training.test_loop import same_bits, without_time

CONFIG = small.config(epochs=5, validation=10.0)


@pytest.fixture(scope="module")
def steps():
    """The states of a run of five epochs, from before the first."""
    data = small.dataset()
    return [start(CONFIG, data.n_x, data.n_classes), *train_epochs(data, CONFIG)]


@pytest.fixture
def run(tmp_path, steps):
    """A run that has begun."""
    run = run_folder.create(
        str(tmp_path / "run"), CONFIG, run_folder.describe(small.dataset(), "small.npz")
    )
    run_folder.save_epoch(run, steps[0])
    return run


def same(one, other):
    """States, best parameters and history, to the bit."""
    return same_bits((one.state, one.best), (other.state, other.best)) and list(
        one.history
    ) == list(other.history)


def epochs_saved(run):
    return [int(path.stem[-6:]) for path in sorted((run.folder / "checkpoints").iterdir())]


def history(run):
    return [json.loads(line) for line in (run.folder / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("every", "kept"),
    [(1, [4, 5]), (2, [4, 5]), (3, [3, 5]), (4, [4, 5]), (5, [0, 5]), (6, [0, 5])],
)
def test_every_nth_epoch_and_the_last_are_saved(run, steps, every, kept):
    written = []
    for step in run_folder.checkpointed(run, steps[1:], Interval(epochs=every)):
        written.append((len(step.history), epochs_saved(run)[-1]))
    assert written == [(n, n - n % every) for n in range(1, 6)]
    assert epochs_saved(run) == kept
    assert history(run) == list(steps[-1].history)


def test_a_time_counts_from_the_last_saved_epoch(run, steps, monkeypatch):
    """Epochs of 40 seconds: 80 and 160 seconds are the first that are a minute later."""
    times = iter([0, 40, 80, 80, 120, 160, 160, 200])  # at the start, after epochs, after saving
    monkeypatch.setattr(run_folder.time, "monotonic", lambda: next(times))
    written = [
        epochs_saved(run)[-1] for _ in run_folder.checkpointed(run, steps[1:], Interval(seconds=60))
    ]
    assert written == [0, 2, 2, 4, 4]
    assert epochs_saved(run) == [4, 5]


@pytest.mark.parametrize("every", [1, 2, 3, 9])
def test_a_run_that_is_killed_after_any_epoch_goes_on_to_the_same_bits(tmp_path, steps, every):
    """Killed: nothing is saved any more. It goes on with another interval."""
    for cut in range(1, 6):
        folder = tmp_path / str(cut)
        run = run_folder.create(
            str(folder), CONFIG, run_folder.describe(small.dataset(), "small.npz")
        )
        run_folder.save_epoch(run, steps[0])
        saved = run_folder.checkpointed(run, steps[1:], Interval(epochs=every))
        assert len([next(saved) for _ in range(cut)]) == cut
        folder = shutil.copytree(folder, tmp_path / f"{cut}-killed")
        again, progress = run_folder.load_latest(folder, pytest.fail)
        assert len(progress.history) == cut - cut % every
        run_folder.reopen(again, progress)
        rest = steps[len(progress.history) + 1 :]
        assert len(list(run_folder.checkpointed(again, rest, Interval(epochs=2)))) == len(rest)
        assert history(again) == list(steps[-1].history)
        assert same(run_folder.load_latest(folder, pytest.fail)[1], steps[-1])


def test_the_states_between_checkpoints_are_those_of_the_uninterrupted_run(run, steps):
    """The rest is computed anew here, not replayed."""
    saved = run_folder.checkpointed(run, steps[1:], Interval(epochs=2))
    next(saved), next(saved), next(saved)
    _, progress = run_folder.load_latest(run.folder, pytest.fail)
    *_, last = train_epochs(small.dataset(), CONFIG, progress)
    assert same_bits((last.state, last.best), (steps[-1].state, steps[-1].best))
    assert without_time(last.history) == without_time(steps[-1].history)


@pytest.mark.parametrize(
    "end",
    [
        Interrupted(2),
        TrainingDivergedError("too far"),
        KeyboardInterrupt(),
        SystemExit(1),
        MemoryError(),
    ],
    ids=lambda end: type(end).__name__,
)
def test_however_the_epochs_end_the_last_one_is_saved(run, steps, end):
    def cut_short():
        yield from steps[1:4]
        raise end

    with pytest.raises(type(end)):
        list(run_folder.checkpointed(run, cut_short(), Interval(epochs=2)))
    assert epochs_saved(run) == [2, 3]
    assert same(run_folder.load_latest(run.folder, pytest.fail)[1], steps[3])


def test_the_last_epoch_is_saved_when_nobody_takes_the_next_one(run, steps):
    """What raises an exception between two epochs closes the generator, wherever it stands."""
    saved = run_folder.checkpointed(run, steps[1:], Interval(epochs=9))
    next(saved), next(saved)
    saved.close()
    assert epochs_saved(run) == [0, 2]


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("1", EVERY_EPOCH),
        ("5", Interval(epochs=5)),
        ("90s", Interval(seconds=90)),
        ("5min", Interval(seconds=300)),
        ("2h", Interval(seconds=7200)),
    ],
)
def test_how_an_interval_is_written(text, interval):
    assert cli.interval(text) == interval


def test_the_flag_reaches_the_run_and_a_resumption_may_change_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ("--no_plots", "--checkpoint_every")
    first = ("--data", "digits", "--batch_size", 719, "--epochs", 5, "--out", "run", *flags, 4)
    assert shell.here(monkeypatch, capsys, "train", *first).status == 0
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["epoch-000004.safetensors", "epoch-000005.safetensors"]
    more = ("--resume", "run", "--epochs", 8, *flags, "1h")
    assert shell.here(monkeypatch, capsys, "train", *more).status == 0
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["epoch-000005.safetensors", "epoch-000008.safetensors"]
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 8
