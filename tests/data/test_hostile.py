"""Damaged bytes: the right data or one line that names the file, for every byte of a small file."""

import gzip
import json
import subprocess
import sys
import tracemalloc
import zipfile
import zlib

import h5py
import numpy as np
import pytest

from jaxnn.data import DataError, hdf5, load

from ..data_files import (
    IDX_NAMES,
    arrays,
    as_document,
    flips,
    idx_bytes,
    outcomes,
    truncations,
    write_hdf5,
    write_idx,
    write_npz,
)


@pytest.fixture(scope="module")
def library():
    return hdf5.Library()


@pytest.fixture
def one_process(monkeypatch, library):
    """The HDF5 library in one process for all files: to start it for each would take an hour."""
    monkeypatch.setattr(hdf5, "Library", lambda: library)


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("name", IDX_NAMES)
def test_truncated_idx(name, gz, tmp_path):
    write_idx(tmp_path, arrays(), gz=gz)
    (damaged,) = tmp_path.glob(f"{IDX_NAMES[name]}*")
    assert set(outcomes(tmp_path, damaged, truncations(damaged.read_bytes()))) == {"refused"}


@pytest.mark.parametrize("mask", [0xFF, 0x01, 0x80])
@pytest.mark.parametrize("name", IDX_NAMES)
def test_flipped_bytes_in_gzipped_idx(name, mask, tmp_path):
    """The CRC-32 tells, except in gzip's time stamp, its like, and the last byte's padding."""
    write_idx(tmp_path, arrays(), gz=True)
    right = load(str(tmp_path)).fingerprint()
    (damaged,) = tmp_path.glob(f"{IDX_NAMES[name]}*")
    found = outcomes(tmp_path, damaged, flips(damaged.read_bytes(), mask))
    assert set(found) == {"refused", right}
    assert found.count(right) <= 8


@pytest.mark.parametrize("name", IDX_NAMES)
def test_flipped_bytes_in_plain_idx(name, tmp_path):
    """All of the header counts. Plain IDX has no checksum: another pixel is another data set."""
    header = 16 if name.startswith("x") else 8
    write_idx(tmp_path, arrays())
    damaged = tmp_path / IDX_NAMES[name]
    found = outcomes(tmp_path, damaged, flips(damaged.read_bytes()))
    assert set(found[:header]) == {"refused"}


@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_npz(compressed, tmp_path):
    path = write_npz(tmp_path / "set.npz", arrays(), compressed)
    assert set(outcomes(path, path, truncations(path.read_bytes()))) == {"refused"}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("mask", [0xFF, 0x01])
def test_flipped_bytes_in_npz(mask, compressed, tmp_path):
    """The zip file's CRC-32 covers every array; the rest is dates and the like."""
    path = write_npz(tmp_path / "set.npz", arrays(), compressed)
    right = load(str(path)).fingerprint()
    assert set(outcomes(path, path, flips(path.read_bytes(), mask))) == {"refused", right}


HDF5 = {
    "compressed": {"chunks": (4, 5), "compression": "gzip"},
    "all filters": {"chunks": (4, 5), "compression": "gzip", "shuffle": True, "fletcher32": True},
}


def write_checked(path, options):
    """Labels in rows of the same width as the images, so that one set of options fits both."""
    columns = {"chunks": (4, 1)}
    a = as_document(arrays())
    write_hdf5(path, {n: x for n, x in a.items() if n.startswith("x")}, **options)
    extra = write_hdf5(
        path.with_suffix(".y"),
        {n: y for n, y in a.items() if n.startswith("y")},
        **options | columns,
    )
    with h5py.File(path, "r+") as file, h5py.File(extra) as labels:
        for name in labels:
            labels.copy(name, file)
    return path


@pytest.fixture
def small_hdf5(tmp_path):
    """In the newest format, which needs a quarter of the bytes."""
    path = tmp_path / "set.hdf5"
    with h5py.File(path, "w", libver="latest") as file:
        for name, array in as_document(arrays()).items():
            file.create_dataset(name, data=array, chunks=array.shape, compression="gzip")
    return path


def test_flipped_bytes_of_a_small_hdf5(small_hdf5, one_process):
    """Where every chunk is compressed, no flipped byte goes unseen or changes a pixel."""
    right = load(str(small_hdf5)).fingerprint()
    found = outcomes(small_hdf5, small_hdf5, flips(small_hdf5.read_bytes(), step=13))
    assert len(found) > 150
    assert set(found) == {"refused", right}


def test_truncations_of_a_small_hdf5(small_hdf5, one_process):
    found = outcomes(small_hdf5, small_hdf5, truncations(small_hdf5.read_bytes(), step=17))
    assert set(found) == {"refused"}


