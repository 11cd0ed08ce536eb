"""Pictures in a folder for each class: train/cat/1.png …, or cat/1.png … without a test part.

The folders' names are the classes'. The form of a picture is recognised from its first bytes.
"""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnn.data.blame import blame
from jaxnn.data.field import Field, Values
from jaxnn.data.labels import natural
from jaxnn.data.roles import PARTS, words
from jaxnn.errors import DataError

#: How a picture begins, which Pillow reads.
BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"P5", b"P6", b"GIF8")

#: Files of a folder that are looked at to see whether it holds pictures.
LOOKED_AT = 8


class Pictures(NamedTuple):
    """Those of one part, by class: all files of a folder that begin as a picture does."""

    folder: Path
    files: tuple[Path, ...]
    classes: tuple[int, ...]
    names: tuple[str, ...]


def found(folder: Path) -> dict[str, Path]:
    """The folders of the parts, by part; "train" alone where there is no test part; else none."""
    inner = subfolders(folder)
    named = {part: path for path in inner for part in PARTS if words(path.name) == [part]}
    for path in inner:
        for part, synonyms in PARTS.items():
            if set(words(path.name)) & synonyms:
                named.setdefault(part, path)
    named = {part: path for part, path in named.items() if holds_classes(path)}
    if "train" in named:
        return named
    return {"train": folder} if holds_classes(folder) else {}


def holds_classes(folder: Path) -> bool:
    """Whether there are two folders or more with pictures in it."""
    return sum(holds_pictures(path) for path in subfolders(folder)) > 1


def holds_pictures(folder: Path) -> bool:
    files = (path for path in folder.iterdir() if path.is_file() and path.name[:1] != ".")
    return any(is_picture(path) for path in islice(files, LOOKED_AT))


def subfolders(folder: Path) -> list[Path]:
    """Those that a person sees, in order."""
    inner = (path for path in folder.iterdir() if path.is_dir() and path.name[:1] not in "._")
    return sorted(inner, key=lambda path: natural(path.name))


def is_picture(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8).startswith(BEGINNINGS)


def arrays(
    parts: dict[str, Path], size: tuple[int, int] | None = None, grey: bool = False
) -> dict[str, Field]:
    """x and y of each part: grey pictures (N, h, w), or (N, h, w, 3) where one has a colour.

    Raises DataError where the pictures have several sizes and no `size` is given.
    """
    with blame(str(parts["train"])):
        listed = {part: _listed(path) for part, path in parts.items()}
    names = listed["train"].names
    for pictures in listed.values():
        strange = [name for name in pictures.names if name not in names]
        if strange:
            raise DataError(
                f"{pictures.folder}: folders as in the training part expected, found {strange[0]}"
            )
    everything = [path for pictures in listed.values() for path in pictures.files]
    shape, remarks = _shape(parts["train"], everything, size, grey)
    found: dict[str, Field] = {}
    for part, pictures in listed.items():
        numbers = [names.index(pictures.names[c]) for c in pictures.classes]
        labels = np.array(numbers, np.int32)
        found[f"{part}/x"] = Field(
            str(pictures.folder),
            (len(pictures.files), *shape),
            np.dtype(np.uint8),
            partial(_pieces, pictures.files, shape),
            remarks=remarks,
        )
        found[f"{part}/y"] = Field(
            str(pictures.folder),
            labels.shape,
            labels.dtype,
            partial(iter, [labels]),
            classes=dict(enumerate(names)),
        )
    return found


def _listed(folder: Path) -> Pictures:
    files: list[Path] = []
    classes: list[int] = []
    names: list[str] = []
    for path in subfolders(folder):
        inside = sorted(
            (p for p in path.iterdir() if p.is_file() and p.name[:1] != "." and is_picture(p)),
            key=lambda p: natural(p.name),
        )
        if inside:
            files += inside
            classes += [len(names)] * len(inside)
            names.append(path.name)
    return Pictures(folder, tuple(files), tuple(classes), tuple(names))


def _shape(
    folder: Path, files: list[Path], size: tuple[int, int] | None, grey: bool
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The shape that all pictures are brought to. Their headers are read, not their pixels."""
    from jaxnn.data import pictures

    sizes: dict[tuple[int, int], int] = {}
    colour = False
    for path in files:
        (w, h), is_colour = pictures.size_of(path)
        sizes[h, w] = sizes.get((h, w), 0) + 1
        colour = colour or is_colour
    if size is None and len(sizes) > 1:
        common = sorted(sizes, key=lambda shape: -sizes[shape])
        shown = ", ".join(f"{h}×{w}" for h, w in common[:3])
        h, w = common[0]
        raise DataError(
            f"{folder}: pictures of one size expected, found {len(sizes):,} sizes such as {shown}: "
            f"`size` {h}x{w} brings all to one"
        )
    h, w = size or next(iter(sizes))
    remarks = () if size is None or set(sizes) == {size} else (f"pictures scaled to {h}×{w}",)
    if colour and grey:
        return (h, w), (*remarks, "colours as grey")
    return ((h, w, 3) if colour else (h, w)), remarks


def _pieces(files: tuple[Path, ...], shape: tuple[int, ...]) -> Iterator[Values]:
    from jaxnn.data import pictures

    for path in files:
        yield pictures.pixels(path, shape).reshape(-1)
