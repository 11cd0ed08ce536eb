"""A grid of hyperparameters: its runs, the groups that share a program, and what comes of them.

A *run* is a configuration with its seed; a *point* is one without: the runs of a point differ in
their seeds alone. Runs that differ in nothing but learning rate, momentum and seed share a program.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from jaxnn.training.config import Config
from jaxnn.training.loop import Record, best_epoch

#: What may differ between the runs of one program, which has them as arguments.
ARGUMENTS = ("lr", "beta", "seed")

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean over n runs, and half the width of its confidence interval: NaN where n is 1."""

    mean: float
    half: float
    n: int


class Point(NamedTuple):
    """The runs of a point, each with the epoch that validation chose, and their means.

    `diverged` counts the runs left out because their loss became infinite. `loss` is in nats,
    `accuracy` in [0, 1], both of the validation set; None where every run diverged.
    """

    config: Config
    runs: Mapping[Config, Record]
    diverged: int
    loss: Interval | None
    accuracy: Interval | None


def grid(base: Config, axes: Mapping[str, Sequence[Any]]) -> list[Config]:
    """`base` with every combination of the axes' values, the last axis running fastest."""
    values = (dict.fromkeys(axis) for axis in axes.values())
    return [
        replace(base, **dict(zip(axes, point, strict=True))) for point in itertools.product(*values)
    ]


def groups(configs: Iterable[Config]) -> list[list[Config]]:
    """The runs of each program, in the order of their first."""
    found: dict[Config, list[Config]] = {}
    default = Config()
    for config in configs:
        shared = replace(config, **{name: getattr(default, name) for name in ARGUMENTS})
        found.setdefault(shared, []).append(config)
    return list(found.values())


def point_of(config: Config) -> Config:
    """The point that a run belongs to: its configuration with seed 0."""
    return replace(config, seed=0)


def points(
    histories: Mapping[Config, Sequence[Record]], diverged: Iterable[Config] = ()
) -> list[Point]:
    """Every point of which a run has come to the end of an epoch, in their order."""
    lost = set(diverged)
    found: dict[Config, list[Config]] = {}
    for config, history in histories.items():
        if history or config in lost:
            found.setdefault(point_of(config), []).append(config)
    return [_point(at, configs, histories, lost) for at, configs in found.items()]


def best_point(candidates: Sequence[Point]) -> Point | None:
    """The lowest mean validation loss among the points of which no run diverged, if there is one.

    The first of equals. A point that loses some of its runs is no setting to recommend.
    """
    sound = [(point.loss.mean, point) for point in candidates if point.loss and not point.diverged]
    return min(sound, key=lambda pair: pair[0])[1] if sound else None


def best_run(point: Point) -> Config:
    """The run with the lowest validation loss of its point."""
    return min(point.runs, key=lambda config: float(point.runs[config]["validation_loss"]))


def best_record(history: Sequence[Record]) -> Record:
    """The record of the first epoch with the lowest validation loss."""
    return history[best_epoch(history) - 1]


def interval(values: Sequence[float]) -> Interval:
    """x̄ ± t s/√n: Student's t for the mean of n normal values, s their sample deviation."""
    from scipy import stats

    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Interval(mean, math.nan, n)
    t = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
    return Interval(mean, t * float(np.std(values, ddof=1)) / math.sqrt(n), n)


def _point(
    at: Config,
    configs: Sequence[Config],
    histories: Mapping[Config, Sequence[Record]],
    lost: set[Config],
) -> Point:
    runs = {config: best_record(histories[config]) for config in configs if config not in lost}
    if not runs:
        return Point(at, {}, len(configs), None, None)
    loss, accuracy = (
        interval([record[f"validation_{measure}"] for record in runs.values()])
        for measure in ("loss", "accuracy")
    )
    return Point(at, runs, len(configs) - len(runs), loss, accuracy)
