"""Reading pictures: PNG, JPEG and others, CSV and NPY, from files that nobody vouches for.

The form is recognised by a file's first bytes. Sizes are checked before anything is decoded, by
Pillow's own limit, and nothing is unpickled. What a damaged file makes a decoder raise becomes one
line naming the file.
"""

import codecs
import io
import math
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxnn.data.blame import blame
from jaxnn.data.folders import BEGINNINGS
from jaxnn.data.framing import Pixels
from jaxnn.data.look import Look
from jaxnn.data.npy import NPY, header
from jaxnn.errors import DataError

LARGEST_FILE = 1 << 26
LARGEST_PICTURE = 1 << 26
MOST_PICTURES = 10_000
LONGEST_LINE, MOST_LINES = 1 << 20, 1 << 17

#: What Pillow is asked to read: the decoders that it has are many, and each can be attacked.
DECODERS = ("PNG", "JPEG", "BMP", "PPM", "GIF")

#: A decoded picture's longest side is brought below twice this many pixels.
WORKING_SIZE = 256

FORMS = "PNG, JPEG, CSV or NPY"


class Picture(NamedTuple):
    """Where a picture is from, and its grey values (height, width), float32 in [0, 1].

    `as_it_is` is the picture on the scale of the training images, to the bit, where it has their
    size and is on a scale; else it is None.
    """

    where: str
    grey: Pixels
    as_it_is: Pixels | None = None


