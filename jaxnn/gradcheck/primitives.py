"""The operations of a JAX program in NumPy: their values, and the derivatives of their parts.

ELEMENTWISE is the table of functions that act on each entry by itself, with their derivatives.
MOVES are the operations that only copy entries to other places. Everything else that a tape knows
by itself is in `tape`; what nothing knows is asked of JAX.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
#: f(inputs, params), and the derivative by each input: d(inputs, output, params).
Rule = tuple[Callable[..., Array], Callable[..., tuple[Array | None, ...]]]


def _unary(f: Callable[..., Array], d: Callable[[Array, Array], Array]) -> Rule:
    return lambda x, p: f(x[0]), lambda x, y, p: (d(x[0], y),)


def _special(name: str) -> Callable[..., Array]:
    """A function of SciPy's, loaded when it is first asked for."""

    def function(x: Array) -> Array:
        from scipy import special

        return getattr(special, name)(x)

    return function


def _logistic(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def _tie(x: Array, y: Array, wins: Callable[[Array, Array], Array]) -> Array:
    """1 where x wins, 1/2 where both are equal."""
    return np.where(x == y, 0.5, wins(x, y).astype(np.float64))


def _select(x: Any, p: Any) -> Array:
    which = np.asarray(x[0]).astype(np.intp)
    return np.choose(which, x[1:]) if which.ndim or len(x) < 3 else x[1 + int(which)]


def _select_slopes(x: Any, y: Array, p: Any) -> tuple[Array | None, ...]:
    which = np.asarray(x[0]).astype(np.intp)
    return (None, *(np.broadcast_to(which == k, y.shape) * 1.0 for k in range(len(x) - 1)))


def _pow_slopes(x: Any, y: Array, p: Any) -> tuple[Array | None, ...]:
    base, n = x
    log = np.log(np.where(base > 0, base, 1.0))
    return np.where(n == 0, 0.0, n * base ** np.where(n == 0, 1.0, n - 1)), log * y


def _integer_pow(x: Any, y: Array, p: Any) -> tuple[Array | None, ...]:
    n = p["y"]
    return (n * x[0] ** float(n - 1) if n else 0.0 * x[0],)


ELEMENTWISE: dict[str, Rule] = {
    "neg": _unary(np.negative, lambda x, y: -1.0 + 0 * x),
    "exp": _unary(np.exp, lambda x, y: y),
    "exp2": _unary(np.exp2, lambda x, y: y * np.log(2)),
    "log": _unary(np.log, lambda x, y: 1 / x),
    "log1p": _unary(np.log1p, lambda x, y: 1 / (1 + x)),
    "expm1": _unary(np.expm1, lambda x, y: y + 1),
    "tanh": _unary(np.tanh, lambda x, y: 1 - y * y),
    "logistic": _unary(_logistic, lambda x, y: y * (1 - y)),
    "sin": _unary(np.sin, lambda x, y: np.cos(x)),
    "cos": _unary(np.cos, lambda x, y: -np.sin(x)),
    "tan": _unary(np.tan, lambda x, y: 1 + y * y),
    "sinh": _unary(np.sinh, lambda x, y: np.cosh(x)),
    "cosh": _unary(np.cosh, lambda x, y: np.sinh(x)),
    "asin": _unary(np.arcsin, lambda x, y: 1 / np.sqrt(1 - x * x)),
    "acos": _unary(np.arccos, lambda x, y: -1 / np.sqrt(1 - x * x)),
    "atan": _unary(np.arctan, lambda x, y: 1 / (1 + x * x)),
    "asinh": _unary(np.arcsinh, lambda x, y: 1 / np.sqrt(1 + x * x)),
    "atanh": _unary(np.arctanh, lambda x, y: 1 / (1 - x * x)),
    "sqrt": _unary(np.sqrt, lambda x, y: 0.5 / y),
    "rsqrt": _unary(lambda x: 1 / np.sqrt(x), lambda x, y: -0.5 * y / x),
    "cbrt": _unary(np.cbrt, lambda x, y: y / (3 * x)),
    "square": _unary(np.square, lambda x, y: 2 * x),
    "double": _unary(lambda x: 2 * x, lambda x, y: np.full_like(y, 2.0)),
    "abs": _unary(np.abs, lambda x, y: np.sign(x)),
    "erf": _unary(_special("erf"), lambda x, y: 2 / np.sqrt(np.pi) * np.exp(-x * x)),
    "erfc": _unary(_special("erfc"), lambda x, y: -2 / np.sqrt(np.pi) * np.exp(-x * x)),
    "lgamma": _unary(_special("gammaln"), lambda x, y: _special("digamma")(x)),
    "copy": _unary(np.asarray, lambda x, y: np.ones_like(x)),
    "copy_p": _unary(np.asarray, lambda x, y: np.ones_like(x)),
    "reduce_precision": _unary(np.asarray, lambda x, y: np.ones_like(x)),
    "integer_pow": (lambda x, p: np.asarray(x[0]) ** float(p["y"]), _integer_pow),
    "add": (lambda x, p: x[0] + x[1], lambda x, y, p: (np.ones_like(y), np.ones_like(y))),
    "add_any": (lambda x, p: x[0] + x[1], lambda x, y, p: (np.ones_like(y), np.ones_like(y))),
    "sub": (lambda x, p: x[0] - x[1], lambda x, y, p: (np.ones_like(y), -np.ones_like(y))),
    "mul": (lambda x, p: x[0] * x[1], lambda x, y, p: (x[1] + 0 * y, x[0] + 0 * y)),
    "div": (lambda x, p: x[0] / x[1], lambda x, y, p: (1 / x[1] + 0 * y, -y / x[1])),
    "pow": (lambda x, p: x[0] ** x[1], _pow_slopes),
    "max": (
        lambda x, p: np.maximum(x[0], x[1]),
        lambda x, y, p: (_tie(x[0], x[1], np.greater), _tie(x[0], x[1], np.less)),
    ),
    "min": (
        lambda x, p: np.minimum(x[0], x[1]),
        lambda x, y, p: (_tie(x[0], x[1], np.less), _tie(x[0], x[1], np.greater)),
    ),
    "atan2": (
        lambda x, p: np.arctan2(x[0], x[1]),
        lambda x, y, p: (
            x[1] / (x[0] ** 2 + x[1] ** 2),
            -x[0] / (x[0] ** 2 + x[1] ** 2),
        ),
    ),
    "select_n": (_select, _select_slopes),
    "clamp": (
        lambda x, p: np.clip(x[1], x[0], x[2]),
        lambda x, y, p: (
            np.broadcast_to(x[1] < x[0], y.shape) * 1.0,
            ((x[1] > x[0]) & (x[1] < x[2])) * 1.0,
            np.broadcast_to(x[1] > x[2], y.shape) * 1.0,
        ),
    ),
    "convert_element_type": (
        lambda x, p: np.asarray(x[0]).astype(p["new_dtype"]),
        lambda x, y, p: (np.ones(np.shape(y)),),
    ),
}

#: Functions of single entries that have no derivative, or the derivative 0.
FLAT: dict[str, Callable[..., Array]] = {
    "lt": lambda x, p: x[0] < x[1],
    "le": lambda x, p: x[0] <= x[1],
    "gt": lambda x, p: x[0] > x[1],
    "ge": lambda x, p: x[0] >= x[1],
    "eq": lambda x, p: x[0] == x[1],
    "ne": lambda x, p: x[0] != x[1],
    "and": lambda x, p: x[0] & x[1],
    "or": lambda x, p: x[0] | x[1],
    "xor": lambda x, p: x[0] ^ x[1],
    "not": lambda x, p: ~np.asarray(x[0]),
    "sign": lambda x, p: np.sign(x[0]),
    "floor": lambda x, p: np.floor(x[0]),
    "ceil": lambda x, p: np.ceil(x[0]),
    "is_finite": lambda x, p: np.isfinite(x[0]),
    "stop_gradient": lambda x, p: x[0],
    "argmax": lambda x, p: np.argmax(x[0], p["axes"][0]).astype(p["index_dtype"]),
    "argmin": lambda x, p: np.argmin(x[0], p["axes"][0]).astype(p["index_dtype"]),
    "reduce_and": lambda x, p: np.all(x[0], p["axes"]),
    "reduce_or": lambda x, p: np.any(x[0], p["axes"]),
}


def _broadcast(x: Array, p: Any) -> Array:
    shape, dims = p["shape"], p["broadcast_dimensions"]
    x = np.asarray(x)
    inner = [1] * len(shape)
    for size, dim in zip(x.shape, dims, strict=True):
        inner[dim] = size
    return np.broadcast_to(x.reshape(inner), shape)


def _slice(x: Array, p: Any) -> Array:
    strides = p["strides"] or (1,) * np.ndim(x)
    cuts = zip(p["start_indices"], p["limit_indices"], strides, strict=True)
    return x[tuple(slice(a, b, s) for a, b, s in cuts)]


def _dynamic_slice(x: Any, p: Any) -> Array:
    operand, starts = x[0], x[1:]
    cuts = []
    for start, size, whole in zip(starts, p["slice_sizes"], operand.shape, strict=True):
        first = min(max(int(start), 0), whole - size)
        cuts.append(slice(first, first + size))
    return operand[tuple(cuts)]


#: Operations that copy entries, by name: f(inputs, params).
MOVES: dict[str, Callable[..., Array]] = {
    "reshape": lambda x, p: np.reshape(x[0], p["new_sizes"]),
    "transpose": lambda x, p: np.transpose(x[0], p["permutation"]),
    "broadcast_in_dim": lambda x, p: _broadcast(x[0], p),
    "squeeze": lambda x, p: np.squeeze(x[0], tuple(p["dimensions"])),
    "expand_dims": lambda x, p: np.expand_dims(x[0], tuple(p["dimensions"])),
    "slice": lambda x, p: _slice(x[0], p),
    "rev": lambda x, p: np.flip(x[0], tuple(p["dimensions"])),
    "concatenate": lambda x, p: np.concatenate(x, p["dimension"]),
    "dynamic_slice": _dynamic_slice,
}
