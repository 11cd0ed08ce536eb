"""Losses that draw random numbers, and gradients that draw the same ones, or forget to.

`DRAWN` has for each loss gradients that are right, and wrong ones with the code of what is wrong
with them and the leaf where it is first seen. jax.random draws other numbers in float32 than in
float64.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .problems import Problem, numpy_sigmoid

KEEP = 0.75


class Drawn(NamedTuple):
    """A loss, a point, and gradients by name; a wrong one with its code and its first leaf."""

    loss: Callable[..., Any]
    point: Callable[[np.random.Generator], tuple[Any, ...]]
    right: Mapping[str, Callable[..., Any]]
    wrong: Mapping[str, tuple[str, str, Callable[..., Any]]]


# -- Dropout before a linear layer -----------------------------------------------------------------


def features(rng):
    w, b = rng.normal(size=(5, 11)), rng.normal(size=5)
    return {"w": w, "b": b}, rng.normal(size=(17, 11)), rng.normal(size=(17, 5))


def dropout_loss(p, X, Y, key):
    kept = jnp.where(jax.random.bernoulli(key, KEEP, X.shape), X / KEEP, 0)
    return ((kept @ p["w"].T + p["b"][None] - Y) ** 2).sum() / (2 * len(X))


def dropout(keep=lambda X, mask: np.where(mask, X / KEEP, 0), edit=lambda g: g, another=False):
    """The products in NumPy, the mask from JAX."""

    def gradient(p, X, Y, key):
        key = jax.random.fold_in(key, 1) if another else key
        mask = np.asarray(jax.random.bernoulli(key, KEEP, X.shape))
        H = np.where(mask, X / KEEP, 0).astype(X.dtype)
        R = (H @ p["w"].T + p["b"] - Y) / X.dtype.type(len(X))
        return edit({"w": R.T @ keep(X, mask).astype(X.dtype), "b": R.sum(axis=0)})

    return gradient


def times(c, g):
    return {name: c * leaf for name, leaf in g.items()}


def dropout_in_jax(p, X, Y, key):
    kept = jnp.where(jax.random.bernoulli(key, KEEP, X.shape), X / KEEP, 0)
    R = (kept @ p["w"].T + p["b"][None] - Y) / len(X)
    return {"w": R.T @ kept, "b": R.sum(axis=0)}


# -- Dropout of hidden units -----------------------------------------------------------------------


def hidden(rng):
    p = {"W1": rng.normal(size=(7, 11)) / 3, "b1": rng.normal(size=7),
         "W2": rng.normal(size=(5, 7)), "b2": rng.normal(size=5)}  # fmt: skip
    return p, rng.normal(size=(17, 11)), np.eye(5)[rng.integers(0, 5, 17)]


def hidden_loss(p, X, Y, key):
    A1 = jax.nn.sigmoid(X @ p["W1"].T + p["b1"][None])
    A1 = jnp.where(jax.random.bernoulli(key, KEEP, A1.shape), A1 / KEEP, 0)
    return -(Y * jax.nn.log_softmax(A1 @ p["W2"].T + p["b2"][None])).sum() / len(X)


def hidden_units(forward=True, backward=True, rescaled=True):
    """The mask in the forward pass, in the backward pass, and its factor there."""

    def gradient(p, X, Y, key):
        m = X.dtype.type(len(X))
        A1 = numpy_sigmoid(X @ p["W1"].T + p["b1"])
        mask = np.asarray(jax.random.bernoulli(key, KEEP, A1.shape)).astype(X.dtype)
        H1 = A1 * mask / X.dtype.type(KEEP)
        Z2 = H1 @ p["W2"].T + p["b2"]
        E = np.exp(Z2 - Z2.max(axis=1, keepdims=True))
        dZ2 = (E / E.sum(axis=1, keepdims=True) - Y) / m
        dA1 = dZ2 @ p["W2"]
        dA1 = dA1 * mask if backward else dA1
        dA1 = dA1 / X.dtype.type(KEEP) if backward and rescaled else dA1
        dZ1 = dA1 * A1 * (1 - A1)
        dW2 = dZ2.T @ (H1 if forward else A1)
        return {"W1": dZ1.T @ X, "b1": dZ1.sum(axis=0), "W2": dW2, "b2": dZ2.sum(axis=0)}

    return gradient


# -- The reparameterisation of a normal distribution -----------------------------------------------


def distribution(rng):
    return {"mean": rng.normal(size=13), "log_s": rng.normal(size=13)}, rng.normal(size=13)


def sampled_loss(p, t, key):
    sample = p["mean"] + jnp.exp(p["log_s"]) * jax.random.normal(key, t.shape)
    return ((sample - t) ** 2).sum()


def sampled(by_log_s=lambda r, s, eps: r * s * eps, by_mean=lambda r, s, eps: r):
    def gradient(p, t, key):
        eps = np.asarray(jax.random.normal(key, t.shape)).astype(t.dtype)
        s = np.exp(p["log_s"])
        r = 2 * (p["mean"] + s * eps - t)
        return {"mean": by_mean(r, s, eps), "log_s": by_log_s(r, s, eps)}

    return gradient


# -- A sample of the examples, one weight for each -------------------------------------------------


def examples(rng):
    return {"w": rng.normal(size=11)}, rng.normal(size=(19, 11)), rng.normal(size=19)


def bootstrap_loss(p, X, y, key):
    chosen = jax.random.randint(key, (len(y),), 0, len(y))
    return ((X[chosen] @ p["w"] - y[chosen]) ** 2).sum()


def bootstrap(rows=lambda X, chosen: X[chosen], labels=lambda y, chosen: y[chosen], factor=2):
    def gradient(p, X, y, key):
        chosen = np.asarray(jax.random.randint(key, (len(y),), 0, len(y)))
        r = rows(X, chosen) @ p["w"] - labels(y, chosen)
        return {"w": factor * r @ rows(X, chosen)}

    return gradient


def bootstrap_by_counts(p, X, y, key):
    """How often each example was drawn, as its weight."""
    count = np.bincount(np.asarray(jax.random.randint(key, (len(y),), 0, len(y))), None, len(y))
    return {"w": 2 * (count.astype(X.dtype) * (X @ p["w"] - y)) @ X}


# -- Noise in each step of a loop ------------------------------------------------------------------


def noisy_loss(p, x, key):
    def step(h, key):
        return jnp.tanh(p["a"] * h) + 0.1 * jax.random.normal(key, h.shape), None

    return (jax.lax.scan(step, x, jax.random.split(key, 4))[0] ** 2).sum()


def noisy(through=True, slope=lambda t: 1 - t * t):
    """Backwards through the steps. JAX draws, NumPy computes."""

    def gradient(p, x, key):
        noise = [0.1 * np.asarray(jax.random.normal(k, x.shape)) for k in jax.random.split(key, 4)]
        steps, h = [], x
        for eps in noise:
            steps.append((h, np.tanh(p["a"] * h)))
            h = (steps[-1][1] + eps).astype(x.dtype)
        dh, da = 2 * h, 0 * p["a"]
        for h, t in reversed(steps):
            dz = dh * slope(t)
            da, dh = da + dz * h, dz * p["a"]
            if not through:
                break
        return {"a": da}

    return gradient


DRAWN = {
    "dropout of inputs": Drawn(
        dropout_loss,
        features,
        {"NumPy": dropout(), "JAX": dropout_in_jax},
        {
            "zeros": ("zero|path_missing", "w|b|div", dropout(edit=lambda g: times(0, g))),
            "twice": ("scale|wrong_constant", "w|b|div", dropout(edit=lambda g: times(2, g))),
            "b times 0.1": (
                "scale", "b",
                dropout(edit=lambda g: {**g, "b": g["b"] * g["b"].dtype.type(0.1)}),
            ),
            "no mask in the backward pass": (
                "mask_missing|wrong_value|unknown", "w", dropout(keep=lambda X, mask: X)),
            "not rescaled": ("scale", "w", dropout(keep=lambda X, mask: np.where(mask, X, 0))),
            "another key": ("unknown", "", dropout(another=True)),
        },
    ),
    "dropout of units": Drawn(
        hidden_loss,
        hidden,
        {"NumPy": hidden_units()},
        {
            "no mask in dZ1": (
                "mask_missing|missing_activation_derivative", "W1|b1|select_n",
                hidden_units(backward=False),
            ),
            "no mask in dW2": ("mask_missing|wrong_value", "W2", hidden_units(forward=False)),
            "dZ1 not rescaled": ("scale|missing_factor", "W1|b1|div", hidden_units(rescaled=False)),
        },
    ),
    "a normal sample": Drawn(
        sampled_loss,
        distribution,
        {"NumPy": sampled()},
        {
            "ε forgotten": ("missing_factor", "log_s|mul", sampled(lambda r, s, eps: r * s)),
            "σ forgotten": ("missing_activation_derivative", "log_s",
                            sampled(lambda r, s, eps: r * eps)),
            "minus": ("sign", "log_s", sampled(lambda r, s, eps: -r * s * eps)),
            "no derivative by log σ": ("zero|path_missing", "log_s",
                                       sampled(lambda r, s, eps: 0 * r)),
        },
    ),
    "a bootstrap sample": Drawn(
        bootstrap_loss,
        examples,
        {"by index": bootstrap(), "by counts": bootstrap_by_counts},
        {
            "labels in the old order": ("unknown", "w", bootstrap(labels=lambda y, chosen: y)),
            "all examples": ("unknown", "w",
                             bootstrap(lambda X, chosen: X, lambda y, chosen: y)),
            "the 2 forgotten": (
                "scale|wrong_activation_derivative", "w|integer_pow", bootstrap(factor=1)),
        },
    ),
    "noise in a loop": Drawn(
        noisy_loss,
        lambda rng: ({"a": rng.uniform(0.5, 1.5, size=7)}, rng.normal(size=7)),
        {"NumPy": noisy()},
        {
            "the last step only": ("unknown|path_missing", "a", noisy(through=False)),
            "1 + t²": ("unknown", "a", noisy(slope=lambda t: 1 + t * t)),
        },
    ),
}  # fmt: skip


def drawn_problem(seed: int, setting: str, gradient: Callable[..., Any]) -> Problem:
    """Half of the seeds have float64 arrays, and half have typed keys."""
    params, *args = DRAWN[setting].point(np.random.default_rng([seed, 5]))
    dtype = (np.float32, np.float64)[seed % 2]
    key = (jax.random.PRNGKey, jax.random.key)[seed // 2 % 2](seed)
    params = {name: value.astype(dtype) for name, value in params.items()}
    args = (*(a.astype(dtype) for a in args), key)
    return Problem(DRAWN[setting].loss, gradient, params, args)
