"""How a file was read: which way round its arrays lie, which activation, which loss.

Each is found by trying: the file's own forward pass and its own loss are held against those of
every network that is known here, in NumPy and float64. What they leave open, the gradient decides
where it is right for one of them; else the first of the table is taken, and said to be taken.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Arrays = Mapping[str, Any]


def sigmoid(Z: Array) -> Array:
    """1 / (1 + e⁻ᶻ), where e⁻ᶻ cannot overflow."""
    E = np.exp(-np.abs(Z))
    return np.asarray(np.where(Z >= 0, 1.0, E) / (1 + E))


def softmax(Z: Array) -> Array:
    """exp(Z) / Σ exp(Z) over the classes; examples are rows."""
    E = np.exp(Z - Z.max(axis=1, keepdims=True))
    return np.asarray(E / E.sum(axis=1, keepdims=True))


#: The activations of hidden layers.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": lambda Z: np.maximum(Z, 0.0),
    "leaky_relu": lambda Z: np.where(Z > 0, Z, 0.01 * Z),
    "softplus": lambda Z: np.logaddexp(Z, 0.0),
    "gelu": lambda Z: Z * np.vectorize(lambda z: math.erfc(-z * math.sqrt(0.5)) / 2)(Z),
    "silu": lambda Z: Z * sigmoid(Z),
}

#: The functions of the output layer; it may also have the hidden layers' own.
OUTPUTS: dict[str, Callable[[Array], Array]] = {
    "softmax": softmax,
    "sigmoid": sigmoid,
    "linear": lambda Z: Z,
}

#: The losses, summed over the examples, in the order in which they are taken for granted.
LOSSES: dict[str, tuple[str, Callable[[Array, Array], float]]] = {
    "softmax": ("softmax and cross-entropy",
                lambda A, Y: -float((Y * np.log(np.maximum(A, 1e-300))).sum())),
    "sigmoid": ("sigmoid and cross-entropy",
                lambda A, Y: -float((Y * np.log(np.maximum(A, 1e-300))
                                     + (1 - Y) * np.log(np.maximum(1 - A, 1e-300))).sum())),
    "half_squared": ("half the squared error", lambda A, Y: 0.5 * float(((A - Y) ** 2).sum())),
    "squared": ("squared error", lambda A, Y: float(((A - Y) ** 2).sum())),
}  # fmt: skip

REDUCTIONS = {
    "mean": "mean over the examples",
    "sum": "sum over the examples",
    "entries": "mean over examples and outputs",
}

#: What can be said of a loss on the command line.
WORDS = (*LOSSES, *REDUCTIONS)


@dataclass(frozen=True)
class Layout:
    """Which way round the arrays lie, and which of them make up a layer."""

    layers: tuple[tuple[str, str], ...]  #: the file's names of W_l and b_l, or ""
    rows: bool  #: X is (m, n_x)
    inwards: bool  #: W is (n_{l−1}, n_l)
    bias: str  #: "column" (n, 1), "row" (1, n) or "vector" (n,)

    @property
    def columns(self) -> bool:
        """Are the equations those of examples as columns, Z = W A + b?"""
        return not self.inwards and (self.bias == "column" if any(b for _, b in self.layers)
                                     else not self.rows)  # fmt: skip

    def shape(self, leaf: str, sizes: Sequence[int]) -> tuple[int, ...]:
        for (W, b), n_in, n_out in zip(self.layers, sizes, sizes[1:], strict=False):
            if leaf == W:
                return (n_in, n_out) if self.inwards else (n_out, n_in)
            if leaf == b:
                return {"column": (n_out, 1), "row": (1, n_out), "vector": (n_out,)}[self.bias]
        raise KeyError(leaf)

    def W(self, leaves: Arrays, layer: int) -> Array:
        """W_l as (n_l, n_{l−1})."""
        value = np.asarray(leaves[self.layers[layer - 1][0]], np.float64)
        return value.T if self.inwards else value

    def b(self, leaves: Arrays, layer: int) -> Array:
        name = self.layers[layer - 1][1]
        return np.asarray(leaves[name], np.float64).ravel() if name else np.zeros(1)

    def told(self) -> str:
        way = "rows" if self.rows else "columns"
        shape = "(n_in, n_out)" if self.inwards else "(n_out, n_in)"
        return f"examples are {way}, W is {shape}"


#: What is tried where the file's shapes are free: rows, inwards, bias.
LAYOUTS = (
    (False, False, "column"),
    (True, True, "row"),
    (True, True, "vector"),
    (True, False, "vector"),
    (True, False, "row"),
    (True, False, "column"),
    (False, True, "column"),
)


def layers_of(shapes: Mapping[str, tuple[int, ...]]) -> tuple[tuple[str, str], ...]:
    """W_l and b_l among a file's own arrays, in their order; empty if they are no layers."""
    names = list(shapes)
    numbers = [_numbers(name) for name in names]
    if all(numbers) and len({n[-1] for n in numbers}) > 1:
        names.sort(key=lambda name: _numbers(name)[-1])
    weights = [n for n in names if len(shapes[n]) == 2 and not _is_bias(n, shapes[n])]
    biases = [n for n in names if n not in weights]
    if not weights or len(biases) not in (0, len(weights)):
        return ()
    return tuple(zip(weights, biases or [""] * len(weights), strict=True))


def _numbers(name: str) -> list[int]:
    digits = "".join(c if c.isdigit() else " " for c in name).split()
    return [int(d) for d in digits]


