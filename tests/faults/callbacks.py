"""Losses that call NumPy on the host, with gradients that are right and wrong.

Each problem has callbacks of its own, which are freed with it: the next ones may have their
addresses.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .problems import Problem


def on_the_host(function: Callable[[Any], Any], derivative: Callable[[Any], Any]):
    """A function of entries computed by NumPy, with the derivative that jax.grad takes."""

    def call(f: Callable[[Any], Any], x: Any) -> Any:
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        compute = lambda x: np.asarray(f(np.asarray(x)), x.dtype)  # noqa: E731
        return jax.pure_callback(compute, shape, x, vmap_method="sequential")

    @jax.custom_jvp
    def of_entries(x: Any) -> Any:
        return call(function, x)

    of_entries.defjvp(lambda at, along: (of_entries(*at), call(derivative, *at) * along[0]))
    return of_entries


#: Functions of NumPy and their derivatives; s is another one in each problem.
FUNCTIONS: Mapping[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sine": (lambda x, s: np.sin(s * x), lambda x, s: s * np.cos(s * x)),
    "square": (lambda x, s: s * x * x, lambda x, s: 2 * s * x),
    "softplus": (
        lambda x, s: np.logaddexp(0, s * x),
        lambda x, s: s * np.exp(s * x - np.logaddexp(0, s * x)),
    ),
    "table": (  # cubic, so that it is smooth where its pieces meet
        lambda x, s: s * np.polynomial.hermite_e.hermeval(x, [0, 1, 0, 0.25]),
        lambda x, s: s * np.polynomial.hermite_e.hermeval(x, [1, 0, 0.75]),
    ),
}


class Setting(NamedTuple):
    """A way to use a callback: the loss for such a function, and its derivative by hand."""

    loss: Callable[..., Any]
    gradient: Callable[..., Any]


def entries_loss(op):
    return lambda p, X, y: (op(p["w"]) * y).sum()


def entries_gradient(f, df):
    return lambda p, X, y: {"w": df(p["w"]) * y}


def regression_loss(op):
    return lambda p, X, y: ((op(X @ p["w"]) - X[:, 0]) ** 2).mean()


def regression_gradient(f, df):
    def gradient(p, X, y):
        z = X @ p["w"]
        return {"w": X.T @ (2 * (f(z) - X[:, 0]) * df(z)) / X.dtype.type(len(X))}

    return gradient


def printing_loss(op):
    """The loss also shows a number, as people do who look for a mistake."""

    def loss(p, X, y):
        jax.debug.callback(lambda value: None, p["w"].sum())
        return (jnp.tanh(op(p["w"])) * y).sum()

    return loss


def printing_gradient(f, df):
    return lambda p, X, y: {"w": (1 - np.tanh(f(p["w"])) ** 2) * df(p["w"]) * y}


SETTINGS = {
    "entries": Setting(entries_loss, entries_gradient),
    "a regression": Setting(regression_loss, regression_gradient),
    "a loss that prints": Setting(printing_loss, printing_gradient),
}

#: (name, code, what is done to the right gradient)
MISTAKES = (
    ("minus", "sign", lambda g, p, X, y: -g),
    ("5 % too much", "scale", lambda g, p, X, y: g * g.dtype.type(1.05)),
    ("one entry 1 % off", "scale|partial|unknown",
     lambda g, p, X, y: g * np.where(np.arange(len(g)) == 3, 1.01, 1).astype(g.dtype)),
    ("zeros", "zero", lambda g, p, X, y: 0 * g),
)  # fmt: skip


def callback_problem(
    seed: int, setting: str, function: str, edit=None, derivative: str | None = None
) -> Problem:
    """`derivative` names the function whose derivative is taken by mistake, `edit` is another."""
    rng = np.random.default_rng([seed, 6])
    dtype = (np.float32, np.float64)[seed % 2]
    s = dtype(rng.uniform(0.5, 1.5))
    f, df = (lambda x, g=g: g(x, s).astype(x.dtype) for g in FUNCTIONS[function])
    other = FUNCTIONS[derivative or function][1]
    loss = SETTINGS[setting].loss(on_the_host(f, df))
    right = SETTINGS[setting].gradient(f, lambda x: other(x, s).astype(x.dtype))

    def gradient(p, X, y):
        g = right(p, X, y)["w"]
        return {"w": edit(g, p, X, y) if edit else g}

    w, X, y = (rng.normal(size=n).astype(dtype) for n in (7, (17, 7), 7))
    return Problem(loss, gradient, {"w": w}, (X, y))


def by_autodiff_problem(seed: int, setting: str, function: str) -> Problem:
    problem = callback_problem(seed, setting, function)
    return problem._replace(gradient=jax.grad(problem.loss))
