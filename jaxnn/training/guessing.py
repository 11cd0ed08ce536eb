"""Whether a network has learned anything: it should know more than how frequent each class is."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxnn.training.config import LEARNING_RATES, Config

if TYPE_CHECKING:
    from jaxnn.training.loop import Snapshot

#: Steps in which any usual network leaves guessing behind: networks of four sigmoid layers, which
#: begin on a plateau, take a few hundred. Running means of parameters lag behind by 1/(1 − average)
#: steps: five times as many are left out before.
STEPS, LAG = 1000, 5

#: Standard deviations of an accuracy by chance that count as chance.
DEVIATIONS = 3


class Guess(NamedTuple):
    """What an answer that knows only the classes' shares p_c of `n` examples achieves: the loss
    −Σ p_c log p_c in nats, and the accuracy max p_c."""

    loss: float
    accuracy: float
    n: int


def of_labels(labels: NDArray[Any]) -> Guess:
    """The guess for labels (n,)."""
    counts = np.unique(labels, return_counts=True)[1]
    p = counts / counts.sum()
    return Guess(float(-(p * np.log(p)).sum()), float(p.max()), int(counts.sum()))


def is_no_better(record: Mapping[str, Any], guess: Guess) -> bool:
    """Whether an epoch's training loss and accuracy are both no better than `guess`."""
    chance = math.sqrt(guess.accuracy * (1 - guess.accuracy) / guess.n)
    return bool(
        record["train_loss"] >= guess.loss * (1 - 1e-3)
        and record["train_accuracy"] <= guess.accuracy + DEVIATIONS * chance
    )


def watched(
    steps: Iterable["Snapshot"], labels: NDArray[Any], config: Config, notify: Callable[[str], None]
) -> Iterator["Snapshot"]:
    """Pass the epochs through, and say once if one after the first `STEPS` steps, or the last one
    of a shorter run, is no better than guessing. `labels` are those that the run trains on."""
    guess, said, latest = of_labels(labels), False, None
    patience = STEPS + (LAG / (1 - config.average) if config.average else 0)
    for snapshot in steps:
        latest = snapshot.history[-1]
        due = latest["epoch"] * math.ceil(guess.n / config.batch_size) >= patience
        if due and not said and is_no_better(latest, guess):
            notify(line(latest, guess, config))
            said = True
        yield snapshot
    if latest and not said and is_no_better(latest, guess):
        notify(line(latest, guess, config))


def line(record: Mapping[str, Any], guess: Guess, config: Config) -> str:
    """What is wrong, and what to try, with settings in backticks."""
    usual = LEARNING_RATES[config.optimiser]
    advice = (
        f"try a smaller step, such as `lr` {usual:g}"
        if config.lr > usual
        else "try another `lr`, `activation` relu with `init` he, fewer layers, more epochs or "
        "less regularisation, and see whether the labels belong to their images"
    )
    return (
        f"after epoch {record['epoch']} the network is no better than guessing: training accuracy "
        f"{record['train_accuracy']:.2%}, where the most frequent class alone has "
        f"{guess.accuracy:.2%}; {advice}"
    )