def _is_bias(name: str, shape: tuple[int, ...]) -> bool:
    last = name.rsplit(".", 1)[-1].lstrip("_").lower()
    return len(shape) == 1 or (1 in shape and (last.startswith("b") or "bias" in last))


def orientation(shapes: Mapping[str, Any], layers: Any) -> tuple[bool, tuple[int, ...], str] | None:
    """Is W (n_in, n_out), the sizes of the layers, and the shape of b; None if no chain fits."""
    for inwards in (False, True):
        ways = [shapes[W] if inwards else shapes[W][::-1] for W, _ in layers]
        outs = [int(np.prod(shapes[b])) if b else way[1]
                for (_, b), way in zip(layers, ways, strict=True)]  # fmt: skip
        chained = all(a[1] == b[0] for a, b in pairwise(ways))
        if chained and outs == [way[1] for way in ways]:
            bias = shapes[layers[0][1]] if layers[0][1] else ()
            kind = "vector" if len(bias) == 1 else "row" if bias and bias[0] == 1 else "column"
            return inwards, (ways[0][0], *outs), kind
    return None


@dataclass(frozen=True)
class Network:
    """A network and its loss: k Σ_i (loss of example i) + l2/2 Σ‖W‖²."""

    layout: Layout
    activation: str
    output: str
    loss: str
    reduction: str
    l2: float = 0.0

    def forward(self, leaves: Arrays, X: Array) -> dict[str, Array]:
        """Z_l and A_l with examples as rows; X is (m, n_x)."""
        L, A = len(self.layout.layers), X
        cache: dict[str, Array] = {}
        for layer in range(1, L + 1):
            Z = A @ self.layout.W(leaves, layer).T + self.layout.b(leaves, layer)
            hidden = layer < L or self.output not in OUTPUTS
            A = (ACTIVATIONS[self.activation] if hidden else OUTPUTS[self.output])(Z)
            cache |= {f"Z{layer}": Z, f"A{layer}": A}
        return cache

    def k(self, m: int, C: int) -> float:
        return {"mean": 1 / m, "sum": 1.0, "entries": 1 / (m * C)}[self.reduction]

    def value(self, leaves: Arrays, X: Array, Y: Array) -> float:
        """The loss in NumPy; X (m, n_x), Y (m, C)."""
        A = self.forward(leaves, X)[f"A{len(self.layout.layers)}"]
        squares = sum(float((self.layout.W(leaves, i + 1) ** 2).sum())
                      for i in range(len(self.layout.layers)))  # fmt: skip
        return self.k(*A.shape) * LOSSES[self.loss][1](A, Y) + self.l2 / 2 * squares

    def told(self) -> str:
        output = "" if self.loss == self.output else f"{self.output} output, "
        hidden = f"{self.activation}, " if len(self.layout.layers) > 1 else ""
        return f"{hidden}{output}{self.told_loss()}"

    def told_loss(self) -> str:
        penalty = f", with λ/2 Σ‖W‖², λ = {self.l2:g}" if self.l2 else ""
        return f"{LOSSES[self.loss][0]}, {REDUCTIONS[self.reduction]}{penalty}"

    def agreeing(self, leaves: Arrays, X: Array, Y: Array, gradient: Arrays) -> int:
        """How many leaves of a gradient are this loss's, by one difference of it each."""
        count = 0
        rng = np.random.default_rng(1)
        for name, value in leaves.items():
            v = rng.standard_normal(np.shape(value))
            given = gradient.get(name)
            if given is None or np.shape(given) != np.shape(value) or given.dtype.kind not in "fiu":
                continue
            sides = [self.value({**leaves, name: value + h * v}, X, Y)
                     for h in (2e-5, 1e-5, -1e-5, -2e-5)]  # fmt: skip
            slope = (8 * (sides[1] - sides[2]) - sides[0] + sides[3]) / 12e-5
            size = float(np.linalg.norm(given)) + abs(slope)
            count += abs(float((np.asarray(given, np.float64) * v).sum()) - slope) <= 1e-6 * size
        return count


def candidates(
    layout: Layout, activation: str | None, words: Sequence[str], l2: float
) -> Iterator[Network]:
    """The networks that are known, those that are commonest first."""
    outputs: list[tuple[str, str]] = [("softmax", "softmax"), ("sigmoid", "sigmoid")]
    squares = ("half_squared", "squared")
    outputs += [(o, s) for o in ("sigmoid", "linear", "softmax", "hidden") for s in squares]
    losses = [w for w in words if w in LOSSES]
    reductions = [w for w in words if w in REDUCTIONS]
    for hidden in [activation] if activation else list(ACTIVATIONS):
        for output, loss in outputs:
            for reduction in reductions or REDUCTIONS:
                if not losses or loss in losses:
                    same = output == "hidden"
                    if same and hidden == "sigmoid":
                        continue
                    yield Network(layout, hidden, hidden if same else output, loss, reduction, l2)


def found_in(value: Array, arrays: Arrays) -> str | None:
    """The name of the array that has these values, rows or columns; None if there is none."""
    for name, array in arrays.items():
        if near(array, value):
            return name
    return None


def near(array: Any, value: Array) -> bool:
    """Equal to rounding in float32, either way round."""
    array = np.asarray(array)
    if array.size != value.size or array.dtype.kind not in "fiu":
        return False
    slack = 4e-6 * max(1.0, float(np.abs(value).max(initial=0.0)))
    for way in (value, value.T):
        if array.shape == way.shape and np.all(np.abs(array - way) <= slack):
            return True
    flat = 1 in value.shape and array.ndim == 1
    return bool(flat and np.all(np.abs(array - value.ravel()) <= slack))
