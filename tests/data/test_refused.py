"""What is refused: the message names the file, the field, what was expected and what was found."""

import io
import sys
import zipfile
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from jaxnn.data import DataError, hdf5, load
from jaxnn.data.field import NAMES, Field
from jaxnn.data.labels import read_labels
from jaxnn.data.pixels import read_images
from jaxnn.data.validate import check_headers

from ..data_files import (
    IDX_NAMES,
    arrays,
    as_document,
    idx_bytes,
    with_images,
    write_hdf5,
    write_idx,
    write_npz,
)


def refusal(path: Path) -> str:
    """The message that loading `path` is refused with: one line that names the path."""
    with pytest.raises(DataError) as caught:
        load(str(path))
    message = str(caught.value)
    assert str(path) in message
    assert message.isprintable()
    return message


def changed(**changes) -> dict[str, np.ndarray]:
    """`arrays()` in the widest integers, with some of them put through a function."""
    a = {name: array.astype(np.int64) for name, array in arrays().items()}
    return a | {name: change(a[name]) for name, change in changes.items()}


def poke(value: float):
    """A function that puts `value` into the last place of an array that can hold it."""

    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.result_type(array, np.asarray(value)))
        array.flat[-1] = value
        return array

    return change


CONTENTS = {
    "labels lack one": (changed(y_train=lambda y: y[1:]), ["y_train", "12 labels", "found 11"]),
    "no rows": (
        changed(x_test=lambda x: x[:0], y_test=lambda y: y[:0]),
        ["x_test", "1 and", "(0, 3, 5)"],
    ),
    "no pixels": (
        changed(x_train=lambda x: x[:, :0], x_test=lambda x: x[:, :0]),
        ["x_train", "(12, 0, 5)"],
    ),
    "other images in the test set": (
        changed(x_test=lambda x: x[:, :, 1:]),
        ["x_test", "(3, 5) expected", "found (3, 4)"],
    ),
    "five channels": (
        with_images(lambda x: np.stack([x] * 5, axis=-1)),
        ["x_train", "or in colour (N, h, w, 3) expected", "(12, 3, 5, 5)"],
    ),
    "a bare row": (changed(x_train=np.ravel), ["x_train", "(N, n_x)", "(180,)"]),
    "probabilities": (
        changed(y_train=lambda y: np.eye(3)[y] * 0.8 + 0.1),
        ["y_train", "one label per row", "(12, 3)", "argmax"],
    ),
    "a negative label": (changed(y_test=poke(-1)), ["y_test", "0, 1, 2", "found -1"]),
    "a fractional label": (changed(y_train=poke(0.5)), ["y_train", "whole numbers", "found 0.5"]),
    "a label that is not a number": (changed(y_train=poke(np.nan)), ["y_train", "found nan"]),
    "a number to be predicted": (
        changed(y_train=lambda y: np.arange(len(y))),
        ["y_train", "12 different labels in 12 examples", "number to be predicted"],
    ),
    "a test label that training lacks": (
        changed(y_test=poke(3)),
        ["y_test", "as in the training part expected (0, 1, 2)", "found 3"],
    ),
    "one class": (changed(y_train=np.zeros_like), ["y_train", "two classes", "every label is 0"]),
    "a negative pixel": (changed(x_test=poke(-1)), ["x_test", "from 0", "from -1 to 255"]),
    "standardised pixels": (
        with_images(lambda x: (x - 33.0) / 78),
        ["x_train", "from 0", "standardised images can be given as they were"],
    ),
    "a stray pixel": (
        changed(x_train=poke(60_000)),
        ["x_test", "reaches 60000", "up to 255", "one scale"],
    ),
    "a pixel above every white": (
        changed(x_train=poke(70_000)),
        ["x_train", "65,535", "0 to 70000"],
    ),
    "a pixel that is not a number": (
        with_images(lambda x: poke(np.nan)(x / 255)),
        ["x_train", "from nan to nan"],
    ),
    "an infinite pixel": (
        with_images(lambda x: poke(np.inf)(x / 255)),
        ["x_train", "from 0 to inf"],
    ),
    "a blank training set": (with_images(np.zeros_like), ["x_train", "every pixel is 0"]),
    "a blank test set": (changed(x_test=np.zeros_like), ["x_test", "every pixel is 0"]),
    "integers and floats": (
        changed(x_test=lambda x: x / 255),
        ["x_test", "int64 or its like expected", "found float64"],
    ),
    "complex numbers": (
        with_images(lambda x: x.astype(np.complex64)),
        ["x_train", "integers or floats expected", "found complex64"],
    ),
    "text": (with_images(lambda x: x.astype("S3")), ["x_train", "found |S3"]),
}


