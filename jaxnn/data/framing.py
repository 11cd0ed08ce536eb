"""How the training images were framed, and another image brought into that frame.

MNIST was made so: the digit was scaled, with antialiasing and without changing its proportions, to
fit a box of 20×20 pixels, and placed with its centre of mass in the middle of 28×28. Other data
have other frames, which can be measured.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxnn.data import Dataset
from jaxnn.data.look import MEASURED, Look, pieces
from jaxnn.errors import DataError

Pixels = NDArray[np.float32]

#: Less contrast than this between paper and ink, where white is 1 and black is 0, is no ink.
LEAST_CONTRAST = 0.02

#: Paper that is unevenly lit differs from its median by up to twice its median deviation; noise
#: seldom by more than four and a half times.
NOISE_DEVIATIONS = 4.5

#: A piece with less ink than this share of the largest one is dust, and so is a largest one that is
#: shorter than this share of the picture.
DUST = 0.03

#: In a picture larger than the frame, ink fainter than this share of the darkest is blur or what
#: compression left around a stroke. It would make the digit seem larger than it is.
FAINT = 0.125


#: A line along a side is an edge where this share of it differs from the picture's median, by this
#: share of all contrast; but not where more of the border within it than this does so too.
EDGE_SHARE, EDGE_CONTRAST, MOST_TOUCHING = 0.9, 0.15, 0.005

#: A corner that differs by more than this share of all contrast from the border is ink, not paper.
CORNER_CONTRAST = 0.3


class Frame(NamedTuple):
    """Height and width in pixels of the image and of the box, and the centre of mass (y, x)."""

    shape: tuple[int, int]
    box: tuple[int, int]
    centre: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {name: list(pair) for name, pair in self._asdict().items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Frame":
        """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        (h, w), (box_h, box_w), (y, x) = (values[name] for name in cls._fields)
        if not (0 < int(box_h) <= int(h) and 0 < int(box_w) <= int(w)):
            raise ValueError(f"a box inside the image expected, found {box_h}×{box_w} in {h}×{w}")
        return cls((int(h), int(w)), (int(box_h), int(box_w)), (float(y), float(x)))


def like_mnist(shape: tuple[int, int]) -> Frame:
    """MNIST's proportions, for images of any size."""
    h, w = shape
    return Frame(shape, (max(1, round(h * 20 / 28)), max(1, round(w * 20 / 28))), (h / 2, w / 2))


def measure(images: NDArray[Any], paper: float = 0.0, ink: float = 0.0) -> Frame:
    """The frame of training images (n, h, w): what all but 1 % of them keep to.

    What differs from the paper by less than a fiftieth of what the ink does belongs to the paper.
    """
    profiles = [_profiles(some, paper, ink) for some in pieces(images[:MEASURED])]
    rows, columns = map(np.concatenate, zip(*profiles, strict=True))
    inked = rows.any(axis=1)
    if not inked.any():
        return like_mnist(images.shape[1:])
    rows, columns = rows[inked], columns[inked]
    return Frame(
        images.shape[1:],
        (_usual_extent(rows > 0), _usual_extent(columns > 0)),
        (_usual_centre(rows), _usual_centre(columns)),
    )


def _profiles(images: NDArray[Any], paper: float, ink: float) -> tuple[Pixels, Pixels]:
    """How much ink each row (n, h) and each column (n, w) of the images has."""
    strength = np.abs(images - np.float32(paper))
    strength *= strength >= np.float32(LEAST_CONTRAST * abs(ink - paper))
    return strength @ np.ones(strength.shape[2], np.float32), strength.sum(axis=1)


def of_dataset(dataset: Dataset, look: Look) -> Frame | None:
    """The frame of its training images; None where they are in colour, or no images."""
    if dataset.image_shape is None or len(dataset.image_shape) != 2:
        return None
    images = dataset.x_train.reshape(-1, *dataset.image_shape)
    return measure(images, look.paper / look.scale, look.ink / look.scale)


def prepare(grey: Pixels, frame: Frame, paper: float = 0.0, ink: float = 1.0) -> Pixels:
    """An image of any size, dark on light or light on dark, as the network knows them.

    grey is (height, width) in [0, 1]; the result has the frame's shape, float32, and the brightness
    `paper` with `ink` on it. An image that is framed already stays as it is, but for rounding.

    Raises `DataError` where there is no ink.
    """
    strokes = _ink(_without_edges(grey))
    if max(grey.shape) > max(frame.shape):
        strokes = np.where(strokes < FAINT, np.float32(0), strokes)
    placed = _placed(_fitted(_cropped(_without_dust(strokes)), frame.box), frame)
    return np.float32(paper) + np.float32(ink - paper) * placed


def _without_edges(grey: Pixels) -> Pixels:
    """Without a frame around the drawing, and without the dark edge that a scan has: lines along a
    side that are of another brightness than the picture's median from end to end.

    Where they are not on all four sides, and something touches a side of what lies within, that is
    ink, up to which the picture was cut, and so may they be: then they stay.
    """
    apart = np.float32(EDGE_CONTRAST) * np.ptp(grey)
    above = np.sign(grey - np.median(grey)) * (np.abs(grey - np.median(grey)) > apart)
    rows, columns = (_edges(above.mean(axis=axis)) for axis in (1, 0))
    inner = above[rows, columns]
    if inner.shape == grey.shape or not inner.size:
        return grey
    is_frame = all(
        0 < s.start < s.stop < n for s, n in zip((rows, columns), grey.shape, strict=True)
    )
    touching = np.concatenate([*inner[[0, -1]], *inner[:, [0, -1]].T]) != 0
    return grey[rows, columns] if is_frame or touching.mean() <= MOST_TOUCHING else grey


