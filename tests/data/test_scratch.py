"""Examples that are more than may lie in memory: on the disk, without a name, and the same bits."""

import errno
import mmap
import os
import resource
import shutil
import tracemalloc
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

from jaxnn.data import load, with_validation
from jaxnn.data.memory import MEBIBYTE
from jaxnn.data.scratch import assembled, read_at_random
from jaxnn.errors import StorageError
from jaxnn.runs import results, run_folder
from jaxnn.training import data_parallel
from jaxnn.training.loop import train_epochs
from jaxnn.training.streaming import streamed, streaming_for

from .. import shell, small
from ..data_files import arrays, as_document, write_hdf5, write_idx, write_npz

N_TRAIN, N_TEST, N_X = 30_000, 2000, 784

#: MiB: a twelfth of the images.
MEMORY = 4

CONFIG = small.config(epochs=2, batch_size=500)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where the disk's share of the examples goes."""
    place = tmp_path / "scratch"
    monkeypatch.setenv("TMPDIR", str(place))
    return place


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """24 MiB of images, decoded, in a file of compressed chunks of 390 kiB."""
    path = tmp_path_factory.mktemp("data") / "large.hdf5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as written:
        for part, n in (("train", N_TRAIN), ("test", N_TEST)):
            labels = rng.integers(0, 10, n)
            images = np.zeros((n, N_X), np.uint8)
            images[:, :40] = rng.integers(0, 256, (n, 40))
            images[np.arange(n), labels] = 255
            written.create_dataset(
                f"x_{part}", data=images, chunks=(500, N_X), compression="gzip", compression_opts=1
            )
            written.create_dataset(f"y_{part}", data=labels.astype(np.uint8))
    return path


def on_disk(x) -> bool:
    """Only a mapped file cannot be written to."""
    return not x.flags.writeable


def test_pieces_on_the_disk_are_the_array(folder):
    pieces = [np.arange(5, dtype=np.float32), np.arange(7, 0, -1, dtype=np.float32)]
    held, mapped = (assembled(pieces, 12, np.float32, on_disk=disk) for disk in (False, True))
    assert on_disk(mapped)
    assert not on_disk(held)
    np.testing.assert_array_equal(mapped, held)


def test_nothing_has_a_name_even_while_it_is_used(folder, file):
    dataset = load(str(file), memory=MEMORY)
    assert on_disk(dataset.x_train)
    assert on_disk(dataset.x_test)
    assert list(folder.iterdir()) == []
    assert list(file.parent.iterdir()) == [file]


def test_the_users_cache_unless_a_folder_is_named(tmp_path, monkeypatch, file):
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert on_disk(load(str(file), memory=MEMORY).x_train)
    assert list(tmp_path.iterdir()) == [tmp_path / "jaxnn"]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux says how a file is read")
def test_rows_in_no_order_are_read_without_those_around_them(folder):
    """madvise(MADV_RANDOM) leaves the flag rr on the mapping, which /proc lists by its folder."""

    def at_random():
        _, _, mapping = Path("/proc/self/smaps").read_text().partition(f"{folder}/")
        return "rr" in mapping[mapping.index("VmFlags:") :].splitlines()[0].split()

    images = assembled([np.zeros(8 * 9, np.uint8)], 8 * 9, np.uint8, on_disk=True).reshape(8, 9)
    assert not at_random()
    with read_at_random(images[2:].reshape(-1, 3, 3)):
        assert at_random()
    assert not at_random()
    with read_at_random(np.zeros(3)):
        assert not at_random()


def test_training_reads_at_random_and_evaluation_does_not(file, monkeypatch):
    told = []

    class Told(mmap.mmap):
        def madvise(self, *advice):
            told.extend(advice)

    monkeypatch.setattr(mmap, "mmap", Told)
    trained(load(str(file), memory=MEMORY), MEMORY)
    assert told == CONFIG.epochs * [mmap.MADV_RANDOM, mmap.MADV_NORMAL]


def test_without_a_limit_it_is_half_of_what_is_free(file, monkeypatch):
    held = load(str(file))
    images = held.x_train.nbytes + held.x_test.nbytes
    everything = images + held.y_train.nbytes + held.y_test.nbytes

    def with_free(size):
        for module in ("data.memory", "training.streaming"):
            monkeypatch.setattr(f"jaxnn.{module}.free_on_host", lambda: size)

    with_free(2 * images)
    assert not on_disk(load(str(file)).x_train)
    with_free(2 * images - 2)
    assert on_disk(load(str(file)).x_train)
    with_free(2 * everything)
    assert streaming_for(data_parallel.mesh(1), held, CONFIG, None) is None
    with_free(2 * everything - 2)
    assert streaming_for(data_parallel.mesh(1), held, CONFIG, None) is not None


