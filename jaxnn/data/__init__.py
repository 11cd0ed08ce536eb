"""Data sets: from HDF5, IDX and .npz files, from the network, from scikit-learn.

Nothing here imports jax or the model, and what a data set does not need is not imported for it.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from jaxnn.data.dataset import FILE_NAMES, Dataset, holds_data, read
from jaxnn.data.places import ENVIRONMENT, cache_dir, expand, places
from jaxnn.data.progress import Progress, bars, silent
from jaxnn.data.split import with_validation
from jaxnn.errors import DataError

if TYPE_CHECKING:
    from jaxnn.data.download import Remote

__all__ = ["DataError", "Dataset", "cache_dir", "load", "with_validation"]

#: (n_train, n_test, n_x) of MNIST, and of data sets made to take its place, such as Fashion-MNIST.
MNIST_SHAPE = (60_000, 10_000, 784)
MNIST_FINGERPRINT = "ad0685246b31cc6b9d04bb27ccaea7b2ef76d9c7c8407e4d90414a61deda3afc"


def _warn(line: str) -> None:
    warnings.warn(line, stacklevel=3)


def load(
    data: str = "auto",
    *,
    progress: Progress | None = bars,
    notify: Callable[[str], None] = _warn,
    remote: "Remote | None" = None,
    memory: int | None = None,
) -> Dataset:
    """The data set with this name or at this path.

    "mnist" is looked for under JAXNN_DATA_DIR, in the user's cache, and where torchvision and Keras
    keep it; else it is downloaded into the cache. A damaged copy is passed over, with a notice.
    "digits" are scikit-learn's, 8×8 pixels. "auto" is MNIST, or the digits where it cannot be had,
    with a notice. Anything else is the path of an HDF5 file, an .npz file, or a folder with one of
    these or with four IDX files ("./mnist" is a folder, "mnist" is a name).

    `notify` receives each notice, one line; by default it becomes a warning. `progress` shows a
    download (`jaxnn.data.progress`), None shows nothing. `remote` replaces the mirrors. Images that
    are more than `memory` MiB together lie on the disk (`jaxnn.data.scratch`); by default, those
    that are more than half of the free memory.

    Raises DataError, in one line, if the data are missing or malformed, and StorageError if the
    disk has no room for such images.

    >>> digits = jaxnn.load_data("digits")
    >>> digits.x_train.shape, digits.y_test.shape, digits.n_classes
    ((1438, 64), (359,), 10)
    """
    if data == "digits":
        return _digits()
    if data not in ("auto", "mnist"):
        return read(expand(data), memory=memory)
    try:
        return _mnist(progress or silent, notify, remote, memory)
    except DataError as error:
        if data == "mnist":
            looked = ", ".join(map(str, places()))
            raise DataError(f"no MNIST: {error}; looked for in {looked}; {_advice()}") from error
        notify(f"NOT MNIST but scikit-learn's 1,797 digits of 8×8 pixels: {error}; {_advice()}")
        return _digits()


def _advice() -> str:
    files = f"its four IDX files or {' or '.join(FILE_NAMES)}"
    named = os.environ.get(ENVIRONMENT)
    found = f"; {ENVIRONMENT} names {named}, which {_lack(expand(named))}" if named else ""
    return (
        f"to have MNIST, connect to the internet, or put {files} into {cache_dir()}, or name their "
        f"folder as the data, or by {ENVIRONMENT}{found}"
    )


def _lack(place: Path) -> str:
    """Why a place has no MNIST to give."""
    try:
        return "holds a damaged one" if holds_data(place) else "holds none"
    except DataError:
        return "cannot be looked into"


def _mnist(
    progress: Progress,
    notify: Callable[[str], None],
    remote: "Remote | None",
    memory: int | None,
) -> Dataset:
    """The first whole copy. Raises DataError with all that stood in the way."""
    damaged: list[str] = []
    for place in places():
        try:
            if holds_data(place):
                return _checked(read(place, "mnist", memory), damaged, notify)
        except DataError as error:
            damaged.append(str(error))
    try:
        return _checked(_downloaded(progress, remote, memory), damaged, notify)
    except DataError as error:
        raise DataError("; ".join([*damaged, str(error)])) from error


def _downloaded(progress: Progress, remote: "Remote | None", memory: int | None) -> Dataset:
    from jaxnn.data.download import Remote, download

    download(cache_dir(), remote or Remote(), progress)
    return read(cache_dir(), "mnist", memory)


def _checked(dataset: Dataset, damaged: list[str], notify: Callable[[str], None]) -> Dataset:
    """`dataset`, after a notice of every damaged copy that was passed over, and of an impostor."""
    for problem in damaged:
        notify(f"{problem}; {dataset.source} is used in its place")
    shape = (dataset.n_train, dataset.n_test, dataset.n_x)
    if shape == MNIST_SHAPE and dataset.fingerprint() != MNIST_FINGERPRINT:
        notify(f"{dataset.source}: has MNIST's size but not its contents")
    return dataset


def _digits() -> Dataset:
    from jaxnn.data.digits import digits

    return digits()
