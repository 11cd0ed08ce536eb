"""A real mistake: a small program, and what its author needed to hear."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np


@dataclass(frozen=True)
class Case:
    """What somebody got wrong in public, as a program of our own.

    `build()` gives (loss, wrong, right, params, args) or, for a backward pass (`vjp`),
    (wrong, right, args, reference). `cause` is what that person needed to hear, `place` the first
    wrong value, `line` a piece of the loss's line at which it should be told (any of several).
    "right" among the `tags` says that the version in doubt is no mistake.
    """

    name: str
    kind: str
    build: Callable[[], tuple[Any, ...]]
    cause: str
    place: str
    source: str
    line: str | tuple[str, ...] = ()
    vjp: bool = False
    tags: tuple[str, ...] = ()
    note: str = ""


def gathers(cases):
    """A decorator that puts a `build` function among the cases, under the function's name."""

    def case(**told):
        def add(build):
            cases.append(Case(name=build.__name__, build=build, **told))
            return build

        return add

    return case


def with_rule(forward, backward):
    """`forward` with the backward pass `backward(*args, output, cotangent)`."""
    function = jax.custom_vjp(forward)

    def forward_rule(*args):
        out = forward(*args)
        return out, (*args, out)

    function.defvjp(forward_rule, lambda kept, cotangent: backward(*kept, cotangent))
    return function


def generator(seed):
    return np.random.default_rng(seed)


def np_sigmoid(z):
    return 1 / (1 + np.exp(-z))


def np_softmax(z, axis=-1):
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def one_hot(labels, classes):
    return np.eye(classes)[labels]
