"""The same data set from every form, and from real MNIST in both of its forms."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from jaxnn.data import DataError, load

from .. import data_files
from ..data_files import (
    N_CLASSES,
    N_TEST,
    N_TRAIN,
    H,
    W,
    arrays,
    as_document,
    with_images,
    write_csv,
    write_hdf5,
    write_idx,
    write_libsvm,
    write_matlab,
    write_matlab_73,
    write_npy,
    write_npz,
    write_parquet,
)

FORMS = {
    "idx": lambda p: write_idx(p / "set", arrays()),
    "idx gzipped": lambda p: write_idx(p / "set", arrays(), gz=True),
    "idx with dots": lambda p: write_idx(p / "set", arrays(), dots=True),
    "idx with dots, gzipped": lambda p: write_idx(p / "set", arrays(), gz=True, dots=True),
    "npz": lambda p: write_npz(p / "set.npz", arrays()),
    "npz compressed": lambda p: write_npz(p / "set.npz", arrays(), compressed=True),
    "npz of int64": lambda p: write_npz(
        p / "set.npz", {n: a.astype(np.int64) for n, a in arrays().items()}
    ),
    "npz big-endian": lambda p: write_npz(
        p / "set.npz", {n: a.astype(">i2") for n, a in arrays().items()}
    ),
    "npz of floats": lambda p: write_npz(
        p / "set.npz", with_images(lambda x: (x / 255).astype(np.float32)), compressed=True
    ),
    "folder with mnist.npz": lambda p: write_npz(p / "set" / "mnist.npz", arrays()).parent,
    "folder with MNISTdata.hdf5": lambda p: (
        write_hdf5(p / "set" / "MNISTdata.hdf5", arrays()).parent
    ),
    "hdf5 of bytes": lambda p: write_hdf5(p / "set.hdf5", arrays()),
    "hdf5 of float64": lambda p: write_hdf5(p / "set.hdf5", with_images(lambda x: x / 255)),
    "hdf5 of whole floats": lambda p: write_hdf5(
        p / "set.hdf5", with_images(lambda x: x.astype(np.float32))
    ),
    "hdf5 with a channel": lambda p: write_hdf5(
        p / "set.hdf5", with_images(lambda x: x[..., None])
    ),
    "hdf5 in slices of chunks": lambda p: write_hdf5(
        p / "set.hdf5", with_images(lambda x: x / 255), chunks=True
    ),
    "hdf5 with its signature only": lambda p: write_hdf5(p / "set", arrays()),
    "npy": lambda p: write_npy(p / "set", arrays()),
    "npy of columns": lambda p: write_npy(
        p / "set", {n: np.asfortranarray(a) for n, a in arrays().items()}
    ),
    "csv": lambda p: write_csv(p / "set", arrays()),
    "matlab-v5": lambda p: write_matlab(p / "set.mat", arrays()),
    "matlab-v7.3": lambda p: write_matlab_73(p / "set.mat", arrays()),
    "parquet": lambda p: write_parquet(p / "set", arrays()),
    "libsvm": lambda p: write_libsvm(p / "set", arrays()),
    "npz with its signature only": lambda p: write_npz(p / "set.npz", arrays()).rename(p / "set"),
}


#: Forms that have rows, in which a picture of 3×5 cannot be seen.
ROWS = ("csv", "libsvm")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_data_set(form, tmp_path):
    dataset = load(str(FORMS[form](tmp_path)))
    a = arrays()
    for part, n in (("train", N_TRAIN), ("test", N_TEST)):
        x, y = getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")
        assert (x.dtype, y.dtype) == (np.uint8, np.int32)
        np.testing.assert_array_equal(x, a[f"x_{part}"].reshape(n, H * W))
        np.testing.assert_array_equal(y, a[f"y_{part}"])
    assert (dataset.n_train, dataset.n_test, dataset.n_x) == (N_TRAIN, N_TEST, H * W)
    assert dataset.n_classes == N_CLASSES
    assert dataset.image_shape == (None if form.split()[0] in ROWS else (H, W))
    assert (dataset.name, dataset.scale) == ("set", 1 / 255)


CHUNKS = [
    {"compression": "gzip"},
    {"compression": "gzip", "shuffle": True},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"fletcher32": True},
    {"shuffle": True},
    {},
]


@pytest.mark.parametrize("rows", [1, 5, 7, 12])
@pytest.mark.parametrize("options", CHUNKS, ids=lambda options: " ".join(options))
def test_hdf5_chunks_and_filters(options, rows, tmp_path):
    """Chunks that divide the rows or do not, and that cut the columns."""
    expected = load(str(write_idx(tmp_path / "idx", arrays()))).fingerprint()
    path = tmp_path / "set.hdf5"
    with h5py.File(path, "w") as file:
        for name, array in as_document(arrays()).items():
            chunk = (min(rows, len(array)), min(4, array.shape[1]))
            file.create_dataset(name, data=array, chunks=chunk, **options)
    assert load(str(path)).fingerprint() == expected


def test_hdf5_chunks_that_were_stored_without_their_filter(tmp_path):
    """As HDF5 does where a filter would have made a chunk no smaller."""
    path = write_hdf5(tmp_path / "set.hdf5", arrays(), compression="gzip")
    expected = load(str(path)).fingerprint()
    with h5py.File(path, "r+") as file:
        for dataset in file.values():
            chunk = np.zeros(dataset.chunks, np.uint8)
            chunk[tuple(map(slice, dataset.shape))] = dataset[:]
            dataset.id.write_direct_chunk((0,) * dataset.ndim, chunk.tobytes(), filter_mask=1)
    assert load(str(path)).fingerprint() == expected


@pytest.mark.parametrize("libver", ["earliest", "v110", "latest"])
def test_hdf5_of_every_generation(libver, tmp_path):
    path = tmp_path / "set.hdf5"
    with h5py.File(path, "w", libver=libver) as file:
        for name, array in as_document(arrays()).items():
            file.create_dataset(name, data=array, chunks=(4, array.shape[1]), compression="gzip")
    expected = load(str(write_idx(tmp_path / "idx", arrays()))).fingerprint()
    assert load(str(path)).fingerprint() == expected


def test_the_documents_schema_has_square_images_where_the_rows_allow(tmp_path):
    square = {n: a[:, :, :3] if a.ndim == 3 else a for n, a in arrays().items()}
    assert load(str(write_hdf5(tmp_path / "a.h5", as_document(square)))).image_shape == (3, 3)
    assert load(str(write_hdf5(tmp_path / "b.h5", as_document(arrays())))).image_shape is None


@pytest.mark.parametrize("form", ["hdf5", "npz"])
def test_fractions_stay_floats(form, tmp_path):
    """Not multiples of 1/255: float32 in [0, 1], whose largest possible value is 1."""
    a = with_images(lambda x: (x / 255) ** 2)
    writer = {"hdf5": write_hdf5, "npz": write_npz}[form]
    dataset = load(str(writer(tmp_path / f"set.{form}", a)))
    assert (dataset.x_train.dtype, dataset.x_test.dtype, dataset.scale) == ("f4", "f4", 1.0)
    np.testing.assert_array_equal(
        dataset.x_train, a["x_train"].reshape(N_TRAIN, -1).astype(np.float32)
    )


def test_both_sets_have_one_notation(tmp_path):
    """A single fraction, in the test set, decides for the training set too."""
    a = with_images(lambda x: x / 255)
    a["x_test"][0, 0, 0] = 0.5001
    dataset = load(str(write_hdf5(tmp_path / "set.hdf5", a)))
    assert (dataset.x_train.dtype, dataset.scale) == (np.float32, 1.0)


def test_whole_floats_that_begin_with_zeros_and_ones(tmp_path):
    """Their first rows look like multiples of 1/255; a later one says what they are."""
    a = with_images(lambda x: x.astype(np.float64))
    a["x_train"][:-1] %= 2
    dataset = load(str(write_npz(tmp_path / "set.npz", a)))
    np.testing.assert_array_equal(dataset.x_train, a["x_train"].reshape(N_TRAIN, -1))
    assert dataset.scale == 1 / 255


@pytest.mark.parametrize(
    ("distance", "dtype"), [(0, np.uint8), (9e-7, np.uint8), (3e-6, np.float32)]
)
def test_the_tolerance_for_multiples(distance, dtype, tmp_path):
    a = with_images(lambda x: np.minimum(x / 255 + distance * (x < 255), 1))
    assert load(str(write_npz(tmp_path / "set.npz", a))).x_train.dtype == dtype


def test_labels_may_be_whole_floats_from_any_start(tmp_path):
    """The classes are those that occur, and have their labels as names."""
    a = arrays()
    a |= {n: a[n].astype(np.float32) + 1 for n in ("y_train", "y_test")}
    dataset = load(str(write_npz(tmp_path / "set.npz", a)))
    assert (dataset.n_classes, dataset.class_names) == (N_CLASSES, ("1", "2", "3"))
    np.testing.assert_array_equal(dataset.y_train, arrays()["y_train"])
    assert dataset.y_train.dtype == np.int32


def test_a_folder_prefers_four_idx_files_then_any_one_file(tmp_path):
    write_idx(tmp_path, arrays(seed=1))
    write_hdf5(tmp_path / "MNISTdata.hdf5", arrays(seed=2))
    write_npz(tmp_path / "mnist.npz", arrays(seed=3))
    expected = [load(str(write_idx(tmp_path / f"{s}", arrays(seed=s)))) for s in (1, 2, 3)]
    found = [load(str(tmp_path))]
    (tmp_path / data_files.IDX_NAMES["y_test"]).unlink()
    found.append(load(str(tmp_path)))
    (tmp_path / "MNISTdata.hdf5").unlink()
    found.append(load(str(tmp_path)))
    assert [d.fingerprint() for d in found] == [d.fingerprint() for d in expected]


def test_the_fingerprint_is_of_the_contents(tmp_path):
    """Not of the name or place; of every array, shape and scale."""
    a = arrays()
    first = load(str(write_npz(tmp_path / "a.npz", a))).fingerprint()
    assert load(str(write_hdf5(tmp_path / "b.h5", a))).fingerprint() == first
    others = []
    for name, array in a.items():
        changed = a | {name: array.copy()}
        changed[name].flat[-1] ^= 1
        others.append(load(str(write_npz(tmp_path / f"{name}.npz", changed))).fingerprint())
    assert len({first, *others}) == 5
    dataset = load(str(tmp_path / "a.npz"))
    for change in (
        {"scale": 1.0},
        {"n_classes": 4},
        {"class_names": ("a", "b", "c")},
        {"x_train": dataset.x_train.reshape(-1, 5)},
        {"y_train": dataset.y_train.view(np.uint32)},
    ):
        assert replace(dataset, **change).fingerprint() != first


def test_importing_the_data_package_is_cheap():
    """It imports neither jax nor what only some data sets need."""
    program = "import jaxnn.data, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "numpy" in loaded
    assert not {"jax", "h5py", "sklearn", "rich", "urllib.request"} & set(loaded)


def test_mnist_from_hdf5_and_from_idx_is_the_same_bit_for_bit(mnist_dir):
    idx, hdf5 = load(str(mnist_dir)), load(str(mnist_dir / "MNISTdata.hdf5"))
    for name in ("x_train", "y_train", "x_test", "y_test"):
        a, b = getattr(idx, name), getattr(hdf5, name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
    assert idx.fingerprint() == hdf5.fingerprint()
    assert (idx.scale, idx.image_shape, idx.n_classes) == (
        hdf5.scale,
        hdf5.image_shape,
        hdf5.n_classes,
    )
    assert (idx.n_train, idx.n_test, idx.n_x) == (60_000, 10_000, 784)


def test_mnist_by_name_is_the_genuine_one(mnist_dir):
    """No notice: the contents have the SHA-256 that is known of MNIST."""
    notices: list[str] = []
    dataset = load("mnist", notify=notices.append)
    assert (dataset.name, notices) == ("mnist", [])
    assert Path(dataset.source) == mnist_dir


def test_what_is_no_data_is_told_by_its_content(tmp_path):
    path = tmp_path / "set.hdf5"
    for content, found in ((b"", "an empty file"), (b"<!doctype html>", "a web page")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=found):
            load(str(path))
