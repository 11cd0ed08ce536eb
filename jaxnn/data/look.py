"""How a network's training images look: what is white, the paper, the ink, and the border.

A picture that has their size and scale is shown to the network as it is, as the test images were.
What looks otherwise is noticed.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxnn.data import Dataset
from jaxnn.data.pixels import in_unit

#: Images that are looked at, and pixels of them at a time.
MEASURED, AT_ONCE = 10_000, 1 << 17

#: A border may be by so much darker or lighter than every one of the training images.
MARGIN = 0.25


class Look(NamedTuple):
    """`dtype` and `scale` of the training images as the data set holds them; where white is 1: how
    bright the paper and the ink are, as a rule, and the border from image to image, at least and at
    most; and whether any of them has a single brightness everywhere."""

    dtype: str
    scale: float
    paper: float = 0.0
    ink: float = 1.0
    borders: tuple[float, float] = (0.0, 1.0)
    blank: bool = True

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return self._asdict() | {"borders": list(self.borders)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Look":
        """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        dtype, scale, paper, ink, (low, high), blank = (values[name] for name in cls._fields)
        look = cls(dtype, float(scale), float(paper), float(ink), (float(low), float(high)), blank)
        sensible = all(map(math.isfinite, (look.scale, paper, ink, low, high))) and look.scale > 0
        if dtype not in ("uint8", "float32") or type(blank) is not bool or not sensible:
            raise ValueError(f"how images look expected, found {values!r:.200}")
        return look

    @property
    def is_dark_on_light(self) -> bool:
        """Whether the ink is darker than the paper."""
        return self.ink < self.paper

    def taken(self, values: NDArray[Any]) -> NDArray[np.float32] | None:
        """Images in any notation as the network knows them; None where they are on no scale."""
        return in_unit(values, self.dtype, self.scale)

    def is_strange(self, image: NDArray[np.float32]) -> bool:
        """Whether the border (h, w) is as in no training image: the paper may be another."""
        low, high = self.borders
        return not low - MARGIN <= float(np.median(border(image[None]))) <= high + MARGIN


def of_dataset(dataset: Dataset) -> Look:
    """How its training images look; where they are no images, only their scale."""
    dtype, scale = dataset.x_train.dtype.name, dataset.scale
    if dataset.image_shape is None:
        return Look(dtype, scale)
    images = dataset.x_train[:MEASURED].reshape(-1, *dataset.image_shape)
    if images.ndim == 4:  # in colour: each channel as an image
        images = np.moveaxis(images, 3, 1).reshape(-1, *dataset.image_shape[:2])
    borders = np.concatenate([np.median(border(some), axis=1) for some in pieces(images)])
    paper = float(np.median(borders))
    low, high = (
        np.concatenate([limit(some, axis=(1, 2)) for some in pieces(images)]).astype(np.float64)
        for limit in (np.min, np.max)
    )
    ink = float(np.median(np.where(high - paper >= paper - low, high, low)))
    return Look(
        dtype,
        scale,
        round(paper * scale, 4),
        round(ink * scale, 4),
        (round(float(borders.min()) * scale, 4), round(float(borders.max()) * scale, 4)),
        bool((low == high).any()),
    )


def border(images: NDArray[Any]) -> NDArray[Any]:
    """The outermost pixels (n, 2h + 2w) of images (n, h, w)."""
    n = len(images)
    rows, columns = images[:, [0, -1]], images[:, :, [0, -1]]
    return np.concatenate([rows.reshape(n, -1), columns.reshape(n, -1)], axis=1)


def pieces(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The images, so many at a time that few pixels are held."""
    step = max(1, AT_ONCE // images[0].size)
    return (images[at : at + step] for at in range(0, len(images), step))