@pytest.mark.slow
@pytest.mark.parametrize("options", HDF5)
def test_flipped_bytes_in_hdf5(options, tmp_path, one_process):
    """The same in the format that is usual, whose files are large. (All bits take minutes:
    `python scripts/campaigns/fuzz.py --exhaustive`; the stride visits every part of the file.)"""
    path = write_checked(tmp_path / "set.hdf5", HDF5[options])
    right = load(str(path)).fingerprint()
    found = outcomes(path, path, flips(path.read_bytes(), step=111))
    assert set(found) == {"refused", right}


@pytest.mark.slow
def test_truncated_hdf5(tmp_path, one_process):
    path = write_checked(tmp_path / "set.hdf5", HDF5["compressed"])
    assert set(outcomes(path, path, truncations(path.read_bytes(), step=53))) == {"refused"}


def test_hdf5_metadata_in_a_child(tmp_path):
    """A few damaged files by the way that users' files take."""
    path = write_hdf5(tmp_path / "set.hdf5", as_document(arrays()), chunks=True, compression="gzip")
    content = path.read_bytes()
    found = outcomes(path, path, flips(content, step=len(content) // 5))
    assert len(found) >= 5


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_the_hdf5_library_is_limited_in_memory():
    program = (
        "import resource as r, sys; from jaxnn.data import hdf5_reader as h; h._limit_memory();"
        "print([r.getrlimit(kind)[0] for kind in (r.RLIMIT_AS, r.RLIMIT_CORE)], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(done.stderr) == [4 << 30, 0]


BOMB = gzip.compress(bytes(50_000_000), mtime=0)


def peak_memory(action) -> int:
    """The most that `action` held at once, in bytes."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refuse(path, words):
    with pytest.raises(DataError, match=words):
        load(str(path))


def test_a_gzip_bomb_in_place_of_images(tmp_path):
    """50 MB of zeros behind an honest header of 196 bytes, and behind one that promises 2 GB."""
    write_idx(tmp_path, arrays(), gz=True)
    honest = idx_bytes(arrays()["x_train"])
    (tmp_path / f"{IDX_NAMES['x_train']}.gz").write_bytes(gzip.compress(honest + bytes(50_000_000)))
    assert peak_memory(lambda: refuse(tmp_path, "180 pixels expected, found")) < 2_000_000
    boast = honest[:4] + (12).to_bytes(4) + (50_000).to_bytes(4) + (3_500).to_bytes(4)
    (tmp_path / f"{IDX_NAMES['x_train']}.gz").write_bytes(gzip.compress(boast + bytes(999)))
    assert peak_memory(lambda: refuse(tmp_path, "promises 2,100,000,016 bytes")) < 2_000_000


def test_a_zip_bomb(tmp_path):
    path = write_npz(tmp_path / "set.npz", arrays())
    with (
        zipfile.ZipFile(path) as whole,
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name) + bytes(50_000_000) * (name == "x_test.npy"))
    refuse_bomb = lambda: refuse(tmp_path / "bomb.npz", "x_test: 105 bytes expected")  # noqa: E731
    assert peak_memory(refuse_bomb) < 2_000_000


def test_a_zip_directory_that_agrees_with_an_absurd_header(tmp_path):
    path = write_npz(tmp_path / "set.npz", arrays())
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (12, 500000000), }"
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "boast.npz", "w") as boast:
        for name in whole.namelist():
            boast.writestr(name, start if name == "x_train.npy" else whole.read(name))
        boast.getinfo("x_train.npy").file_size = len(start) + 12 * 500_000_000
    refuse(tmp_path / "boast.npz", "x_train: its header promises 6,000,000,")


def test_an_hdf5_chunk_that_cannot_hold_what_it_promises(tmp_path):
    path = write_hdf5(tmp_path / "set.hdf5", {n: a for n, a in arrays().items() if n == "y_train"})
    with h5py.File(path, "r+") as file:
        shape = (12, 50_000_000)
        x = file.create_dataset("x_train", shape, np.uint8, chunks=shape, compression="gzip")
        x.id.write_direct_chunk((0, 0), zlib.compress(bytes(999)))
    refuse(path, "x_train: its header promises 600,000,000 bytes")


def test_a_fletcher32_checksum_is_verified(tmp_path):
    path = write_hdf5(tmp_path / "set.hdf5", arrays(), fletcher32=True)
    content = path.read_bytes()
    at = content.index(arrays()["x_train"].tobytes())
    path.write_bytes(content[:at] + b"\x01" + content[at + 1 :])
    refuse(path, "x_train: .*read data")


def test_an_hdf5_bomb(tmp_path):
    """A chunk that decompresses to more than its shape can hold."""
    with h5py.File(tmp_path / "set.hdf5", "w") as file:
        for name, array in as_document(arrays()).items():
            dataset = file.create_dataset(name, data=array, chunks=array.shape, compression="gzip")
            content = zlib.compress(bytes(50_000_000))
            dataset.id.write_direct_chunk((0, 0), content)
    path = tmp_path / "set.hdf5"
    assert peak_memory(lambda: refuse(path, "bytes in a chunk expected, found others")) < 2_000_000
