"""What the planted faults are planted in: a network whose backward pass is text, and its data.

A hand-written gradient is assembled from the lines of `EQUATIONS` as somebody would have typed it,
and a fault replaces a line or two. Examples are rows. The same text runs with NumPy and with JAX.
"""

import functools
import itertools
import re
import textwrap
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Gradient = Callable[..., Any]


class Problem(NamedTuple):
    """What a checker is given: loss(params, *args) and gradient(params, *args) at one point."""

    loss: Callable[..., Any]
    gradient: Gradient
    params: Any
    args: tuple[Any, ...]


#: Sizes (m, n_x, …, C) by the number of layers: primes, all different, so that a ratio of leaves
#: names one size alone. The random seed picks a row.
SIZES = {
    1: ((17, 11, 5), (19, 13, 7)),
    2: ((17, 11, 7, 5), (13, 7, 11, 3)),
    3: ((17, 11, 7, 13, 5), (23, 5, 17, 11, 7)),
    4: ((29, 11, 7, 13, 17, 5), (23, 7, 13, 11, 5, 3)),
}

ACTIVATION = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
}

DERIVATIVE = {
    "sigmoid": "dZ{l} = dA{l} * sigmoid(Z{l}) * (1 - sigmoid(Z{l}))",
    "tanh": "dZ{l} = dA{l} * (1 - tanh(Z{l}) ** 2)",
    "relu": "dZ{l} = np.where(Z{l} > 0, dA{l}, 0)",
}


@functools.cache
def network_loss(activation: str, reduction: str = "mean", l2: float = 0.0, scale: float = 1.0):
    """Softmax cross-entropy of a fully connected network, + l2/2·Σ‖W‖², all times `scale`."""

    def loss(params, X, Y):
        L = len(params) // 2
        A = jnp.asarray(X)
        for layer in range(1, L):
            Z = A @ params[f"W{layer}"].T + params[f"b{layer}"][None, :]
            A = ACTIVATION[activation](Z)
        Z = A @ params[f"W{L}"].T + params[f"b{L}"][None, :]
        total = -(Y * jax.nn.log_softmax(Z, axis=1)).sum()
        data = total / X.shape[0] if reduction == "mean" else total
        squares = sum((params[f"W{layer}"] ** 2).sum() for layer in range(1, L + 1))
        return (data + squares * (l2 / 2)) * scale

    return loss


def equations(depth: int, activation: str, reduction: str = "mean", l2: bool = False) -> list[str]:
    """The right lines, in the order of backpropagation, then the line that returns them."""
    over_m = " / m" if reduction == "mean" else ""
    lines = [f"dZ{depth} = A{depth} - Y"]
    for layer in range(depth, 0, -1):
        if layer < depth:
            lines.append(f"dA{layer} = dZ{layer + 1} @ W{layer + 1}")
            lines.append(DERIVATIVE[activation].format(l=layer))
        weight_decay = f" + l2 * W{layer}" if l2 else ""
        lines.append(f"dW{layer} = dZ{layer}.T @ A{layer - 1}{over_m}{weight_decay}")
        lines.append(f"db{layer} = dZ{layer}.sum(axis=0){over_m}")
    leaves = ", ".join(f'"{p}{k}": d{p}{k}' for k in range(1, depth + 1) for p in "Wb")
    return [*lines, f"return {{{leaves}}}"]


def name_of(line: str) -> str:
    """The equation that a line computes, or the last of several: "dZ2" of "dZ2 = A2 - Y"."""
    return re.match(r"\w+", line.splitlines()[-1]).group()


def changed(lines: Sequence[str], changes: Sequence[str]) -> list[str]:
    """`lines` with each change in the place of the line that computes the same equation."""
    unknown = {name_of(change) for change in changes} - {name_of(line) for line in lines}
    if unknown:
        raise ValueError(f"no line computes {sorted(unknown)}")
    by_name = {name_of(change): change for change in changes}
    return [by_name.get(name_of(line), line) for line in lines]


def forward_lines(depth: int, activation: str) -> list[str]:
    lines = ["A0 = X", "m = X.shape[0]", "C = Y.shape[1]"]
    for layer in range(1, depth + 1):
        g = activation if layer < depth else "softmax"
        lines.append(f"W{layer} = np.asarray(params['W{layer}'])")
        lines.append(f"b{layer} = np.asarray(params['b{layer}'])")
        lines.append(f"Z{layer} = A{layer - 1} @ W{layer}.T + b{layer}[None, :]")
        lines.append(f"A{layer} = {g}(Z{layer})")
    return lines