@pytest.mark.parametrize("write", [write_npz, write_hdf5], ids=["npz", "hdf5"])
@pytest.mark.parametrize("case", CONTENTS)
def test_contents(case, write, tmp_path):
    a, words = CONTENTS[case]
    path = tmp_path / {write_npz: "set.npz", write_hdf5: "set.hdf5"}[write]
    message = refusal(write(path, a))
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("missing", NAMES)
def test_a_missing_array(missing, tmp_path):
    a = {name: array for name, array in arrays().items() if name != missing}
    for path in (write_npz(tmp_path / "set.npz", a), write_hdf5(tmp_path / "set.hdf5", a)):
        assert f"missing: {missing}; found: " in refusal(path)
    message = refusal(write_idx(tmp_path / "idx", a))
    assert f"missing: {IDX_NAMES[missing]}" in message


def test_a_place_without_data(tmp_path):
    assert "no such file or folder; the names are 'auto'" in refusal(tmp_path / "nothing")
    assert "IDX, HDF5, npz" in refusal(tmp_path)


def test_one_idx_file_alone(tmp_path):
    for gz in (False, True):
        folder = write_idx(tmp_path / f"{gz}", arrays(), gz=gz)
        message = refusal(next(folder.glob("train-images*")))
        assert "one IDX file of four; give the folder" in message


def test_a_message_stays_on_one_line(tmp_path):
    with pytest.raises(DataError) as caught:
        load(str(tmp_path / "a\nb\x1b[31m\0"))
    assert "a\\nb\\x1b[31m\\x00: no such file" in str(caught.value)


def field(*pieces: int, shape: tuple[int, ...] = (2, 2)) -> Field:
    """An array of uint8 that comes in pieces of these sizes, whatever its shape says."""
    return Field("f", shape, np.dtype(np.uint8), lambda: (np.arange(n) % 256 for n in pieces))


def test_a_file_that_changes_while_it_is_read():
    """Nobody's memory becomes a pixel or a label, and nobody's is overwritten."""
    for pieces, found in (((3,), "3"), ((2, 3), "5"), ((), "0")):
        with pytest.raises(DataError, match=f"f: 4 pixels expected, found {found}"):
            read_images(field(*pieces), field(4))
        with pytest.raises(DataError, match=f"f: 4 labels expected, found {found}"):
            read_labels(field(*pieces, shape=(4,)))


def test_arrays_have_a_largest_size():

    def headers(n, n_x):
        return {name: field(shape=(n, n_x if name[0] == "x" else 1)) for name in NAMES}

    check_headers(**headers(1 << 31, 1 << 9))
    with pytest.raises(DataError, match="1 and 1,099,511,627,776 pixels expected"):
        check_headers(**headers(1 << 31, 1 + (1 << 9)))
    with pytest.raises(DataError, match="at most 2,147,483,648 images expected"):
        check_headers(**headers(1 + (1 << 31), 1))


