"""Time to accuracy: from process start to a test accuracy, by recipes that were fixed beforehand.

Nothing here chooses anything: a recipe's hyperparameters come from a validation split, its number
of epochs is part of it, and every seed counts, also one that does not get there.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import processes
from benchmarks.contenders import JAXNN
from benchmarks.processes import SCRIPTS, FailedError, Watched
from benchmarks.setup import Result, Setup
from benchmarks.tables import mean_and_deviation, table

TITLE = "Time to accuracy: process start to a test accuracy, mean ± standard deviation over seeds"


class Attempt(NamedTuple):
    """Targets in per cent, who tries, and how; the first target is tried with `--seeds` seeds."""

    targets: tuple[float, ...]
    contender: str
    script: str
    flags: tuple[str, ...] = ()


FIRST = (98.0,)
ATTEMPTS = (
    Attempt(FIRST, JAXNN, "train.py", ("--recipe", "fast")),
    Attempt(FIRST, "PyTorch fused SGD", "campaigns/peers/torch_recipe.py"),
    Attempt(FIRST, "Flax NNX + optax", "campaigns/peers/flax_recipe.py"),
    Attempt((99.0, 99.5), JAXNN, "train.py", ("--recipe", "elastic")),
)

#: "epoch 2: test accuracy 97.9 %", or as scripts/train.py has it, or the summary at the end.
ACCURACY = re.compile(r"^(?:epoch .*\btest |test )(?:accuracy )?([\d.]+)\s?%")


def measure(setup: Setup) -> Result:
    """A round per seed, in which every attempt takes its turn."""
    attempts = [a for a in ATTEMPTS if a.contender in setup.chosen({a.contender: a})]
    if setup.quick or not setup.long_seeds:
        attempts = [a for a in attempts if a.targets == FIRST]
    found: list[Result] = [{**_described(a), "runs": []} for a in attempts]
    for seed in range(setup.seeds):
        for attempt, entry in zip(attempts, found, strict=True):
            few = attempt.targets != FIRST
            if "skipped" in entry or (few and seed >= setup.long_seeds):
                continue
            setup.notify(f"accuracy: {attempt.contender}, {entry['recipe']}, seed {seed}")
            command = [str(SCRIPTS / attempt.script), *attempt.flags]
            command += ["--data", setup.data, "--seed", str(seed)]
            try:
                watched = processes.watch(command, setup.folder / f"{attempt.contender}-cache")
                entry["runs"].append(outcome(watched, attempt.targets))
            except FailedError as error:
                entry["skipped"] = str(error)
    return {"attempts": found}


def _described(attempt: Attempt) -> Result:
    recipe = " ".join(attempt.flags[1:]) or "fast"
    return {"targets": attempt.targets, "contender": attempt.contender, "recipe": recipe}


def outcome(watched: Watched, targets: Sequence[float]) -> Result:
    """Seconds to the first line whose test accuracy is a target or above (None: there is none), for
    each; to the process's end; and the accuracy that the recipe ends with.
    """
    lines = [
        (second, float(match[1]))
        for second, line in watched.lines
        if (match := ACCURACY.match(line.strip()))
    ]
    reached = [next((s for s, accuracy in lines if accuracy >= t), None) for t in targets]
    return {"reached": reached, "end": watched.seconds, "accuracy": lines[-1][1]}


def report(result: Result) -> str:
    """A line per attempt and target."""
    rows = []
    for entry in result["attempts"]:
        if "skipped" in entry:
            name = f"{entry['contender']}, recipe {entry['recipe']}"
            rows.append([name, f"skipped: {entry['skipped']}"])
            continue
        runs = entry["runs"]
        for place, target in enumerate(entry["targets"]):
            reached = [r["reached"][place] for r in runs if r["reached"][place] is not None]
            rows.append(
                [
                    f"{target:g} %, {entry['contender']}, recipe {entry['recipe']}",
                    mean_and_deviation(reached, 2),
                    f"{len(reached)} of {len(runs)}",
                    mean_and_deviation([run["accuracy"] for run in runs], 2),
                    mean_and_deviation([run["end"] for run in runs], 2),
                ]
            )
    return table(["", "s to target", "seeds there", "accuracy at end %", "s to end"], rows)
