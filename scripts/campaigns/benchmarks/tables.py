"""Figures as text."""

import io
import statistics
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns below `header`, the first to the left and the others to the right."""
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for index, name in enumerate(header):
        grid.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    text = io.StringIO()
    Console(file=text, width=200, markup=False, highlight=False).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")


def spread(values: Sequence[float], digits: int) -> list[str]:
    """Median, minimum and maximum, a cell for each."""
    return [f"{v:.{digits}f}" for v in (statistics.median(values), min(values), max(values))]


def mean_and_deviation(values: Sequence[float], digits: int) -> str:
    """The mean ± the standard deviation of the sample, where there are two values at least."""
    if not values:
        return "—"
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
