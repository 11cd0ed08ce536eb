"""What a person gets of a sweep: a line for each epoch, a table, files, a heat map, the best run.

results.json      every point with its means and its runs, and which run is the best
histories.jsonl   a line for every run: its configuration, and the records of its epochs
table.txt         the table of the points, best first
heat_map.png      the mean validation loss of every point
best/             the best run, as `scripts/train.py` leaves one
"""

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from rich import progress

from jaxnn.data import Dataset
from jaxnn.errors import StorageError
from jaxnn.io.files import write_bytes, write_json
from jaxnn.report import canvas, console, plots
from jaxnn.report.text import columns
from jaxnn.training.config import Config
from jaxnn.training.grid import CONFIDENCE, Interval, Point, best_point, best_run, point_of
from jaxnn.training.sweep import SweepStatus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS, HISTORIES, TABLE, HEAT_MAP, BEST = (
    "results.json", "histories.jsonl", "table.txt", "heat_map.png", "best",
)  # fmt: skip

#: The settings that a sweep varies.
AXES = ("n_h", "activation", "batch_size", "lr", "beta")


def summary(dataset: Dataset, configs: Sequence[Config]) -> None:
    """The data, the grid and the devices, before anything is computed."""
    values = {axis: dict.fromkeys(getattr(config, axis) for config in configs) for axis in AXES}
    settings = "; ".join(
        f"{axis} {' '.join(shown(value) for value in found)}" for axis, found in values.items()
    )
    seeds = len({config.seed for config in configs})
    devices = jax.devices()
    console.rich_console().print(
        f"data      {dataset.name}: {dataset.n_train:,} training examples, from {dataset.origin}\n"
        f"grid      {settings}\n"
        f"runs      {len(configs)}: {len(configs) // seeds} × {seeds} seeds, "
        f"{configs[0].epochs} epochs\n"
        f"devices   {len(devices)} × {devices[0].platform} ({devices[0].device_kind}), "
        f"jax {jax.__version__}"
    )


#: The axes whose values lie in an order that goes on beyond the grid.
ORDERED = ("batch_size", "lr", "beta")


def at_edge(best: Point, configs: Iterable[Config]) -> dict[str, str]:
    """The axes with several values of which the best point has the largest or the smallest,
    where there are others beyond."""
    found = {}
    for axis in ORDERED:
        values, value = {getattr(config, axis) for config in configs}, getattr(best.config, axis)
        is_last = axis == "beta" and value == 0  # no momentum: there is none smaller
        if len(values) > 1 and value in (min(values), max(values)) and not is_last:
            found[axis] = "largest" if value == max(values) else "smallest"
    return found


def choice(best: Point, config: Config, configs: Collection[Config]) -> None:
    """Which point validation chose of the grid `configs`, which of its runs is kept, and whether
    it lies at the grid's edge."""
    names = ", ".join(f"{axis} {shown(getattr(config, axis))}" for axis in AXES)
    console.rich_console().print(
        f"chosen    {names}; of its runs seed {config.seed} has the lowest validation loss, "
        f"{best.runs[config]['validation_loss']:.4f} after epoch {best.runs[config]['epoch']}"
    )
    for axis, end in at_edge(best, configs).items():
        beyond = "larger" if end == "largest" else "smaller"
        console.advise(
            f"`{axis}` {shown(getattr(best.config, axis))} is the {end} of the sweep, at the "
            f"grid's edge: a {beyond} value may be better"
        )


def epochs(steps: Iterable[SweepStatus], configs: Sequence[Config]) -> Iterator[SweepStatus]:
    """Pass the sweep through: a line for each epoch, and on a terminal a bar with the time left."""
    out = console.rich_console()
    bar = progress.Progress(
        progress.TextColumn("networks × epochs"),
        progress.MofNCompleteColumn(),
        progress.BarColumn(bar_width=None),
        progress.TextColumn("time left"),
        progress.TimeRemainingColumn(),
        console=out,
        transient=True,
        disable=not out.is_terminal,
    )
    with bar:
        task = bar.add_task("training", total=sum(config.epochs for config in configs))
        names = differing(configs)
        for status in steps:
            out.print(_line(status, names))
            bar.update(task, completed=status.done)
            yield status


def _line(status: SweepStatus, names: Sequence[str]) -> str:
    chunk, epoch, last = status.chunk, status.epoch, status.chunk[0].epochs
    numbers = f"runs {status.first + 1} to {status.first + len(chunk)} of "
    start = f"{numbers}{len(status.histories)}: epoch {epoch:>{len(str(last))}}/{last}"
    losses = {
        config: status.histories[config][-1]["validation_loss"]
        for config in chunk
        if config not in status.diverged
    }
    if not losses:
        return f"{start}   every run has diverged   {status.seconds:.2f} s"
    best = min(losses, key=lambda config: losses[config])
    which = ", ".join(f"{name} {shown(getattr(best, name))}" for name in names)
    lost = f", {len(chunk) - len(losses)} diverged" if len(losses) < len(chunk) else ""
    return (
        f"{start}   validation loss: mean {np.mean(list(losses.values())):.4f}, lowest "
        f"{losses[best]:.4f} ({which}, seed {best.seed}){lost}   "
        f"{status.seconds:.2f} s"
    )


