"""Growth: throughput as a share of the machine's, along width, batch, depth and examples."""

import statistics
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import contenders, processes
from benchmarks.contenders import CONTENDERS, JAXNN
from benchmarks.problem import Spec, operations, written
from benchmarks.setup import Result, Setup
from benchmarks.tables import table

TITLE = "Growth: operations per second of training, as a share of the measured rate of products"

#: The epochs of a point: the first compiles.
EPOCHS = 3
GROWING = (JAXNN, "PyTorch fused SGD", "PyTorch by hand")


class Axis(NamedTuple):
    """What grows, and over which values; all else is the document's."""

    label: str
    values: tuple[int, ...]
    quick: tuple[int, ...]


AXES = {
    "width": Axis("hidden units", (16, 64, 256, 800, 1024, 4096), (8,)),
    "wide": Axis("hidden units, batches of 1,024", (64, 256, 800, 1024, 2048, 4096), (8,)),
    "batch": Axis("examples per batch", (16, 64, 256, 1024, 4096, 8192), (16,)),
    "depth": Axis("hidden layers of 64", (1, 2, 4, 8), (2,)),
    "examples": Axis("examples", (1_000, 10_000, 60_000, 1_000_000), (200,)),
}

#: Examples of an epoch where something else grows: a multiple of every batch.
ROWS = 32_768


def measure(setup: Setup) -> Result:
    """Every contender in turn along every axis; the picture is drawn into `setup.out`."""
    rate = processes.ask("benchmarks.machine", {"quick": setup.quick})
    found: Result = {}
    taking_part = setup.chosen({name: CONTENDERS[name] for name in GROWING})
    for axis, (_, full, quick) in AXES.items():
        values = quick if setup.quick else full
        specs = [spec_of(setup, axis, value) for value in values]
        work = [operations(*sizes) for sizes in written(specs)]
        lines: Result = {}
        for turn in range(setup.repeats):
            for name, contender in taking_part.items():
                setup.notify(f"growth: {axis}, {name}, {turn + 1} of {setup.repeats}")
                _add(lines, name, contenders.run(name, contender, specs))
        found[axis] = {"values": values, "operations": work, "contenders": lines}
    result = {"operations_per_second": rate, "axes": found}
    setup.out.mkdir(parents=True, exist_ok=True)
    draw(result, setup.out / "growth.png")
    return {**result, "picture": str(setup.out / "growth.png")}


def spec_of(setup: Setup, axis: str, value: int) -> Spec:
    """The point of `axis` at `value`. The small learning rate keeps every network's loss finite."""
    rows = 128 if setup.quick else ROWS
    base = Spec("", setup.data, epochs=EPOCHS, rows=rows, lr=0.01)
    changes: dict[str, dict[str, Any]] = {
        "width": {"n_h": (value,)},
        "wide": {"n_h": (value,), "batch_size": min(1024, rows)},
        "batch": {"batch_size": value},
        "depth": {"n_h": (64,) * value},
        "examples": {"rows": value},
    }
    return base._replace(place=str(setup.folder / f"{axis}-{value}.npz"), **changes[axis])


def _add(lines: Result, name: str, results: list[Result] | Result) -> None:
    if isinstance(results, dict):
        lines[name] = results
    elif "skipped" not in lines.setdefault(name, {"seconds": [[] for _ in results]}):
        for seconds, point in zip(lines[name]["seconds"], results, strict=True):
            seconds += point["seconds"]


def shares(result: Result, axis: str, name: str) -> list[float]:
    """The contender's operations per second at every value, over the measured rate."""
    found = result["axes"][axis]
    seconds = found["contenders"][name]["seconds"]
    rate = result["operations_per_second"]
    return [
        work / statistics.median(s) / rate
        for work, s in zip(found["operations"], seconds, strict=True)
    ]


def measured(result: Result, axis: str) -> list[str]:
    """The contenders that were not skipped."""
    return [n for n, line in result["axes"][axis]["contenders"].items() if "seconds" in line]


def report(result: Result) -> str:
    """A table per axis: a line per contender, in per cent of the measured rate."""
    parts = [f"measured rate: {result['operations_per_second'] / 1e9:.0f} GFLOP/s"]
    for axis, found in result["axes"].items():
        rows = [
            [name, *(f"{share:.1%}" for share in shares(result, axis, name))]
            for name in measured(result, axis)
        ]
        rows += [
            [name, f"skipped: {line['skipped']}"]
            for name, line in found["contenders"].items()
            if "skipped" in line
        ]
        header = [AXES[axis].label, *(f"{value:,}" for value in found["values"])]
        parts.append(table(header, rows))
    return "\n".join([*parts, f"picture: {result['picture']}"])


def draw(result: Result, path: Path) -> None:
    """A log-log panel per axis: share of the measured rate against what grows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 7), layout="constrained")
    panels = figure.subplots(2, 3, sharey=True).flat
    for panel, (axis, found) in zip(panels, result["axes"].items(), strict=False):
        for name in measured(result, axis):
            panel.loglog(found["values"], shares(result, axis, name), marker="o", label=name)
        panel.axhline(1, color="grey", linewidth=0.8, linestyle="--")
        panel.set_xticks(found["values"], [f"{value:,}" for value in found["values"]], rotation=45)
        panel.set_xticks([], minor=True)
        panel.set_xlabel(AXES[axis].label)
        panel.grid(which="both", alpha=0.2)
    figure.supylabel("share of the measured rate of products")
    for panel in figure.axes[len(result["axes"]) :]:
        panel.axis("off")
    figure.axes[0].legend()
    figure.savefig(path, dpi=150)
