"""A data set, and how one is read from a file or a folder."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxnn.data import hdf5, idx, npz
from jaxnn.data.blame import blame
from jaxnn.data.field import Field
from jaxnn.data.orientation import doubts
from jaxnn.data.pixels import read_images
from jaxnn.data.validate import check_headers, count_classes, image_shape, numbering, read_labels
from jaxnn.errors import DataError

#: Files that a folder may hold in place of the four IDX files.
FILE_NAMES = ("MNISTdata.hdf5", "mnist.npz")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, split into a training set and a test set.

    x_train (n_train, n_x) and x_test (n_test, n_x) are uint8 where the source is integral, else
    float32; y_train (n_train,) and y_test (n_test,) are int32 in 0 … n_classes − 1.
    `scale` is 1 over what is white in the training set, so that scale · x is in [0, 1] there.
    `image_shape` is (h, w), or None where the n_x pixels of a row form no square. `source` says
    where the data come from, `remarks` what is in them that one might not expect, a phrase each.

    Images that are more than may lie in memory lie on the disk: they are arrays all the same, which
    nobody can write to (`jaxnn.data.scratch`).
    """

    name: str
    source: str
    x_train: NDArray[Any]
    y_train: NDArray[np.int32]
    x_test: NDArray[Any]
    y_test: NDArray[np.int32]
    n_classes: int
    image_shape: tuple[int, int] | None
    scale: float
    remarks: tuple[str, ...] = ()

    @property
    def n_x(self) -> int:
        return int(self.x_train.shape[1])

    @property
    def n_train(self) -> int:
        return len(self.x_train)

    @property
    def n_test(self) -> int:
        return len(self.x_test)

    @property
    def origin(self) -> str:
        """Where the data come from and what was seen in them, as the end of a line."""
        return "; ".join((self.source, *self.remarks))

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the contents: equal for equal data, whatever file held it."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.n_classes} {self.scale}".encode())
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{array.dtype.name} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
        return digest.hexdigest()


def build(
    name: str,
    source: str,
    fields: dict[str, Field],
    memory: int | None = None,
    turned: tuple[str, ...] | None = None,
) -> Dataset:
    """Check the headers, then read and check the labels, then the images.

    `turned` is what was done about their orientation, if anything. `memory` and the errors are
    those of `read_images`.
    """
    check_headers(fields)
    with blame(source):
        y_train, y_test = read_labels(fields["y_train"]), read_labels(fields["y_test"])
        n_classes = count_classes(fields, y_train, y_test)
        images = read_images(fields["x_train"], fields["x_test"], memory)
    shape = image_shape(fields["x_train"])
    if turned is None:
        turned = doubts(images.train, y_train, len(y_test), shape)
    return Dataset(
        name,
        source,
        images.train,
        y_train,
        images.test,
        y_test,
        n_classes,
        shape,
        images.scale,
        (*images.remarks, *numbering(y_train, y_test, n_classes), *turned),
    )


def read(path: Path, name: str | None = None, memory: int | None = None) -> Dataset:
    """The data set at `path`: an HDF5 or .npz file, or a folder that holds one or four IDX files.
    EMNIST's, known by their names, are set upright.

    The form is recognised from the file's first bytes. Raises DataError, and StorageError where
    the images are more than `memory` MiB (`memory.fits`) and the disk has no room for them.
    """
    form, place = _recognise(path)
    name = name or (path.stem if path.is_file() else path.resolve().name)
    turned = (idx.UPRIGHT,) if form is idx.upright_fields else None
    return build(name, str(path), form(place), memory, turned)


def holds_data(path: Path) -> bool:
    """Whether `read(path)` would find something to read, damaged or not. Raises DataError."""
    names = (path, *(path / name for name in FILE_NAMES))
    with blame(str(path)):
        return any(name.is_file() for name in names) or bool(idx.find(path))


def _recognise(path: Path) -> tuple[Callable[[Path], dict[str, Field]], Path]:
    with blame(str(path)):
        if path.is_dir():
            return _recognise_folder(path)
        if not path.is_file():
            raise DataError(
                f"{path}: no such file or folder; the names are 'auto', 'mnist' and 'digits'"
            )
        with path.open("rb") as file:
            head = file.read(512)
    if head.startswith(hdf5.MAGIC):
        return hdf5.fields, path
    if head.startswith(npz.MAGIC):
        return npz.fields, path
    if idx.is_idx(head):
        raise DataError(f"{path}: is one IDX file of four; give the folder that holds them")
    raise DataError(f"{path}: an HDF5, .npz or IDX file expected, found {_describe(head)}")


def _recognise_folder(folder: Path) -> tuple[Callable[[Path], dict[str, Field]], Path]:
    """Four IDX files, if all are there, else one file, else whatever IDX files there are."""
    found = [folder / name for name in FILE_NAMES if (folder / name).is_file()]
    if found and len(idx.find(folder)) < len(idx.STEMS):
        return _recognise(found[0])
    if not holds_data(folder) and idx.emnist(folder):
        return idx.upright_fields, folder
    if not holds_data(folder):
        raise DataError(
            f"{folder}: four IDX files, {' or '.join(FILE_NAMES)} expected here, found none"
        )
    return idx.fields, folder


def _describe(head: bytes) -> str:
    if not head:
        return "an empty file"
    if head.lstrip()[:1] == b"<":
        return "a web page or XML"
    return f"a file that begins with {head[:8]!r}"
