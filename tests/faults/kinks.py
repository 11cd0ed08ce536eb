"""Losses at their kinks: what a maximum of equal entries and a ReLU at 0 leave open, and what not.

`SETTINGS` has for each loss gradients that are right, by several conventions, and gradients that
are wrong, with the code of what is wrong with them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .problems import Problem


class Kinked(NamedTuple):
    """A loss, a point with kinks, and gradients by name; a wrong one comes with its code."""

    loss: Callable[..., Any]
    point: Callable[[np.random.Generator], tuple[Any, ...]]
    right: Mapping[str, Callable[..., Any]]
    wrong: Mapping[str, tuple[str, Callable[..., Any]]]


def equal_entries(rng):
    """(5, 7) activations after a ReLU: many are 0, and in two columns all."""
    x = np.maximum(rng.normal(size=(5, 7)), 0.0)
    x[:, :2] = 0.0
    return x, rng.uniform(0.5, 2.0, size=7)


def images(rng):
    """Images of one colour in some places, as drawings have them."""
    x = rng.normal(size=(2, 6, 4))
    x[:, :4, :2] = 1.0
    return x, rng.uniform(0.5, 2.0, size=(2, 3, 2))


def with_zeros(rng):
    w = rng.normal(size=11)
    w[:5] = 0.0
    return w, rng.uniform(0.5, 2.0, size=11)


def repeated(rng):
    w = rng.normal(size=9)
    w[:4] = np.median(w)
    return w, rng.uniform(0.5, 2.0, size=9)


def pooled(x):
    return x.reshape(2, 3, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(2, 3, 2, 4)


def unpooled(d):
    return d.reshape(2, 3, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(2, 6, 4)


def windows(x, t):
    best = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2), (1, 2, 2), "VALID")
    return (best * t).sum()


def by_mask(x, axis):
    return (x == x.max(axis, keepdims=True)).astype(x.dtype)


def first(x, axis):
    mask = by_mask(x, axis)
    return mask * (np.cumsum(mask, axis) == 1)


def shared(x, axis):
    mask = by_mask(x, axis)
    return mask / mask.sum(axis, keepdims=True)


def pooling(shares):
    return lambda x, t: unpooled(shares(pooled(x), 3) * t[..., None])


def pooling_in_jax(x, t):
    return jax.grad(windows)(x, t)


def relu_at_zero(slope):
    return lambda w, t: np.where(w == 0, slope, w > 0).astype(w.dtype) * t


def abs_at_zero(slope):
    return lambda w, t: np.where(w == 0, slope, np.sign(w)).astype(w.dtype) * t


def sorted_gradient(edit=lambda g, w, t: g):
    def gradient(w, t):
        g = np.zeros_like(w)
        g[np.argsort(w, kind="stable")] = t
        return edit(g, w, t)

    return gradient


SETTINGS = {
    "max over an axis": Kinked(
        lambda x, t: (x.max(0) * t).sum(),
        equal_entries,
        {
            "the first": lambda x, t: first(x, 0) * t,
            "the last": lambda x, t: first(x[::-1], 0)[::-1] * t,
            "shared": lambda x, t: shared(x, 0) * t,
        },
        {
            "a mask": ("ties", lambda x, t: by_mask(x, 0) * t),
            "half a mask": ("ties", lambda x, t: np.where(by_mask(x, 0).sum(0) > 2, 0.5, 1)
                            .astype(x.dtype) * by_mask(x, 0) * t),
            "none of them": ("ties", lambda x, t: by_mask(x, 0) * (by_mask(x, 0).sum(0) == 1) * t),
        },
    ),
    "max-pooling": Kinked(
        windows,
        images,
        {"the first": pooling(first), "shared": pooling(shared), "jax.grad": pooling_in_jax},
        {"a mask": ("ties", pooling(by_mask))},
    ),
    "ReLU at 0": Kinked(
        lambda w, t: (jax.nn.relu(w) * t).sum(),
        with_zeros,
        {f"slope {slope}": relu_at_zero(slope) for slope in (0.0, 0.3, 0.5, 1.0)},
        {f"slope {slope}": ("beyond_kink", relu_at_zero(slope)) for slope in (-1.0, 1.9, 2.0)},
    ),
    "an L1 penalty at 0": Kinked(
        lambda w, t: (jnp.abs(w) * t).sum(),
        with_zeros,
        {f"slope {slope}": abs_at_zero(slope) for slope in (-1.0, 0.0, 1.0)},
        {f"slope {slope}": ("beyond_kink", abs_at_zero(slope)) for slope in (-3.0, 3.0)},
    ),
    "sorted": Kinked(
        lambda w, t: (jnp.sort(w) * t).sum(),
        repeated,
        {"in order": sorted_gradient()},
        {"equal entries all the largest share": (
            "ties", sorted_gradient(lambda g, w, t: np.where(w == w[0], g[w == w[0]].max(), g)))},
    ),
}  # fmt: skip


def kinked_problem(seed: int, setting: str, gradient: Callable[..., Any]) -> Problem:
    """In float64 for even seeds of the point, in float32 for odd ones."""
    params, *args = SETTINGS[setting].point(np.random.default_rng(seed))
    dtype = np.float32 if seed % 4 > 1 else np.float64
    return Problem(
        SETTINGS[setting].loss, gradient, params.astype(dtype), tuple(a.astype(dtype) for a in args)
    )
