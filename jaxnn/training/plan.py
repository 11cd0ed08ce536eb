"""What a configuration means: the functions and the numbers that an epoch is made of."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from jaxnn.data.augmentation import Distortion
from jaxnn.nn.activations import ACTIVATIONS, Activation
from jaxnn.nn.initialisation import INITIALISERS, Initialiser
from jaxnn.nn.mlp import Params
from jaxnn.nn.optimisers import OPTIMISERS, SCHEDULES, scheduled
from jaxnn.training.config import Config
from jaxnn.training.step import Hyper, Lesson, Optimiser, Terms


class Teacher(NamedTuple):
    """A trained network to learn from: its parameters and the name of its activation."""

    params: Params
    activation: str


class Plan(NamedTuple):
    """What `train_epoch` is given: its keyword arguments, which shape the program, and numbers,
    which do not. Another learning rate, or another strength of a term, runs the same program."""

    static: dict[str, Any]
    hyper: Hyper
    terms: Terms
    initialiser: Initialiser

    @property
    def optimiser(self) -> Optimiser:
        rule: Optimiser = self.static["optimiser"]
        return rule

    @property
    def activation(self) -> Activation:
        activation: Activation = self.static["activation"]
        return activation


def plan(
    config: Config,
    n_train: int = 1,
    image_shape: tuple[int, int] | None = None,
    teacher: Teacher | None = None,
) -> Plan:
    """The plan of a run. The document's own values need no term at all.

    The number of training examples gives the length of a schedule, `image_shape` is what a row is
    an image of; the initial state depends on neither.
    """
    hyper = {"lr": number(config.lr), "beta": number(config.beta)}
    if config.schedule != "constant":
        steps = -(-n_train // config.batch_size) * config.epochs
        hyper["steps"] = number(steps)
    if config.optimiser == "adamw":
        hyper["weight_decay"] = number(config.weight_decay)
    static: dict[str, Any] = {
        "batch_size": config.batch_size,
        "optimiser": _optimiser(config.optimiser, config.schedule),
        "activation": ACTIVATIONS[config.activation],
    }
    if config.elastic or config.affine:
        static["image_shape"] = image_shape
    if teacher:
        static["teacher_activation"] = ACTIVATIONS[teacher.activation]
    return Plan(static, hyper, _terms(config, teacher), INITIALISERS[config.init])


def number(value: float) -> Any:
    """A float32 argument of a program. NumPy's, because jax's own would be compiled."""
    return np.float32(value)


def eased(terms: Terms, config: Config, done: float) -> Terms:
    """`terms` when the share `done` of the epochs is over: distortions have become weaker."""
    if terms.distortion is None:
        return terms
    strength = number(1 - config.ease * done)
    return terms._replace(distortion=Distortion(*(strength * x for x in terms.distortion)))


def _terms(config: Config, teacher: Teacher | None) -> Terms:
    def wanted(value: float) -> Any:
        return number(value) if value else None

    distorted = config.elastic or config.affine
    return Terms(
        l2=wanted(config.l2),
        dropout=wanted(config.dropout),
        input_dropout=wanted(config.input_dropout),
        max_norm=wanted(config.max_norm),
        label_smoothing=wanted(config.label_smoothing),
        average=wanted(config.average),
        distortion=Distortion(number(config.elastic), number(config.affine)) if distorted else None,
        lesson=Lesson(teacher.params, number(config.temperature), number(config.teacher_weight))
        if teacher
        else None,
    )


@cache
def _optimiser(name: str, schedule: str) -> Optimiser:
    """The rule of this name, its learning rate on this schedule, as a function of numbers.

    The same object for the same names, so that a program is compiled once for them.
    """
    rule = OPTIMISERS[name]
    if schedule == "constant":
        return rule

    def on_schedule(lr: Any, beta: Any, steps: Any, **rest: Any) -> Any:
        return rule(scheduled(lr, SCHEDULES[schedule], steps), beta, **rest)

    return on_schedule
