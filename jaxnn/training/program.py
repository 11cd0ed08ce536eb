"""One compiled program of training: what is compiled into it, and the arrays that it is given.

A `Program` is hashable, `Hyperparameters` are a pytree. Another learning rate, or another strength
of a term, runs the same program; a term that is not there is not in the program.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import Array

from jaxnn.data import Dataset, look
from jaxnn.data.augmentation import Distortion
from jaxnn.nn.activations import ACTIVATIONS, Activation, sigmoid
from jaxnn.nn.mlp import Params
from jaxnn.nn.optimisers import OPTIMISERS, SCHEDULES, momentum, scheduled
from jaxnn.training.config import Config

Optimiser = Callable[..., optax.GradientTransformation]

#: Multiplications in a batch's first product, from and to, where a network counts as small: one
#: thread computes such a product in 10 to 40 µs, so that a second one is worth its while only if it
#: is ready at once.
SMALL = (2**20, 2**22)


class Teacher(NamedTuple):
    """A trained network to learn from: its parameters and the name of its activation."""

    params: Params
    activation: str


class Distillation(NamedTuple):
    """What there is to learn from another network: its parameters, perhaps an ensemble's; the
    temperature at which its answers are taken; and their weight, the labels having the rest."""

    teacher: Params
    temperature: Array
    weight: Array


class Hyperparameters(NamedTuple):
    """The numbers of training, as arrays; a term that is None is not in the program.

    optimiser: the optimiser's arguments, by name. The document's network needs no more.

    l2: λ of λ/2 Σ_l ‖W_l‖². dropout, input_dropout: shares of the hidden units and of the inputs
    that are dropped. max_norm: longest row of a W_l. label_smoothing: ε. average: what the running
    mean of the parameters keeps at each step. distortion: of the images. distillation: from a
    teacher.
    """

    optimiser: Mapping[str, Array]
    l2: Array | None = None
    dropout: Array | None = None
    input_dropout: Array | None = None
    max_norm: Array | None = None
    label_smoothing: Array | None = None
    average: Array | None = None
    distortion: Distortion | None = None
    distillation: Distillation | None = None

    @classmethod
    def of(
        cls, config: Config, n_train: int = 1, teacher: Teacher | None = None
    ) -> "Hyperparameters":
        """Those of a configuration. The number of training examples gives a schedule its length."""
        optimiser = {"lr": number(config.lr), "beta": number(config.beta)}
        if config.schedule != "constant":
            steps = -(-n_train // config.batch_size) * config.epochs
            optimiser["steps"] = number(steps)
        if config.optimiser == "adamw":
            optimiser["weight_decay"] = number(config.weight_decay)
        distorted = config.elastic or config.affine
        return cls(
            optimiser,
            l2=_wanted(config.l2),
            dropout=_wanted(config.dropout),
            input_dropout=_wanted(config.input_dropout),
            max_norm=_wanted(config.max_norm),
            label_smoothing=_wanted(config.label_smoothing),
            average=_wanted(config.average),
            distortion=Distortion(number(config.elastic), number(config.affine))
            if distorted
            else None,
            distillation=Distillation(
                teacher.params, number(config.temperature), number(config.teacher_weight)
            )
            if teacher
            else None,
        )

    def annealed(self, config: Config, done: float) -> "Hyperparameters":
        """When the share `done` of the epochs is over: distortions have become weaker."""
        if self.distortion is None:
            return self
        strength = number(1 - config.ease * done)
        return self._replace(distortion=Distortion(*(strength * x for x in self.distortion)))


@dataclass(frozen=True)
class Program:
    """What is compiled in, by default the document's. Equal ones run the same compiled program.

    activation: of the hidden layers. optimiser: called with `Hyperparameters.optimiser`.
    batch_size: examples per step of an epoch. image_shape: (height, width), or (height, width, 3),
    which distortions take a row for. paper: how bright they leave what was outside of an image,
    where white is 1. teacher_activation: of the hidden layers of a teacher.

    transposed: how the state lies in memory from step to step of an epoch, no more: each matrix as
    W.T, so that X Wᵀ runs along the rows of both. It pays for small products.
    """

    activation: Activation = sigmoid
    optimiser: Optimiser = momentum
    batch_size: int = 64
    image_shape: tuple[int, ...] | None = None
    teacher_activation: Activation = sigmoid
    transposed: bool = False
    paper: float = 0.0

    @classmethod
    def of(cls, config: Config, dataset: Dataset, teacher: Teacher | None = None) -> "Program":
        """The program of a configuration on such data."""
        width = (*config.n_h, dataset.n_classes)[0]
        distorted = bool(config.elastic or config.affine)
        multiplications = config.batch_size * dataset.n_x * width
        return cls(
            activation=ACTIVATIONS[config.activation],
            optimiser=optimiser_of(config),
            batch_size=config.batch_size,
            image_shape=dataset.image_shape if distorted else None,
            teacher_activation=ACTIVATIONS[teacher.activation] if teacher else sigmoid,
            transposed=SMALL[0] <= multiplications <= SMALL[1],
            paper=look.of_dataset(dataset).paper if distorted else 0.0,
        )

    def in_memory(self, tree: Any) -> Any:
        """A pytree of matrices as it lies in memory; from there back by the same function."""
        return jax.tree.map(lambda leaf: leaf.T, tree) if self.transposed else tree


def number(value: float) -> Any:
    """A float32 argument of a program. NumPy's, because jax's own would be compiled."""
    return np.float32(value)


def optimiser_of(config: Config) -> Optimiser:
    """The configuration's rule, its learning rate on its schedule, as a function of numbers."""
    return _optimiser(config.optimiser, config.schedule)


def _wanted(value: float) -> Any:
    return number(value) if value else None


@cache
def _optimiser(name: str, schedule: str) -> Optimiser:
    """The same object for the same names, so that a program is compiled once for them."""
    rule = OPTIMISERS[name]
    if schedule == "constant":
        return rule

    def on_schedule(lr: Any, beta: Any, steps: Any, **rest: Any) -> Any:
        return rule(scheduled(lr, SCHEDULES[schedule], steps), beta, **rest)

    return on_schedule