@pytest.mark.parametrize(
    "write",
    [
        lambda p: write_idx(p / "set", arrays(), gz=True),
        lambda p: write_npz(p / "set.npz", arrays()),
        lambda p: write_hdf5(p / "set.hdf5", as_document(arrays()), compression="gzip"),
        lambda p: write_hdf5(p / "set.hdf5", {**arrays(), **fractions()}),
    ],
    ids=["idx", "npz", "multiples of 1/255", "float32"],
)
def test_every_form_has_the_same_contents(tmp_path, monkeypatch, write):
    path = str(write(tmp_path))
    held = load(path)
    monkeypatch.setattr("jaxnn.data.pixels.fits", lambda size, memory: False)
    mapped = load(path)
    assert on_disk(mapped.x_train)
    assert mapped.fingerprint() == held.fingerprint()


def fractions():
    return {n: (a / 300).astype(np.float32) for n, a in arrays().items() if n[0] == "x"}


def trained(dataset, memory, split_in=None):
    """The training set, and the end of the run."""
    training_set = with_validation(dataset, 0.2, seed=1, memory=split_in or memory)
    to = streaming_for(data_parallel.mesh(1), training_set, CONFIG, memory)
    *_, last = train_epochs(
        training_set, CONFIG, engine=streamed(training_set, CONFIG, to) if to else None
    )
    return training_set, last


def test_the_same_bits_as_with_everything_in_memory(file):
    """From the disk, streamed; from memory, in the same chunks; and all on the device at once."""
    mapped, held = load(str(file), memory=MEMORY), load(str(file))
    assert not on_disk(held.x_train)
    assert mapped.fingerprint() == held.fingerprint()

    streamed_set, streamed = trained(mapped, MEMORY)
    fed_set, from_memory = trained(held, MEMORY, split_in=1024)
    _, resident = trained(held, None)

    assert on_disk(streamed_set.x_train)
    assert on_disk(streamed_set.x_test)
    assert not on_disk(fed_set.x_train)
    assert streamed_set.fingerprint() == fed_set.fingerprint()
    assert same(streamed.state, from_memory.state)
    assert same(streamed.state, resident.state)
    assert without_seconds(streamed.history) == without_seconds(from_memory.history)
    assert without_seconds(streamed.history) == without_seconds(resident.history)


def same(one, other):
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


def without_seconds(history):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history]


def whole_job(file):
    """From the file to the figures, with a validation set, and what a run notes of its data."""
    dataset = load(str(file), memory=MEMORY)
    run_folder.describe(dataset, str(file))
    _, last = trained(dataset, MEMORY)
    results.report(dataset, results.test(dataset, CONFIG, last.eval_params))


def test_memory_is_bounded_by_the_limit_and_not_by_the_file(file):
    """The images are 24 MiB, and the split has 23 of them again. NumPy's arrays are traced, mapped
    files are not.

    The most is held when the frame is measured: the sums along the rows and the columns of 10,000
    images, and of those among them with ink, 4 · 10,000 · 28 doubles or 8.6 MiB. Below that remain
    a few chunks of the file of 0.4 MiB, the chunks of 1 MiB that are being shipped, and the labels,
    their shuffles and the epoch's order, some 40 bytes for each of 30,000 examples.
    """
    whole_job(file)  # what is imported and compiled once
    tracemalloc.start()
    try:
        whole_job(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * MEBIBYTE


def test_a_disk_without_room_is_said_before_anything_is_written(folder, file, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=3 * MEBIBYTE)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(StorageError) as caught:
        load(str(file), memory=MEMORY)
    assert str(caught.value) == (
        f"{folder}: expected room for 23 MiB of examples, which are more than may lie in memory, "
        "found 3 MiB; TMPDIR may name another folder"
    )
    assert list(folder.iterdir()) == []


def test_a_disk_that_fills_up_ends_the_command_in_one_line(
    folder, file, tmp_path, monkeypatch, capsys
):
    """The kernel itself refuses what is written beyond 4 MiB."""
    monkeypatch.chdir(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MEBIBYTE, before[1]))
    try:
        outcome = shell.here(
            monkeypatch, capsys, "train", "--data", file, "--device_memory", MEMORY
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert outcome.status == 2
    assert outcome.err == (
        f"error: {folder}: expected room for 23 MiB of examples, which are more than may lie in "
        f"memory, found {os.strerror(errno.EFBIG)}; TMPDIR may name another folder\n"
    )
    assert list(tmp_path.iterdir()) == [folder]
    assert list(folder.iterdir()) == []


def test_a_place_that_is_no_folder(tmp_path, monkeypatch, file):
    (tmp_path / "taken").touch()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "taken"))
    with pytest.raises(StorageError, match=r"taken: expected room .* found File exists;"):
        load(str(file), memory=MEMORY)


def test_what_is_held_in_memory_is_used_by_jax_as_it_lies():
    pieces = [np.arange(5, dtype=np.uint8), np.arange(7, dtype=np.uint8)]
    held = assembled(pieces, 12, np.uint8, on_disk=False)
    np.testing.assert_array_equal(held, [*range(5), *range(7)])
    assert jax.device_put(held).unsafe_buffer_pointer() == held.ctypes.data