IDX_HEADERS = {
    "labels in place of images": (idx_bytes(arrays()["y_train"]), "found (12,)"),
    "an unknown type": (
        b"\0\0\x0a\x03" + idx_bytes(arrays()["x_train"])[4:],
        "missing: train-images-idx3-ubyte",
    ),
    "a short header": (idx_bytes(arrays()["x_train"])[:15], "16 bytes expected, found 15"),
    "absurd sizes": (b"\0\0\x08\x03" + b"\xff" * 12, "79,228,162,458,924,105,385,300,197,391"),
    "one byte too few": (idx_bytes(arrays()["x_train"])[:-1], "196 bytes expected"),
    "one byte too many": (idx_bytes(arrays()["x_train"]) + b"\0", "196 bytes expected"),
}


@pytest.mark.parametrize("case", IDX_HEADERS)
def test_idx_headers(case, tmp_path):
    content, words = IDX_HEADERS[case]
    write_idx(tmp_path, arrays())
    (tmp_path / IDX_NAMES["x_train"]).write_bytes(content)
    assert words in refusal(tmp_path)


def npy(header: bytes, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


def npy_header(descr: str, order: str, shape: str) -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()


NPY = {
    "objects": (npy(npy_header("'|O'", "False", "(12,)"), b"cos\nsystem\n"), "never unpickled"),
    "a structure": (
        npy(npy_header("[('a', '<i4')]", "False", "(12,)")),
        "a plain array of numbers",
    ),
    "columns first": (npy(npy_header("'|u1'", "True", "(12, 1)"), bytes(12)), "C order expected"),
    "absurd sizes": (
        npy(npy_header("'|u1'", "False", "(99999999999999999999, 9)")),
        "899,999,999,999,999,999,991 bytes expected",
    ),
    "a program": (npy(b"__import__('os').abort()\n"), "no plain array"),
    "a header of a megabyte": (npy(b"\xff" * 60000), "no plain array"),
    "an unknown version": (b"\x93NUMPY\x09\x00" + bytes(99), "no plain array"),
    "an unknown dtype": (npy(npy_header("'<q9'", "False", "(12,)")), "no plain array"),
    "another file": (b"nothing", "no plain array"),
    "one byte too few": (npy(npy_header("'|u1'", "False", "(12,)"), bytes(11)), "bytes expected"),
    "one byte too many": (npy(npy_header("'|u1'", "False", "(12,)"), bytes(13)), "bytes expected"),
}


@pytest.mark.parametrize("case", NPY)
def test_npy_headers(case, tmp_path):
    """An array is refused for its header, before memory is taken and without evaluating it."""
    content, words = NPY[case]
    path = write_npz(tmp_path / "whole.npz", arrays())
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "set.npz", "w") as damaged:
        for name in NAMES:
            old = whole.read(f"{name}.npy")
            damaged.writestr(f"{name}.npy", content if name == "y_train" else old)
    message = refusal(tmp_path / "set.npz")
    assert "y_train" in message
    assert words in message


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_compressed_otherwise(method, tmp_path):
    with zipfile.ZipFile(tmp_path / "set.npz", "w", method) as archive:
        for name, array in arrays().items():
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(f"{name}.npy", content.getvalue())
    assert "deflate expected" in refusal(tmp_path / "set.npz")


def external_link(file: h5py.File, outside: Path) -> None:
    file["x_train"] = h5py.ExternalLink(outside, "x_train")


def soft_link(file: h5py.File, outside: Path) -> None:
    file["elsewhere"] = as_document(arrays())["x_train"]
    file["x_train"] = h5py.SoftLink("/elsewhere")


def virtual(file: h5py.File, outside: Path) -> None:
    layout = h5py.VirtualLayout((12, 15), np.float32)
    layout[:] = h5py.VirtualSource(outside, "x_train", (12, 15))
    file.create_virtual_dataset("x_train", layout)


def external_storage(file: h5py.File, outside: Path) -> None:
    file.create_dataset(
        "x_train", (12, 15), np.float32, external=[(str(outside), 0, h5py.h5f.UNLIMITED)]
    )


