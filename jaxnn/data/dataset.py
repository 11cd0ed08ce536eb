"""A data set, and how one is made of the arrays of a file or a folder."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxnn.data import emnist, features, forms, named
from jaxnn.data.blame import blame
from jaxnn.data.features import Standardisation
from jaxnn.data.field import Field, mapped
from jaxnn.data.forms import NO_OPTIONS, Options
from jaxnn.data.labels import read_labels
from jaxnn.data.memory import fits
from jaxnn.data.orientation import doubts
from jaxnn.data.pixels import OtherScaleError, read_images
from jaxnn.data.roles import Parts
from jaxnn.data.split import held_out, taken
from jaxnn.data.validate import COLOURS, check_headers, example_shape, image_shape
from jaxnn.errors import DataError, SettingError

#: The share that is set aside as a test part where the data have none.
OWN_TEST = 0.2

#: Rows of a square are pixels from this side on: four features are no picture of 2×2.
SMALLEST_SIDE = 5


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled examples, split into a training set and a test set.

    x_train (n_train, n_x) and x_test (n_test, n_x) are uint8 where the source is integral, else
    float32; y_train (n_train,) and y_test (n_test,) are int32 in 0 … n_classes − 1.
    `scale` is 1 over what is white in the training set, so that scale · x is in [0, 1] there.
    `image_shape` is (h, w), or (h, w, 3) in colour, or None where the n_x inputs of a row are no
    picture. `class_names` has the C names of the classes. `standardisation` is what plain features
    were standardised by, or None for pixels. `source` says where the data come from, `remarks` what
    is in them that one might not expect, a phrase each.

    Examples that are more than may lie in memory lie on the disk: they are arrays all the same,
    which nobody can write to (`jaxnn.data.scratch`).
    """

    name: str
    source: str
    x_train: NDArray[Any]
    y_train: NDArray[np.int32]
    x_test: NDArray[Any]
    y_test: NDArray[np.int32]
    n_classes: int
    image_shape: tuple[int, ...] | None
    scale: float
    remarks: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    standardisation: Standardisation | None = None

    def __post_init__(self) -> None:
        if not self.class_names:
            object.__setattr__(self, "class_names", tuple(map(str, range(self.n_classes))))

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
        if self.class_names != tuple(map(str, range(self.n_classes))):
            digest.update(repr(self.class_names).encode())
        if self.standardisation:
            digest.update(repr(self.standardisation.to_dict()).encode())
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{array.dtype.name} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
        return digest.hexdigest()


def build(
    name: str,
    source: str,
    parts: Parts,
    options: Options = NO_OPTIONS,
    memory: int | None = None,
) -> Dataset:
    """Check the headers, then read and check the labels, then the examples.

    `memory` and the errors are those of `read_images`.
    """
    parts = _as_images(parts, options.grey)
    check_headers(*parts[:4])
    with blame(source):
        labels = read_labels(parts.y_train, parts.y_test)
        x = _read_examples(parts, options, memory)
    shape = image_shape(parts.x_train) if x.is_image else None
    y_train, y_test, train, test = labels.y_train, labels.y_test, x.train, x.test
    split: tuple[str, ...] = ()
    if test is None or y_test is None:
        share = OWN_TEST if options.test is None else options.test
        if options.test is None and round(share * len(y_train)) == 0:
            raise DataError(f"{source}: a test part, or examples for one, expected, found neither")
        held, on_disk = (
            held_out(y_train, share, options.seed, "test"),
            not fits(train.nbytes, memory),
        )
        test, y_test = taken(train, np.flatnonzero(held), on_disk), y_train[held]
        train, y_train = taken(train, np.flatnonzero(~held), on_disk), y_train[~held]
        split = (f"no test part: {len(y_test):,} examples set aside by seed {options.seed}",)
    elif options.test is not None:
        raise SettingError(
            f"`test` {options.test:g}: expected data without a test part, found one of "
            f"{len(y_test):,} examples in {source}"
        )
    standardisation = None
    if not x.is_pixels:
        standardisation = features.measured(train)
        train, test = (
            features.standardised(part, standardisation, memory) for part in (train, test)
        )
    said = parts.x_train.remarks
    turned = (
        () if emnist.UPRIGHT in said else doubts(train, y_train, labels.names, len(y_test), shape)
    )
    return Dataset(
        name,
        source,
        train,
        y_train,
        test,
        y_test,
        len(labels.names),
        shape,
        x.scale,
        (*x.remarks, *labels.remarks, *said, *parts.remarks, *turned, *split),
        labels.names,
        standardisation,
    )


class _Examples(NamedTuple):
    """(N, n_x) of both parts; whether they are pixels, and whether rows of them are images."""

    train: NDArray[Any]
    test: NDArray[Any] | None
    scale: float
    remarks: tuple[str, ...]
    is_pixels: bool
    is_image: bool


def _read_examples(parts: Parts, options: Options, memory: int | None) -> _Examples:
    """Pixels, or plain features where rows of numbers cannot be pixels."""
    x_train, x_test = parts.x_train, parts.x_test
    rows = len(example_shape(x_train)) == 1
    if not options.features:
        shape = image_shape(x_train)
        is_square = shape is not None and min(shape[:2]) >= SMALLEST_SIDE
        try:
            images = read_images(x_train, x_test, memory)
        except OtherScaleError:
            if not rows:
                raise
        else:
            bytes_alone = images.train.dtype == np.uint8 and images.scale == 1 / 255
            if not rows or is_square or bytes_alone:
                return _Examples(*images, is_pixels=True, is_image=shape is not None)
    train = features.read(x_train, memory)
    test = None if x_test is None else features.read(x_test, memory)
    said = (f"{train.shape[1]:,} features, standardised by the training part",)
    return _Examples(train, test, 1.0, said, is_pixels=False, is_image=False)


def _as_images(parts: Parts, grey: bool) -> Parts:
    """With channels last, one of which is none, and in grey if that is wanted."""
    x_train, x_test = (
        None if x is None else _as_image(x, grey) for x in (parts.x_train, parts.x_test)
    )
    assert x_train is not None
    return parts._replace(x_train=x_train, x_test=x_test)


def _as_image(x: Field, grey: bool) -> Field:
    channels_first = len(x.shape) == 4 and x.shape[1] in (1, COLOURS) and min(x.shape[2:]) > 7
    if channels_first and x.shape[3] not in (1, COLOURS):
        c, h, w = x.shape[1:]
        x = mapped(x, (h, w, c), x.dtype, lambda images: images.transpose(0, 2, 3, 1))
    if grey and x.shape[3:] == (COLOURS,):
        return mapped(x, x.shape[1:3], x.dtype, _grey, "colours as grey")
    return x


def _grey(images: NDArray[Any]) -> NDArray[Any]:
    """(k, h, w, 3) as (k, h, w), by the weights of ITU-R BT.601, as Pillow does."""
    grey = images.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return np.asarray(np.rint(grey) if images.dtype.kind != "f" else grey, images.dtype)


def read(
    path: Path, name: str | None = None, options: Options = NO_OPTIONS, memory: int | None = None
) -> Dataset:
    """The data set at `path`, a file or a folder in one of the forms of `jaxnn.data.forms`.

    Raises DataError, SettingError where the options contradict the data, and StorageError where the
    examples are more than `memory` MiB (`memory.fits`) and the disk has no room for them.
    """
    name = name or (path.name.partition(".")[0] if path.is_file() else path.resolve().name)
    parts = named.with_classes(path, forms.read(path, options))
    return build(name, str(path), parts, options, memory)
