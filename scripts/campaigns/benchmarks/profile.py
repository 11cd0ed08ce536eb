"""Where the time of an epoch goes, by the line of the source that each operation comes from.

`python -m benchmarks.profile` traces one epoch in this process: {"data"} on standard input. XLA's
own trace says how long each operation of the compiled program took, the program's text which line
it was traced from. Tracing costs about half a microsecond per operation.
"""

import json
import linecache
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import processes
from benchmarks.problem import operations
from benchmarks.setup import Result, Setup
from benchmarks.tables import table

TITLE = "Profile: microseconds per step, by the line of the source"

#: Whose lines are named: this package's, and those of optax, which the optimiser is made of.
PACKAGES = ("jaxnn", "optax")

#: "12 {file_name_id=1 line=5 …}" and "7 "mlp.py"", in the tables that precede a program's text.
ENTRY = re.compile(r'^(\d+) (?:\{(.*)\}|"(.*)")$')
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = .*stack_frame_id=(\d+)")

#: Microseconds per step below which a line is not worth one.
SHOWN = 0.1

#: Operations that contain others.
CONTAINERS = ("while", "call", "conditional")


class Place(NamedTuple):
    """A line of a file of one of the `PACKAGES`."""

    file: Path
    line: int

    def __str__(self) -> str:
        parts = self.file.parts
        package = max(i for i, name in enumerate(parts) if name in PACKAGES)
        return f"{'/'.join(parts[package:])}:{self.line}"

    @property
    def text(self) -> str:
        return linecache.getline(str(self.file), self.line).strip()


def measure(setup: Setup) -> Result:
    """The trace of one epoch, and the time that the machine's product rate allows a step."""
    setup.notify("profile")
    rate = processes.ask("benchmarks.machine", {"quick": setup.quick})
    found: Result = processes.ask("benchmarks.profile", {"data": setup.data})
    limit = operations(found["sizes"], found["batch_size"]) / rate * 1e6
    return {**found, "limit": limit}


def report(result: Result) -> str:
    """A row per line of the source, the slowest first."""
    whole = result["traced"]
    rows = [
        [entry["text"][:64], entry["place"], f"{entry['us']:.1f}", f"{entry['us'] / whole:.0%}"]
        for entry in result["lines"]
    ]
    rest = whole - sum(entry["us"] for entry in result["lines"])
    rows += [["all else, and between the operations", "", f"{rest:.1f}", f"{rest / whole:.0%}"]]
    return (
        f"a step of {result['batch_size']} examples: {result['untraced']:.1f} µs, traced "
        f"{whole:.1f}; its products at the measured rate of large ones: {result['limit']:.1f}\n"
        + table(["", "", "µs", "share"], rows)
    )


def answer(request: Mapping[str, Any]) -> Result:
    """Trace an epoch of the document's network after two that are not traced."""
    import jax
    import jax.numpy as jnp

    from jaxnn import data
    from jaxnn.training.config import Config
    from jaxnn.training.loop import epoch_key_and_order, epoch_program, initial_state
    from jaxnn.training.program import Hyperparameters, Program

    dataset, config = data.load(request["data"], progress=None), Config()
    hyper = Hyperparameters.of(config, dataset.n_train)
    program = epoch_program(dataset, config, Program.of(config, dataset), hyper)
    examples = jax.device_put((dataset.x_train, dataset.y_train))
    scale = jnp.float32(dataset.scale)
    state = initial_state(config, dataset.n_x, dataset.n_classes)

    def epoch(number: int) -> float:
        nonlocal state
        key, order = jax.block_until_ready(epoch_key_and_order(config, number, dataset.n_train))
        begun = time.perf_counter()
        state = jax.block_until_ready(program(state, *examples, scale, key, hyper, order))
        return time.perf_counter() - begun

    untraced = min(epoch(number) for number in range(1, 6))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            traced = epoch(6)
        spent = by_operation(folder)
    steps = -(-dataset.n_train // config.batch_size)
    lines: dict[Place, float] = defaultdict(float)
    for name, place in places(program.as_text() or ""):
        lines[place] += spent.get(name, 0.0) / steps
    slowest = sorted(lines.items(), key=lambda line: -line[1])
    return {
        "sizes": [dataset.n_x, *config.n_h, dataset.n_classes],
        "batch_size": config.batch_size,
        "untraced": untraced / steps * 1e6,
        "traced": traced / steps * 1e6,
        "lines": [
            {"place": str(place), "text": place.text, "us": us}
            for place, us in slowest
            if us >= SHOWN
        ],
    }


def by_operation(folder: str) -> dict[str, float]:
    """Microseconds of each operation in the trace that lies there, over all of its calls."""
    from jax.profiler import ProfileData

    spent: dict[str, float] = defaultdict(float)
    for path in Path(folder).rglob("*.xplane.pb"):
        for plane in ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                for event in line.events:
                    spent[event.name] += event.duration_ns / 1e3
    return spent


def places(text: str) -> Iterator[tuple[str, Place]]:
    """Each operation of a compiled program, and the innermost line of `PACKAGES` it is from."""
    tables: dict[str, dict[str, str]] = defaultdict(dict)
    heading = ""
    for row in text.splitlines():
        entry, instruction = ENTRY.match(row), INSTRUCTION.match(row)
        if entry:
            tables[heading][entry[1]] = entry[2] or entry[3]
        elif row.isalpha():
            heading = row
        elif instruction and not instruction[1].startswith(CONTAINERS):
            place = _innermost(tables, instruction[2])
            if place:
                yield instruction[1], place


def _innermost(tables: Mapping[str, Mapping[str, str]], frame: str) -> Place | None:
    while True:
        here = _fields(tables["StackFrames"][frame])
        location = _fields(tables["FileLocations"][here["file_location_id"]])
        path = Path(tables["FileNames"][location["file_name_id"]])
        if set(PACKAGES) & set(path.parts):
            return Place(path, int(location["line"]))
        if here["parent_frame_id"] == frame:
            return None
        frame = here["parent_frame_id"]


def _fields(entry: str) -> dict[str, str]:
    return dict(field.split("=") for field in entry.split())


if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))))