def _edges(shares: NDArray[np.floating[Any]]) -> slice:
    """What is left of the lines when those at either end go whose share of other pixels, signed, is
    nearly all of them."""
    most = max(1, len(shares) // 8)
    whole = np.abs(shares) >= EDGE_SHARE
    first, last = (int(np.argmin([*ends[:most], False])) for ends in (whole, whole[::-1]))
    return slice(first, len(shares) - last)


def _ink(grey: Pixels) -> Pixels:
    """The paper as 0, the darkest or brightest ink as 1."""
    difference = grey - _paper(grey)
    border = np.concatenate([*difference[[0, -1]], *difference[:, [0, -1]].T])
    noise = np.float32(NOISE_DEVIATIONS) * np.median(np.abs(border))
    lighter, darker = np.maximum(difference - noise, 0), np.maximum(-difference - noise, 0)
    strokes = lighter if np.square(lighter).sum() > np.square(darker).sum() else darker
    if strokes.max() < LEAST_CONTRAST:
        raise DataError("no ink: the image is blank, or nearly so")
    return _to_one(strokes)


def _to_one(ink: Pixels) -> Pixels:
    """Scaled so that the brightest ink is 1."""
    scaled: Pixels = ink / ink.max()
    return scaled


def _paper(grey: Pixels) -> Pixels:
    """How bright the paper is everywhere: in the corners as seen there, in between interpolated."""
    h, w = grey.shape
    patch = max(1, min(h, w) // 8)
    corners = [
        [np.median(grey[rows, columns]) for columns in (slice(patch), slice(-patch, None))]
        for rows in (slice(patch), slice(-patch, None))
    ]
    border = np.median(np.concatenate([*grey[[0, -1]], *grey[:, [0, -1]].T]))
    inked = np.abs(np.array(corners) - border) > np.float32(CORNER_CONTRAST) * np.ptp(grey)
    if not inked.all():  # ink in a corner, up to which the picture was cut
        corners = np.where(inked, border, corners).astype(np.float32).tolist()
    across, down = np.linspace(0, 1, w, dtype=np.float32), np.linspace(0, 1, h, dtype=np.float32)
    top, bottom = (left + (right - left) * across for left, right in corners)
    return top + np.outer(down, bottom - top)


def _without_dust(ink: Pixels) -> Pixels:
    from scipy import ndimage

    pieces, _ = ndimage.label(ink > 0, structure=np.ones((3, 3)))
    mass = np.bincount(pieces.ravel(), ink.ravel())
    mass[0] = 0
    rows, columns = ndimage.find_objects(pieces)[mass.argmax() - 1]
    longest = max(rows.stop - rows.start, columns.stop - columns.start)
    if longest < max(2, DUST * max(ink.shape)):
        raise DataError("no ink: the image is blank, or holds nothing larger than dust")
    return np.where((mass >= DUST * mass.max())[pieces], ink, np.float32(0))


def _cropped(ink: Pixels) -> Pixels:
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fitted(ink: Pixels, box: tuple[int, int]) -> Pixels:
    """Scaled as large as the box allows. Thin strokes become faint by that: 1 is the brightest."""
    from PIL import Image

    h, w = ink.shape
    factor = min(box[0] / h, box[1] / w)
    size = max(1, round(w * factor)), max(1, round(h * factor))
    return _to_one(np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BILINEAR)))


def _placed(ink: Pixels, frame: Frame) -> Pixels:
    """The centre of mass where the frame has it, to the pixel, with all of the ink inside."""
    placed = np.zeros(frame.shape, np.float32)
    y, x = (
        min(max(math.floor(target - centre + 0.5), 0), size - length)
        for target, centre, size, length in zip(
            frame.centre, _centre_of_mass(ink), frame.shape, ink.shape, strict=True
        )
    )
    placed[y : y + ink.shape[0], x : x + ink.shape[1]] = ink
    return placed


def _centre_of_mass(image: Pixels) -> tuple[float, float]:
    mass = image.sum()
    rows, columns = (np.arange(length, dtype=np.float32) for length in image.shape)
    return float(image.sum(axis=1) @ rows / mass), float(image.sum(axis=0) @ columns / mass)


def _usual_extent(used: NDArray[np.bool_]) -> int:
    """The length from the first to the last used place, (n, length): the 99th percentile."""
    lengths = used.shape[1] - used.argmax(axis=1) - used[:, ::-1].argmax(axis=1)
    return int(np.percentile(lengths, 99, method="lower"))


def _usual_centre(profiles: NDArray[np.float64]) -> float:
    """The mean of the centres of mass, to a hundredth of a pixel."""
    centres = profiles @ np.arange(profiles.shape[1]) / profiles.sum(axis=1)
    return round(float(centres.mean()), 2)
