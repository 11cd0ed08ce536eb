"""The whole job: from process start to the final table, the first epoch on the way, and memory.

Cold is a start that finds nothing kept by an earlier one: its user's cache directory is new. Warm
is the next start with the same directory. The operating system's own file cache is warm in both.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import processes
from benchmarks.contenders import JAXNN
from benchmarks.processes import SCRIPTS, FailedError, Watched
from benchmarks.setup import Result, Setup
from benchmarks.tables import spread, table

TITLE = "The whole job: process start to the first epoch's end, to the final table, to the end"


class Job(NamedTuple):
    """A script of its own, and whether it keeps anything for a later start."""

    script: str
    keeps: bool


#: The names are those of `CONTENDERS`.
JOBS = {
    JAXNN: Job("train.py", keeps=True),
    "PyTorch fused SGD": Job("campaigns/peers/torch_autograd.py", keeps=False),
    "NumPy, the document's": Job("campaigns/peers/numpy_document.py", keeps=False),
}

#: How the last row of the final table begins.
TABLE = "weighted avg"


def measure(setup: Setup) -> Result:
    """Every job in turn, cold and, where that can differ, warm."""
    found: Result = {}
    for turn in range(setup.repeats):
        for name, job in setup.chosen(JOBS).items():
            setup.notify(f"job: {name}, {turn + 1} of {setup.repeats}")
            command = [str(SCRIPTS / job.script), "--data", setup.data]
            command += ["--epochs", str(setup.epochs)]
            try:
                for state, watched in starts(command, job, setup.folder / f"{job.script}-{turn}"):
                    found.setdefault(name, {}).setdefault(state, []).append(figures(watched))
            except FailedError as error:
                if name == JAXNN:
                    raise
                found[name] = {"skipped": str(error)}
    return {"epochs": setup.epochs, "contenders": found}


def starts(command: list[str], job: Job, cache: Path) -> Iterator[tuple[str, Watched]]:
    """A cold start and, where the job keeps anything, a warm one."""
    yield "cold", processes.watch(command, cache)
    if job.keeps:
        yield "warm", processes.watch(command, cache)


def figures(watched: Watched) -> Result:
    """Seconds to the first epoch's end, the table and the end of the process; peak bytes."""
    return {
        "first_epoch": watched.first("epoch"),
        "table": watched.first(TABLE),
        "end": watched.seconds,
        "peak_memory": watched.peak_memory,
    }


def report(result: Result) -> str:
    """A line per contender and state."""
    rows = []
    found = result["contenders"]
    base = _median(found.get(JAXNN, {}).get("cold", []), "table")
    for name, states in found.items():
        if "skipped" in states:
            rows.append([name, f"skipped: {states['skipped']}"])
            continue
        for state, runs in states.items():
            seconds = [cell for key in ("first_epoch", "table") for cell in _cells(runs, key)]
            ratio = f"{_median(runs, 'table') / base:.2f}" if base else "—"
            end, peak = f"{_median(runs, 'end'):.2f}", f"{_median(runs, 'peak_memory') / 1e6:.0f}"
            rows.append([f"{name}, {state}", *seconds, ratio, end, peak])
    header = ["", "first epoch s", "min", "max", "table s", "min", "max", "to cold jaxnn"]
    return f"{result['epochs']} epochs\n" + table([*header, "end s", "peak MB"], rows)


def _cells(runs: list[Result], key: str) -> list[str]:
    return spread([run[key] for run in runs], 2)


def _median(runs: list[Result], key: str) -> float:
    return statistics.median(run[key] for run in runs) if runs else 0.0