def read(path: Path, shape: tuple[int, int], look: Look | None = None) -> list[Picture]:
    """The pictures in a file: one of a PNG or JPEG, one or more of a CSV or NPY.

    A table of numbers is one picture, unless its rows are as long as a flattened picture of `shape`
    and not as many: then each row is one. An array (n, h, w) or (n, h, w, 1) holds n. `shape` and
    `look` are those of the training images. Raises `DataError`.
    """
    with blame(str(path), Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = _content(path)
        if content.startswith(BEGINNINGS):
            stack = _decoded(content, shape)[np.newaxis]
            greys = [_shrunk(_image(stack[0]))]
        else:
            stack = _stacked(_npy(content) if content.startswith(NPY) else _csv(content), shape)
            greys = [_shrunk(Image.fromarray(_unit(values))) for values in stack]
        known = look.taken(stack) if look and stack.shape[1:] == shape else None
    as_they_are = [None] * len(greys) if known is None else list(known)
    names = [f"{path} [{index}]" for index in range(len(greys))] if len(greys) > 1 else [str(path)]
    return [Picture(*each) for each in zip(names, greys, as_they_are, strict=True)]


def read_as(path: Path, shape: tuple[int, ...], look: Look) -> list[Picture]:
    """The pictures in a file as the network of a folder of pictures knows them: scaled to `shape`,
    (h, w) or (h, w, 3), without a frame. An array holds one or more of that shape.

    Raises `DataError`.
    """
    with blame(str(path), Exception):
        content = _content(path)
        if content.startswith(BEGINNINGS):
            stack: NDArray[Any] = pixels(path, shape)[np.newaxis]
        elif content.startswith(NPY):
            stack = _npy(content)
            stack = stack[np.newaxis] if stack.shape == shape else stack
            if stack.shape[1:] != shape:
                raise ValueError(f"pictures of {shape} expected, found an array of {stack.shape}")
        else:
            raise ValueError("PNG, JPEG or NPY expected, as the network is of pictures in files")
        taken = look.taken(stack)
        if taken is None:
            raise ValueError("numbers from 0 to a white of at most 65,535 expected")
    names = [f"{path} [{i}]" for i in range(len(taken))] if len(taken) > 1 else [str(path)]
    return [Picture(name, image, image) for name, image in zip(names, taken, strict=True)]


def _content(path: Path) -> bytes:
    if not path.is_file():
        found = "found another kind of file" if path.exists() else "no such file"
        found = "found a folder" if path.is_dir() else found
        raise DataError(f"{path}: {FORMS} expected, {found}")
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if not content:
        raise ValueError(f"{FORMS} expected, found an empty file")
    if len(content) > LARGEST_FILE:
        raise ValueError(f"a file of at most {LARGEST_FILE:,} bytes expected, this one is larger")
    return content


def _decoded(content: bytes, shape: tuple[int, int]) -> NDArray[Any]:
    """A grey picture, the right way up, on a background of the other brightness if transparent.

    One that is larger than `shape` may be decoded at a smaller size, but not at that one.
    `verify` compares the checksums of a PNG, which decoding does not.
    """
    _opened(io.BytesIO(content)).verify()
    image = _opened(io.BytesIO(content))
    if max(image.size) > max(*shape, 2 * WORKING_SIZE):
        side = max(2 * max(shape), 2 * WORKING_SIZE)
        image.draft(None, (side, side))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return np.asarray(image)
    if image.has_transparency_data:
        return np.asarray(_on_paper(image.convert("LA")))
    return np.asarray(image.convert("L"))


def _image(values: NDArray[Any]) -> Image.Image:
    """Bytes, or other numbers in [0, 1]."""
    return Image.fromarray(values if values.dtype == np.uint8 else _unit(values))


def size_of(source: Path | BinaryIO) -> tuple[tuple[int, int], bool]:
    """(width, height) as it is seen, and whether it is in colour, from the header alone.

    Raises DataError.
    """
    with _blamed(source), _opened(source) as image:
        w, h = image.size
        turned = image.getexif().get(ORIENTATION, 1) >= QUARTER_TURNED
        return ((h, w) if turned else (w, h)), _is_colour(image)


def pixels(source: Path | BinaryIO, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A picture of `shape`, (h, w) or (h, w, 3), scaled if it has another size. Or DataError."""
    with (
        _blamed(source),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        with _opened(source) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith(("I", "F")):  # 16 bits
                image = Image.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8))
            if len(shape) == 2 and image.has_transparency_data:
                image = _on_paper(image.convert("LA"))
            image = image.convert("L" if len(shape) == 2 else "RGB")
            if image.size != (shape[1], shape[0]):
                image = image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
            return np.asarray(image)


def _blamed(source: Path | BinaryIO) -> AbstractContextManager[None]:
    """Errors name the file, where it is one; of a picture within a file, its reader names it."""
    return blame(str(source), Exception) if isinstance(source, Path) else nullcontext()


#: Exif's tag of the camera's orientation, of which half are by a quarter turn.
ORIENTATION, QUARTER_TURNED = 0x0112, 5


def _is_colour(image: Image.Image) -> bool:
    if image.mode == "P" and image.palette:
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return bool(np.ptp(palette, axis=1).any())
    return image.mode in ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "PA")


def _opened(source: Path | BinaryIO) -> Image.Image:
    """Raises ValueError where Pillow finds that it is none, or takes it for a bomb."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(source, formats=DECODERS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(
            f"a picture of at most {Image.MAX_IMAGE_PIXELS:,} pixels expected, found more"
        ) from None
    except UnidentifiedImageError:
        raise ValueError("a PNG or JPEG picture expected, found a damaged header") from None


def _on_paper(image: Image.Image) -> Image.Image:
    """Transparent where there is no ink: dark ink goes on white, light ink on black."""
    grey, alpha = image.getchannel("L"), image.getchannel("A")
    ink = np.average(np.asarray(grey), weights=np.asarray(alpha)) if alpha.getbbox() else 0.0
    paper = Image.new("L", image.size, 255 if ink < 128 else 0)
    paper.paste(grey, mask=alpha)
    return paper


def _npy(content: bytes) -> NDArray[Any]:
    """The array of an .npy file, once its header agrees with the file's length."""
    file = io.BytesIO(content)
    shape, by_columns, dtype = header(file)
    if dtype.kind not in "biuf":
        raise ValueError(f"an array of numbers expected, found {dtype}")
    found = len(content) - file.tell()
    if math.prod(shape) * dtype.itemsize != found:
        raise ValueError(f"{dtype} {shape} expected as its header says, found {found:,} bytes")
    return np.frombuffer(file.read(), dtype).reshape(shape, order="F" if by_columns else "C")


def _csv(content: bytes) -> NDArray[Any]:
    """Rows of numbers, separated by commas, semicolons, tabs or spaces."""
    rows: list[NDArray[np.float32]] = []
    for number, line in enumerate(io.BytesIO(content), 1):
        if len(line) > LONGEST_LINE or number > MOST_LINES:
            raise ValueError(f"{FORMS} expected, found too long a line or too many lines for a CSV")
        row = _numbers(number, line.removeprefix(codecs.BOM_UTF8))
        if row.size and rows and row.size != rows[0].size:
            raise ValueError(
                f"line {number}: {rows[0].size} numbers expected as in the line before, "
                f"found {row.size}"
            )
        rows += [row] if row.size else []
    if not rows:
        raise ValueError(f"{FORMS} expected, found an empty file")
    return np.stack(rows)


def _numbers(number: int, line: bytes) -> NDArray[np.float32]:
    try:
        text = line.decode("ascii").strip()
        separator = next((mark for mark in ",;\t" if mark in text), None)
        return np.array(text.split(separator) if text else [], dtype=np.float32)
    except ValueError:
        raise ValueError(
            f"{FORMS} expected; line {number} does not consist of numbers: {line[:20]!r}"
        ) from None


def _stacked(numbers: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Any number of pictures as (n, height, width)."""
    n_x = math.prod(shape)
    if not 0 < numbers.size <= LARGEST_PICTURE:
        raise ValueError(f"1 to {LARGEST_PICTURE:,} pixels expected, found shape {numbers.shape}")
    if numbers.shape == (n_x,) or (numbers.ndim == 2 and numbers.shape[1] == n_x != len(numbers)):
        numbers = numbers.reshape(-1, *shape)
    if numbers.ndim == 2:
        numbers = numbers[np.newaxis]
    if numbers.ndim == 4 and numbers.shape[3] == 1:
        numbers = numbers[..., 0]
    if numbers.ndim != 3 or len(numbers) > MOST_PICTURES:
        raise ValueError(
            f"(h, w), (n, h, w) or (n, {n_x}) expected, with n up to {MOST_PICTURES:,}, "
            f"found shape {numbers.shape}"
        )
    return numbers


def _unit(values: NDArray[Any]) -> Pixels:
    """Numbers of any range as float32 in [0, 1], or from −1 where they are negative."""
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("finite numbers expected, found NaN or a number that is too large")
    unit: Pixels = values / max(np.abs(values).max(), np.float32(1e-30))
    return unit


def _shrunk(image: Image.Image) -> Pixels:
    """Float32 in [0, 1], averaged over squares of pixels where the picture is large."""
    factor = max(1, max(image.size) // WORKING_SIZE)
    white = np.float32(255 if image.mode == "L" else 1)
    pixels: Pixels = np.asarray(image.reduce(factor), np.float32) / white
    return pixels
