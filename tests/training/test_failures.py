"""Whatever operation fails, and however the disk fails, the old or the new state is whole."""

import errno
import json
import os
import random
import re
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxnn.errors import JaxnnError
from jaxnn.runs import run_folder
from jaxnn.runs.interval import EVERY_EPOCH
from jaxnn.training.loop import start, train_epochs

from .. import shell, small

RESULT = {"test_accuracy": 1.0}
OPERATIONS = ("open", "write", "fchmod", "fsync", "replace", "mkdir", "unlink")


class Disk:
    """Counts the operations that change a disk; the n-th fails, alone or with all after it."""

    def __init__(self, monkeypatch, fails_at=None, error=errno.EIO, for_good=False):
        self.count, self.fails_at, self.error, self.for_good = 0, fails_at, error, for_good
        for name in OPERATIONS:
            monkeypatch.setattr(os, name, self.counted(getattr(os, name)))

    def counted(self, operation):
        def call(*args, **options):
            self.count += 1
            late = self.for_good and self.fails_at is not None and self.count > self.fails_at
            if self.count == self.fails_at or late:
                raise OSError(self.error, os.strerror(self.error))
            return operation(*args, **options)

        return call


@pytest.fixture(autouse=True)
def rescue_place(tmp_path, monkeypatch):
    """What is rescued goes where the test's own files go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(scope="module")
def steps():
    """The states of a run of four epochs, from before the first."""
    data, config = small.dataset(), small.config(epochs=4, validation=10.0)
    return [start(config, data.n_x, data.n_classes), *train_epochs(data, config)]


def story(folder, steps):
    """A run from its folder to its results; how many states it saved before something failed."""
    saved = 0
    config = small.config(epochs=4, validation=10.0)
    try:
        run = run_folder.create(
            str(folder), config, run_folder.describe(small.dataset(), "small.npz")
        )
        run_folder.save_epoch(run, steps[0])
        saved += 1
        for _ in run_folder.checkpointed(run, steps[1:], EVERY_EPOCH):
            saved += 1
        run_folder.write_results(run, steps[-1].eval_params, RESULT, "table\n")
    except (JaxnnError, OSError) as error:
        return saved, error
    return saved, None


def same(one, other):
    return list(one.history) == list(other.history) and all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def operations(tmp_path, steps):
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        assert story(tmp_path / "whole", steps) == (5, None)
    return disk.count


@pytest.mark.sampled(2)
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_after_any_failure_the_old_or_the_new_state_is_whole(tmp_path, steps, error, for_good):
    total = operations(tmp_path, steps)
    assert total >= 80
    failures = 0
    for n in range(1, total + 1):
        folder = tmp_path / str(n)
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, n, error, for_good)
            saved, failure = story(folder, steps)
        failures += failure is not None
        kept = [] if saved == 0 else [run_folder.load_latest(folder, pytest.fail)[1]]
        newest = steps[saved - 1 : saved + 1]
        assert all(any(same(state, step) for step in newest) for state in kept)
        results = [json.loads(path.read_text()) for path in folder.glob("result.json")]
        assert results in ([], [RESULT])
    # Removing a checkpoint that is too old may fail and nobody is told: three times in four epochs.
    assert failures >= total - 4
    print(f"{total} operations, each made to fail in turn")


def test_a_read_only_place_is_said_before_anything_is_trained(tmp_path, steps, monkeypatch):
    Disk(monkeypatch, 1, errno.EROFS)
    saved, error = story(tmp_path / "run", steps)
    assert saved == 0
    assert re.fullmatch(r"`out` .*run: cannot write there: Read-only file system", str(error))


def test_a_state_without_room_is_kept_elsewhere(tmp_path, steps, monkeypatch):
    config = small.config(epochs=4, validation=10.0)
    run = run_folder.create(
        str(tmp_path / "run"), config, run_folder.describe(small.dataset(), "small.npz")
    )
    run_folder.save_epoch(run, steps[0])
    with monkeypatch.context() as patch:
        Disk(patch, 1, errno.ENOSPC)
        with pytest.raises(
            JaxnnError, match=r"No space left on device; it is kept in .*"
        ) as caught:
            run_folder.save_epoch(run, steps[1])
    folder = Path(str(caught.value).rsplit(" ", 1)[1])
    rescued, progress = run_folder.load_latest(folder, pytest.fail)
    assert same(progress, steps[1])
    assert rescued.config == run.config


def test_a_folder_that_vanishes_is_said_and_the_state_kept(tmp_path, steps):
    config = small.config(epochs=4, validation=10.0)
    run = run_folder.create(
        str(tmp_path / "run"), config, run_folder.describe(small.dataset(), "small.npz")
    )
    (tmp_path / "run").rename(tmp_path / "moved")
    with pytest.raises(JaxnnError, match=r"run: cannot write epoch 1: No such file.*kept in "):
        run_folder.save_epoch(run, steps[1])


@pytest.mark.slow
def test_a_few_real_kills(capsys, monkeypatch):
    """The campaign itself is long: `scripts/campaigns/crash_test.py` does 300 by default."""
    outcome = shell.here(monkeypatch, capsys, "crash_test", "--kills", 2, "--epochs", 20)
    assert outcome.status == 0
    assert "2 kills of living processes" in outcome.out


def test_the_moments_of_the_kills_are_of_every_kind():
    """Before the first epoch, between two, after the last, and, with none left, until the end."""
    crash_test = shell.script("crash_test")
    times = crash_test.Times(startup=4.0, epoch=0.1, ending=2.0)
    chance = random.Random(0)
    midway = [crash_test.moment(chance, 200, 150, times) for _ in range(300)]
    assert {waited for waited, _ in midway} == set(range(42))
    assert 30 < sum(waited == 0 for waited, _ in midway) < 90
    assert max(delay for waited, delay in midway if waited) < 0.3
    late = [crash_test.moment(chance, 200, 5, times) for _ in range(300)]
    assert max(waited for waited, _ in late) == 5
    assert 4 < max(delay for waited, delay in late if waited == 5) < 6
    done = [crash_test.moment(chance, 200, 0, times) for _ in range(300)]
    assert {waited for waited, _ in done} == {0}
    assert min(delay for _, delay in done) < 4 < 6 < max(delay for _, delay in done)
