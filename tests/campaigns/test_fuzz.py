"""The campaign of mutated files: its honest files are read, and it would see a broken promise."""

import sys
import tracemalloc

import pytest

from jaxnn.data import hdf5
from jaxnn.errors import DataError

from .. import shell

fuzz = shell.script("fuzz")
fuzz_targets = sys.modules["fuzz_targets"]
Target, TARGETS = fuzz.Target, fuzz.TARGETS


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """Afterwards HDF5 files are read as ever, and memory is no longer counted."""
    monkeypatch.setattr(hdf5, "Library", hdf5.Library)
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("reader", TARGETS)
def test_every_reader_takes_its_honest_file_and_refuses_half_of_it(reader, tmp_path):
    if reader == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    target = TARGETS[reader]()
    judge = fuzz.Judge(target, tmp_path)
    assert not isinstance(judge.expected, Exception)
    assert judge(target.seeds[0]) == "same"
    assert judge(target.seeds[0][: len(target.seeds[0]) // 2]) in ("refused", "other", "no file")


def reader_that(action):
    """A target of one file whose reader does something for the input `bad`."""

    def read(folder):
        content = (folder / "file").read_bytes()
        if content.startswith(b"bad"):
            action(folder)
        return content.strip()

    return Target([b"good"], lambda folder, content: (folder / "file").write_bytes(content), read)


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (lambda folder: fail(KeyError("x")), KeyError),
        (lambda folder: fail(DataError("something is wrong")), AssertionError),
        (lambda folder: len(bytes(5_000_000)), AssertionError),
    ],
    ids=["another exception", "no file named", "memory"],
)
def test_a_broken_promise_is_seen(tmp_path, action, error):
    judge = fuzz.Judge(reader_that(action), tmp_path)
    assert judge(b"good ") == "same"
    assert judge(b"else") == "other"
    with pytest.raises(error):
        judge(b"bad")


def test_other_contents_behind_a_checksum_are_seen(tmp_path):
    target = reader_that(lambda folder: None)
    judge = fuzz.Judge(target._replace(checked=b"go"), tmp_path)
    assert judge(b"else") == "other"
    with pytest.raises(AssertionError, match="other contents"):
        judge(b"gone")
    judge = fuzz.Judge(target._replace(one_change_checked=True), tmp_path, one_change=True)
    with pytest.raises(AssertionError, match="other contents"):
        judge(b"goof")


def test_every_bit_and_every_length_is_tried(monkeypatch, capsys):
    monkeypatch.setitem(TARGETS, "csv", lambda: reader_that(lambda folder: None))
    outcome = shell.here(monkeypatch, capsys, "fuzz", "--exhaustive", "--reader", "csv")
    assert outcome.status == 0
    assert outcome.out == "csv          4 truncations (4 other); 32 flipped bits (32 other)\n"


def test_without_atheris_one_line_says_how_to_install_it(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    outcome = shell.here(monkeypatch, capsys, "fuzz", "--reader", "csv")
    assert outcome.status == 2
    assert outcome.err == "error: atheris is not installed: expected pip install -e '.[fuzz]'\n"
    assert list(tmp_path.iterdir()) == []
