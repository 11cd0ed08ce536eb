"""Data sets: from files in many forms, from the network, from scikit-learn.

Nothing here imports jax or the model, and what a data set does not need is not imported for it.
"""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxnn.data.blame import blame
from jaxnn.data.dataset import Dataset, read
from jaxnn.data.forms import Options, holds_data
from jaxnn.data.idx import NAMES
from jaxnn.data.named import NAMED
from jaxnn.data.places import ENVIRONMENT, cache_dir, expand, places
from jaxnn.data.progress import Progress, bars, silent
from jaxnn.data.split import with_validation
from jaxnn.errors import DataError, SettingError

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
    keys: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    grey: bool = False,
    features: bool = False,
    test: float | None = None,
    seed: int = 0,
    progress: Progress | None = bars,
    notify: Callable[[str], None] = _warn,
    remote: "Remote | None" = None,
    memory: int | None = None,
) -> Dataset:
    """The data set with this name or at this path, in any of the forms of docs/data.md.

    "mnist" is looked for under JAXNN_DATA_DIR, in the user's cache, and where torchvision and Keras
    keep it; else it is downloaded into the cache. A damaged copy is passed over, with a notice.
    "fashion", "kmnist", "emnist-letters" and EMNIST's other splits are downloaded likewise.
    "digits" are scikit-learn's, 8×8 pixels. "auto" is MNIST, or the digits where it cannot be had,
    with a notice. Anything else is the path of a file or folder ("./mnist" is a folder, "mnist" is
    a name), whose form is recognised from its contents.

    `keys` name arrays or columns that nobody would guess: ("x=faces", "y=person"). `size` (h, w) is
    what pictures in files are scaled to, `grey` makes colours grey. `features` says that rows are
    no pixels: they are standardised. Where there is no test part, `test` is the number or the share
    of examples that are set aside as one, by default a fifth, stratified and drawn by `seed`.

    `notify` receives each notice, one line; by default it becomes a warning. `progress` shows a
    download (`jaxnn.data.progress`), None shows nothing. `remote` replaces the mirrors. Images that
    are more than `memory` MiB together lie on the disk (`jaxnn.data.scratch`); by default, those
    that are more than half of the free memory.

    Raises DataError, in one line, if the data are missing or malformed, SettingError if these
    arguments contradict the data, and StorageError if the disk has no room for such images.

    >>> digits = jaxnn.load_data("digits")
    >>> digits.x_train.shape, digits.y_test.shape, digits.n_classes
    ((1438, 64), (359,), 10)
    """
    options = Options(tuple(keys or ()), size, grey, features, test, seed)
    if data == "digits":
        _require_path(data, options)
        return _digits()
    if data in NAMED and data != "mnist":
        _require_path(data, options)
        return _of_name(data, progress or silent, notify, remote, memory)
    if data not in ("auto", "mnist"):
        path = expand(data)
        if not path.exists():
            names = ", ".join(map(repr, ("auto", "digits", *NAMED)))
            raise DataError(f"{path}: no such file or folder; the names are {names}")
        return read(path, options=options, memory=memory)
    _require_path(data, options)
    try:
        return _mnist(progress or silent, notify, remote, memory)
    except DataError as error:
        if data == "mnist":
            looked = ", ".join(map(str, places()))
            raise DataError(f"no MNIST: {error}; looked for in {looked}; {_advice()}") from error
        notify(f"NOT MNIST but scikit-learn's 1,797 digits of 8×8 pixels: {error}; {_advice()}")
        return _digits()


def _require_path(name: str, options: Options) -> None:
    """Raises SettingError where options are given for a named set, of which all is known."""
    for setting, value in zip(Options._fields[:-1], options, strict=False):
        if value:
            raise SettingError(
                f"`{setting}`: expected the path of a file or folder as the data, found the name "
                f"{name}, of which everything is known"
            )


def _of_name(
    name: str,
    progress: Progress,
    notify: Callable[[str], None],
    remote: "Remote | None",
    memory: int | None,
) -> Dataset:
    """Another named set than MNIST, from its folder in the cache or from the network."""
    from jaxnn.data import download

    folder = cache_dir() / name
    try:
        if holds_data(folder):
            return read(folder, name, memory=memory)
    except DataError as error:
        notify(f"{error}; it is downloaded anew")
    try:
        download.download(folder, remote or download.of(name), progress)
    except DataError as error:
        raise DataError(
            f"no {name}: {error}; connect to the internet, or put its files into {folder}, or name "
            "their folder as the data"
        ) from error
    return read(folder, name, memory=memory)


def _advice() -> str:
    files = "its four IDX files or MNISTdata.hdf5 or mnist.npz"
    named = os.environ.get(ENVIRONMENT)
    found = f"; {ENVIRONMENT} names {named}, which {_lack(expand(named))}" if named else ""
    return (
        f"to have MNIST, connect to the internet, or put {files} into {cache_dir()}, or name their "
        f"folder as the data, or by {ENVIRONMENT}{found}"
    )


def _lack(place: Path) -> str:
    """Why a place has no MNIST to give."""
    try:
        return "holds a damaged one" if _holds_mnist(place) else "holds none"
    except DataError:
        return "cannot be looked into"


def _holds_mnist(place: Path) -> bool:
    """Whether there is a file that is called like MNIST, damaged or not. Raises DataError."""
    spelled = [*NAMES.values(), *(name.replace("-idx", ".idx") for name in NAMES.values())]
    names = (*spelled, *(f"{name}.gz" for name in spelled), "MNISTdata.hdf5", "mnist.npz")
    with blame(str(place)):
        return place.is_file() or any((place / name).is_file() for name in names)


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
            if _holds_mnist(place):
                return _checked(read(place, "mnist", memory=memory), damaged, notify)
        except DataError as error:
            damaged.append(str(error))
    try:
        return _checked(_downloaded(progress, remote, memory), damaged, notify)
    except DataError as error:
        raise DataError("; ".join([*damaged, str(error)])) from error


def _downloaded(progress: Progress, remote: "Remote | None", memory: int | None) -> Dataset:
    from jaxnn.data.download import Remote, download

    download(cache_dir(), remote or Remote(), progress)
    return read(cache_dir(), "mnist", memory=memory)


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
