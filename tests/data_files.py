"""Small data sets in every form that `jaxnn.data` reads, whole and damaged."""

import gzip
import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import dump_svmlight_file

from jaxnn.data import DataError, load

N_TRAIN, N_TEST, H, W, N_CLASSES = 12, 7, 3, 5, 3

Arrays = dict[str, np.ndarray]

IDX_NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def arrays(seed: int = 0) -> Arrays:
    """Images (n, H, W) that use the whole range of bytes, and labels of every class."""
    rng = np.random.default_rng(seed)
    x_train, x_test = (rng.integers(0, 256, (n, H, W), np.uint8) for n in (N_TRAIN, N_TEST))
    x_train[0, 0, :2] = x_test[0, 0, :2] = 0, 255
    y_train, y_test = (np.arange(n, dtype=np.uint8) % N_CLASSES for n in (N_TRAIN, N_TEST))
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def with_images(change: Callable[[np.ndarray], np.ndarray]) -> Arrays:
    """`arrays()` with both sets of images changed alike."""
    return {n: change(a) if n.startswith("x") else a for n, a in arrays().items()}


def as_document(a: Arrays) -> Arrays:
    """The document's schema: floats in [0, 1], rows of pixels, labels in a column."""
    return {
        name: (array.reshape(len(array), -1) / 255).astype(np.float32)
        if name.startswith("x")
        else array.astype(np.int32)[:, None]
        for name, array in a.items()
    }


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, a: Arrays, gz: bool = False, dots: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in a.items():
        file = IDX_NAMES[name].replace("-idx", ".idx") if dots else IDX_NAMES[name]
        content = idx_bytes(array)
        path = folder / (f"{file}.gz" if gz else file)
        path.write_bytes(gzip.compress(content, mtime=0) if gz else content)
    return folder


def write_npz(path: Path, a: Arrays, compressed: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(path, **a)
    return path


def write_hdf5(path: Path, a: Arrays, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in a.items():
            file.create_dataset(name, data=array, **options)
    return path


def write_npy(folder: Path, a: Arrays) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in a.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def write_csv(folder: Path, a: Arrays) -> Path:
    """A file for each part, the label first."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        x = a[f"x_{part}"].reshape(len(a[f"x_{part}"]), -1)
        names = ",".join(["label", *(f"pixel{i}" for i in range(x.shape[1]))])
        rows = np.column_stack([a[f"y_{part}"], x])
        np.savetxt(folder / f"{part}.csv", rows, "%d", ",", header=names, comments="")
    return folder


def write_matlab(path: Path, a: Arrays) -> Path:
    savemat(path, a)
    return path


def write_matlab_73(path: Path, a: Arrays) -> Path:
    """HDF5 with the axes of each array in reverse, behind 512 bytes of MATLAB's own."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in a.items():
            file[name] = (array[:, None] if array.ndim == 1 else array).T
    with path.open("r+b") as head:
        head.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    return path


def write_parquet(folder: Path, a: Arrays) -> Path:
    """PNG bytes and labels, a file for each part, as hubs have them."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        cells = []
        for image in a[f"x_{part}"]:
            content = io.BytesIO()
            Image.fromarray(image).save(content, "PNG")
            cells.append({"bytes": content.getvalue(), "path": None})
        table = pa.table({"image": cells, "label": a[f"y_{part}"]})
        parquet.write_table(table, folder / f"{part}-00000-of-00001.parquet")
    return folder


def write_libsvm(folder: Path, a: Arrays) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, name in (("train", "set"), ("test", "set.t")):
        x = a[f"x_{part}"].reshape(len(a[f"x_{part}"]), -1).astype(np.float64)
        dump_svmlight_file(x, a[f"y_{part}"], str(folder / name), zero_based=False)
    return folder


def truncations(content: bytes, step: int = 1) -> Iterator[bytes]:
    """Every beginning of `content` that is shorter than it."""
    return (content[:length] for length in range(0, len(content), step))


def flips(content: bytes, mask: int = 0xFF, step: int = 1) -> Iterator[bytes]:
    """`content` with one byte changed, for every byte."""
    for at in range(0, len(content), step):
        yield content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]


def replace(path: Path, content: bytes) -> None:
    """Write a file anew: to truncate the old one takes ext4 thirty times as long."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def outcomes(path: Path, damaged: Path, contents: Iterator[bytes]) -> list[str]:
    """What loading `path` gives with each content in place of the file `damaged`: a fingerprint, or
    "refused" for a DataError in one line that names `path`. Anything else that is raised, is."""
    results = []
    for content in contents:
        replace(damaged, content)
        try:
            results.append(load(str(path)).fingerprint())
        except DataError as error:
            message = str(error)
            assert str(path) in message
            assert message.isprintable()
            results.append("refused")
    return results
