"""Where pictures are drawn: without pyplot, in one style, into PNG files."""

import io
import os
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from jaxnn.errors import StorageError
from jaxnn.io.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150

#: Points of the smallest text in a picture.
SMALLEST = 9
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "figure.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,
    "figure.constrained_layout.use": True,
}

#: Inches, and pictures in a row.
TILE = 1.2
GALLERY_COLUMNS = 6


def write(path: Path, draw: Callable[[], "Figure"]) -> None:
    """Draw a figure into a PNG file, atomically. Raises `StorageError` where that fails."""
    content = png(draw)
    try:
        write_bytes(path, content)
    except OSError as error:
        raise StorageError(f"{path}: cannot write the picture: {error.strerror}") from error


def png(draw: Callable[[], "Figure"]) -> bytes:
    """A figure as PNG, in matplotlib's default style with ours on top, whatever the user's is."""
    matplotlib = _matplotlib()
    file = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may hold characters that the font lacks
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        draw().savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def blank(width: float, height: float) -> "Figure":
    """Without pyplot: nothing global, no window, no memory kept."""
    _matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _matplotlib() -> Any:
    """Imported without a look at MPLBACKEND: hosted notebooks set it, for every command that they
    start, to a backend of their own, which matplotlib then refuses to be imported without.
    """
    named = os.environ.pop("MPLBACKEND", None)
    try:
        return import_module("matplotlib")
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named


def gallery(images: Sequence[NDArray[Any]], captions: Sequence[str], title: str) -> "Figure":
    """Pictures of ink in [0, 1], dark on white, each with up to two lines below; all in inches."""
    columns = min(GALLERY_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    step_x, step_y = TILE + 0.25, TILE + 0.6
    width, height = max(columns * step_x, 5.6), rows * step_y + 0.65
    figure = blank(width, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.text(width / 2, 0.3, title, ha="center", va="center", size="large")
    left = (width - columns * step_x) / 2
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = left + (place % columns + 0.5) * step_x, 0.65 + place // columns * step_y
        wide, high = (TILE * side / max(image.shape[:2]) for side in image.shape[1::-1])
        extent = (x - wide / 2, x + wide / 2, y + high, y)
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", extent=extent)
        axes.text(x, y + TILE + 0.05, caption, ha="center", va="top")
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure
