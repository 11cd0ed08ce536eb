"""Small data sets in every form that `jaxnn.data` reads, whole and damaged."""

import gzip
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

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