def rows_of_any_length(file: h5py.File, outside: Path) -> None:
    file.create_dataset("x_train", (12,), h5py.vlen_dtype(np.uint8))


def compound(file: h5py.File, outside: Path) -> None:
    file["x_train"] = np.zeros(12, [("pixel", np.uint8)])


def enumeration(file: h5py.File, outside: Path) -> None:
    file.create_dataset("x_train", (12, 15), h5py.enum_dtype({"on": 1}))


def group(file: h5py.File, outside: Path) -> None:
    file.create_group("x_train")


def scalar(file: h5py.File, outside: Path) -> None:
    file["x_train"] = 1.0


def nothing(file: h5py.File, outside: Path) -> None:
    file["x_train"] = h5py.Empty("f")


def unwritten(file: h5py.File, outside: Path) -> None:
    file.create_dataset("x_train", (12, 15), np.uint8)


def half_written(file: h5py.File, outside: Path) -> None:
    file.create_dataset("x_train", (12, 15), np.uint8, chunks=(4, 15))[:8] = 1


def enormous(file: h5py.File, outside: Path) -> None:
    file.create_dataset("x_train", (2**50, 15), np.uint8, chunks=(2**12, 15))


HDF5 = {
    external_link: "ExternalLink",
    soft_link: "SoftLink",
    virtual: "another file, which is not followed",
    external_storage: "another file, which is not followed",
    rows_of_any_length: "plain integers or floats expected, found object",
    compound: "plain integers or floats expected",
    enumeration: "plain integers or floats expected",
    group: "missing: x_train",
    scalar: "found ()",
    nothing: "found an empty dataspace",
    unwritten: "contents for (12, 15) expected, found none",
    half_written: "3 chunks of (4, 15) expected for (12, 15), found 2",
    enormous: "274,877,906,944 chunks",
}


@pytest.mark.parametrize("kind", HDF5, ids=lambda kind: kind.__name__)
def test_hdf5_that_is_no_plain_array(kind, tmp_path):
    a = as_document(arrays())
    outside = write_hdf5(tmp_path / "outside.hdf5", a)
    path = write_hdf5(tmp_path / "set.hdf5", {n: x for n, x in a.items() if n != "x_train"})
    with h5py.File(path, "r+") as file:
        kind(file, outside)
    message = refusal(path)
    assert "x_train" in message
    assert HDF5[kind] in message


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import os; os.abort()", "crashes on this file (signal 6)"),
        ("raise SystemExit('out of order')", "reader failed: out of order"),
        ("print('{')", "set.hdf5: "),
        ("print('[1]')", "set.hdf5: "),
        ("print('{}')", "missing: x_train"),
        ("print('{\"x_train\": 3}')", "set.hdf5: "),
        (
            "import faulthandler; faulthandler.dump_traceback_later(0.1, exit=True)\n"
            "while True: pass",
            "hangs on this file",
        ),
    ],
)
def test_the_hdf5_library_may_crash_or_hang(program, words, tmp_path, monkeypatch):
    path = write_hdf5(tmp_path / "set.hdf5", arrays())
    library = partial(hdf5.Library, (sys.executable, "-c", program))
    monkeypatch.setattr(hdf5, "Library", library)
    assert words in refusal(path)


def test_the_hdf5_library_may_end_while_it_reads(tmp_path, monkeypatch):
    """What it has written until then is no data."""
    path = write_hdf5(tmp_path / "set.hdf5", arrays())
    program = (
        "import sys; from jaxnn.data import hdf5_reader as r; whole = r.contents\n"
        "def contents(array): yield next(whole(array))[:-1]; raise SystemExit('no more')\n"
        "r.contents = contents; r.serve(sys.stdin.buffer, sys.stdout.buffer)"
    )
    library = partial(hdf5.Library, (sys.executable, "-c", program))
    monkeypatch.setattr(hdf5, "Library", library)
    assert "y_train: the HDF5 reader failed: no more" in refusal(path)