def numpy_sigmoid(Z):
    """1/(1 + e⁻ᶻ) without an overflow, in Z's dtype."""
    E = np.exp(-np.abs(Z))
    return np.where(Z >= 0, 1 / (1 + E), E / (1 + E))


def numpy_softmax(Z):
    E = np.exp(Z - Z.max(axis=1, keepdims=True))
    return E / E.sum(axis=1, keepdims=True)


NAMESPACE = {
    "numpy": {
        "np": np,
        "tanh": np.tanh,
        "relu": lambda Z: np.maximum(Z, 0),
        "sigmoid": numpy_sigmoid,
        "softmax": numpy_softmax,
    },
    "jax": {
        "np": jnp,
        "softmax": functools.partial(jax.nn.softmax, axis=1),
        **ACTIVATION,
    },
}


def assemble(lines: Sequence[str], arrays: str, constants: Mapping[str, Any]) -> Gradient:
    """gradient(params, X, Y) that runs `lines`, with `np` bound to NumPy or to jax.numpy.

    Floating-point warnings are silenced: a fault that overflows must be found by its result.
    """
    source = "def gradient(params, X, Y):\n" + textwrap.indent("\n".join(lines), "    ")
    namespace = {**NAMESPACE[arrays], **constants}
    exec(compile(source, "<hand-written gradient>", "exec"), namespace)
    typed = namespace["gradient"]

    def gradient(params, X, Y):
        with np.errstate(all="ignore"):
            return typed(params, X, Y)

    return gradient


def arrays_by_name(name: str) -> str:
    """About one case in forty is written with JAX, the others with NumPy: a traced gradient has to
    be compiled in several ways, and a campaign of thousands has no time for that."""
    return "jax" if zlib.crc32(name.encode()) % 40 == 0 else "numpy"


def network_point(rng: np.random.Generator, sizes: Sequence[int], dtype: str):
    """Random parameters with biases that are not zero, inputs of both signs, one-hot targets."""
    m, *widths = sizes
    params = {}
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(widths), start=1):
        params[f"W{layer}"] = rng.normal(0, n_in**-0.5, (n_out, n_in)).astype(dtype)
        params[f"b{layer}"] = rng.normal(0, 0.3, n_out).astype(dtype)
    X = rng.normal(0, 1, (m, widths[0])).astype(dtype)
    Y = np.eye(widths[-1], dtype=dtype)[rng.integers(0, widths[-1], m)]
    return params, X, Y


def network_problem(
    seed: int,
    *changes: str,
    depth: int = 2,
    activation: str = "sigmoid",
    sizes: Sequence[int] | None = None,
    reduction: str = "mean",
    l2: float = 0.0,
    scale: float = 1.0,
    dtype: str | None = None,
    arrays: str = "numpy",
    adjust: Callable[..., Any] = lambda params, X, Y: (params, X, Y),
    head: Sequence[str] = (),
    **constants: Any,
) -> Problem:
    """A network with `changes` in its backward pass. The seed also chooses the sizes and the dtype
    (float32, float64), where the case itself leaves them open."""
    sizes = sizes or SIZES[depth][seed % 2]
    dtype = dtype or ("float32", "float64")[seed % 2]
    point = adjust(*network_point(np.random.default_rng([seed, *sizes]), sizes, dtype))
    lines = [
        *forward_lines(depth, activation),
        *head,
        *changed(equations(depth, activation, reduction, l2 > 0), changes),
    ]
    constants = {"l2": l2, "lr": 0.5, "beta": 0.9, **constants}
    gradient = assemble(lines, arrays, constants)
    return Problem(network_loss(activation, reduction, l2, scale), gradient, point[0], point[1:])


def inputs_by_outputs(problem: Problem) -> Problem:
    """The layout of most JAX code: W is (n_in, n_out) and Z = A W + b."""

    def flip(tree):
        return {name: leaf.T for name, leaf in tree.items()}

    return Problem(
        lambda params, X, Y: problem.loss(flip(params), X, Y),
        lambda params, X, Y: flip(problem.gradient(flip(params), X, Y)),
        flip(problem.params),
        problem.args,
    )


def document_columns(problem: Problem) -> Problem:
    """The document's layout: X is (n_x, m), Y is (C, m) and b is (n, 1)."""

    def rows(tree):
        return {name: leaf[:, 0] if name[0] == "b" else leaf for name, leaf in tree.items()}

    def columns(tree):
        return {name: leaf[:, None] if name[0] == "b" else leaf for name, leaf in tree.items()}

    X, Y = problem.args
    return Problem(
        lambda params, X, Y: problem.loss(rows(params), X.T, Y.T),
        lambda params, X, Y: columns(problem.gradient(rows(params), X.T, Y.T)),
        columns(problem.params),
        (X.T, Y.T),
    )
