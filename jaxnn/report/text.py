"""Plain text for a terminal or a pipe: aligned columns, and images in blocks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

SHADES = " ░▒▓█"
ASCII_SHADES = " .:*#"


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows of cells, each column as wide as its widest cell; those in `right` are set right.

    Characters that do not print, such as a file name's line feeds and terminal escapes, are shown
    as Python escapes.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]

    def padded(index: int, cell: str) -> str:
        space = " " * (widths[index] - cell_len(cell))
        return space + cell if index in right else cell + space

    lines = ("  ".join(padded(i, cell) for i, cell in enumerate(row)).rstrip() for row in cells)
    return "\n".join(lines)


def blocks(image: NDArray[Any], encoding: str | None) -> str:
    """An image (h, w) in [0, 1], two characters to a pixel, the brighter the denser."""
    shades = SHADES if _can_show(SHADES, encoding) else ASCII_SHADES
    levels = np.minimum((image * len(shades)).astype(int), len(shades) - 1)
    levels = np.where(image > 0, np.maximum(levels, 1), 0)
    return "\n".join("".join(2 * shades[level] for level in row).rstrip() for row in levels)


def printable(text: str) -> str:
    """`text` with whatever does not print as Python escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _can_show(characters: str, encoding: str | None) -> bool:
    try:
        characters.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