def varying(points: Sequence[Point]) -> list[str]:
    """The settings in which the points differ; learning rate and momentum in any case."""
    return differing([point.config for point in points])


def differing(configs: Sequence[Config]) -> list[str]:
    """The settings in which networks differ; learning rate and momentum in any case."""
    different = {name for name in AXES if len({getattr(config, name) for config in configs}) > 1}
    return [name for name in AXES if name in different | {"lr", "beta"}]


def table(points: Sequence[Point]) -> str:
    """The points as text, best first: settings, number of runs, means ± half a 95 % interval."""
    names = varying(points)
    ordered = sorted(points, key=lambda p: (p.diverged, p.loss.mean if p.loss else math.inf))
    header = [*names, "runs", "diverged", "validation loss", "validation accuracy", "epoch"]
    rows = [
        [
            *(shown(getattr(point.config, name)) for name in names),
            str(len(point.runs) + point.diverged),
            str(point.diverged),
            _text(point.loss, 1, "{:.4f}"),
            _text(point.accuracy, 100, "{:.2f}", " %"),
            _epochs(point),
        ]
        for point in ordered
    ]
    return columns([header, *rows], right=range(len(header))) + "\n"


def _text(interval: Interval | None, factor: float, form: str, unit: str = "") -> str:
    if interval is None:
        return "–"
    mean = form.format(factor * interval.mean)
    half = f" ± {form.format(factor * interval.half)}" if interval.n > 1 else ""
    return f"{mean}{half}{unit}"


def _epochs(point: Point) -> str:
    found = sorted({record["epoch"] for record in point.runs.values()})
    return "–".join(str(epoch) for epoch in dict.fromkeys((found[0], found[-1]))) if found else "–"


def shown(value: Any) -> str:
    """A setting as the flags have it."""
    if isinstance(value, tuple):
        return "x".join(map(str, value)) or "0"
    return f"{value:g}" if isinstance(value, float) else str(value)


def figures(status: SweepStatus, points: Sequence[Point]) -> dict[str, Any]:
    """What `results.json` says of the points and of the best run; losses in nats."""
    best = best_point(points)
    return {
        "complete": status.done == status.total,
        "confidence": CONFIDENCE,
        "best": None
        if best is None
        else {
            "config": best_run(best).to_dict(),
            "folder": BEST,
            "at_edge": at_edge(best, status.histories),
        },
        "points": [
            {
                **{name: point.config.to_dict()[name] for name in AXES},
                "validation_loss": _numbers(point.loss),
                "validation_accuracy": _numbers(point.accuracy),
                "runs": [
                    {
                        "seed": config.seed,
                        "epochs": len(status.histories[config]),
                        "diverged_in_epoch": status.diverged.get(config),
                        "chosen": dict(point.runs[config]) if config in point.runs else None,
                    }
                    for config in status.histories
                    if point_of(config) == point.config
                ],
            }
            for point in points
        ],
    }


def _numbers(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    half = None if math.isnan(interval.half) else interval.half
    return {"mean": interval.mean, "half_width": half, "n": interval.n}


def heat_map(points: Sequence[Point], name: str) -> "Figure":
    """The points' mean validation losses over the two settings that have the most values."""
    values = {axis: sorted({getattr(p.config, axis) for p in points}) for axis in reversed(AXES)}
    order = sorted(values, key=lambda axis: (-len(values[axis]), axis != "lr", axis != "beta"))
    across, down, *others = order
    panels: dict[str, Any] = {}
    for point in points:
        several = (axis for axis in reversed(others) if len(values[axis]) > 1)
        title = ", ".join(f"{axis} {shown(getattr(point.config, axis))}" for axis in several)
        cells = np.full((2, len(values[down]), len(values[across])), np.nan)
        panel = panels.setdefault(title, cells)
        row, column = (values[axis].index(getattr(point.config, axis)) for axis in (down, across))
        if point.loss and not point.diverged:
            panel[:, row, column] = point.loss.mean, point.loss.half
    labels = {axis: [shown(value) for value in values[axis]] for axis in (down, across)}
    return plots.heat_map(panels, (down, labels[down]), (across, labels[across]), name)


def write(
    folder: Path,
    status: SweepStatus,
    points: Sequence[Point],
    more: Mapping[str, Any],
    name: str,
    pictures: bool,
) -> None:
    """Table, histories, heat map and, last of all, the figures. Raises `StorageError`."""
    lines = (
        json.dumps({"config": config.to_dict(), "history": history}, allow_nan=False) + "\n"
        for config, history in status.histories.items()
    )
    try:
        write_bytes(folder / TABLE, table(points).encode())
        write_bytes(folder / HISTORIES, "".join(lines).encode())
        if pictures and best_point(points):
            canvas.write(folder / HEAT_MAP, lambda: heat_map(points, name))
        write_json(folder / RESULTS, {**more, **figures(status, points)})
    except OSError as error:
        raise StorageError(f"{folder}: cannot write the results: {error.strerror}") from error
