"""Is this parameter tree a network, and which? Its derivation is found by trying."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxnn.gradcheck.compare import Float64Array, largest
from jaxnn.gradcheck.derivation import HEADS, Derivation, derivation
from jaxnn.gradcheck.hypotheses import near
from jaxnn.nn.activations import ACTIVATIONS

Leaves = Mapping[str, Float64Array]
Floors = Mapping[str, Float64Array | float]


@dataclass(frozen=True)
class Layout:
    """Where a parameter tree keeps W_l and b_l, and which way round."""

    weights: Sequence[str]  #: the path of W_1, W_2, …
    biases: Sequence[str]
    transposed: bool  #: W is (n_{l−1}, n_l)
    columns: bool  #: examples are columns: X is (n_x, m)
    bias_shapes: Sequence[tuple[int, ...]]  #: (n_l,), (n_l, 1) or (1, n_l)

    def equations(self) -> dict[str, str]:
        """The leaf's path for each dW_l and db_l."""
        paths = {f"dW{i}": path for i, path in enumerate(self.weights, 1)}
        return paths | {f"db{i}": path for i, path in enumerate(self.biases, 1)}

    def canonical(self, leaves: Leaves) -> dict[str, Float64Array]:
        """Leaves under their equations' names, W as (n_l, n_{l−1}), b as (n_l,)."""
        found = {}
        for equation, path in self.equations().items():
            if path not in leaves:
                continue
            value = leaves[path]
            if equation[1] == "W" and self.transposed and np.ndim(value) == 2:
                value = value.T
            if equation[1] == "b" and np.shape(value) == self.bias_shapes[int(equation[2:]) - 1]:
                value = value.ravel()
            found[equation] = value
        return found


def find_network(
    params: Leaves, args: Sequence[Any], truth: Leaves, floor: Floors
) -> tuple[Layout, Derivation] | None:
    """The network whose derivation gives the true derivatives; None if it is another loss.

    Layouts, activations and losses are tried until one reproduces `truth` to the noise floor, so
    that what follows rests on the very loss that was given.
    """
    for layout in _layouts(params):
        W = {int(k[2:]): v for k, v in layout.canonical(params).items() if k[1] == "W"}
        b = {int(k[2:]): v for k, v in layout.canonical(params).items() if k[1] == "b"}
        if not _chained(W, b):
            continue
        true, floors = layout.canonical(truth), layout.canonical(_full(floor, truth))
        for X, Y in _data(args, W[1].shape[1], W[len(W)].shape[0], layout.columns):
            for activation in ACTIVATIONS.values():
                for head in HEADS:
                    fitted = _fit(derivation(W, b, X, Y, activation, 1.0, 0.0, head), true)
                    if fitted and all(
                        near(value, true[name], 8 * floors[name])
                        for name, value in fitted.derivatives().items()
                        if name in true
                    ):
                        return layout, fitted
                if len(W) == 1:
                    break
    return None


def _full(floor: Floors, like: Leaves) -> dict[str, Float64Array]:
    return {path: np.broadcast_to(floor[path], value.shape) for path, value in like.items()}


def _layouts(params: Leaves) -> Iterator[Layout]:
    """Matrices and vectors in the order of their names (W2 before W10), in both orientations."""

    def natural(path: str) -> list[Any]:
        return [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", path)]

    def is_bias(path: str) -> bool:
        shape, name = params[path].shape, re.split(r"[.\[\]'/]", path.rstrip("]'"))[-1].lower()
        return len(shape) == 1 or (len(shape) == 2 and 1 in shape and name.startswith("b"))

    biases = sorted(filter(is_bias, params), key=natural)
    weights = sorted((p for p in params if p not in biases and params[p].ndim == 2), key=natural)
    if weights and len(weights) == len(biases) and len(params) == 2 * len(weights):
        shapes = [params[path].shape for path in biases]
        for transposed in (False, True):
            for columns in (False, True):
                yield Layout(weights, biases, transposed, columns, shapes)


def _chained(W: Mapping[int, Float64Array], b: Mapping[int, Float64Array]) -> bool:
    """Does each layer take what the one below gives?"""
    return all(
        W[i].shape[0] == b[i].size and (i == 1 or W[i].shape[1] == W[i - 1].shape[0]) for i in W
    )


def _data(
    args: Sequence[Any], n_x: int, C: int, columns: bool
) -> Iterator[tuple[Float64Array, Float64Array]]:
    """X (m, n_x) and Y (m, C) among the arguments; integer labels (m,) become one-hot rows."""
    arrays = [np.asarray(arg) for arg in args if _numeric(arg)]
    for X in arrays:
        if X.ndim != 2 or not np.issubdtype(X.dtype, np.number):
            continue
        rows = X.T if columns else X
        for Y in arrays:
            if rows.shape[1] != n_x or Y is X:
                continue
            if Y.ndim == 1 and np.issubdtype(Y.dtype, np.integer):
                if len(Y) == len(rows) and Y.min(initial=0) >= 0 and Y.max(initial=0) < C:
                    yield rows.astype(np.float64), np.eye(C)[Y]
            elif Y.ndim == 2:
                targets = Y.T if columns else Y
                if targets.shape == (len(rows), C):
                    yield rows.astype(np.float64), targets.astype(np.float64)


def _numeric(arg: Any) -> bool:
    """Is it an array of numbers? A typed key has a shape and a dtype too, and is none."""
    return hasattr(arg, "shape") and isinstance(getattr(arg, "dtype", None), np.dtype)


def _fit(net: Derivation, true: Leaves) -> Derivation | None:
    """The loss's constants: k from the last bias, which no penalty is put on, then λ from W_L."""
    d = net.derivatives()
    b, W = d[f"db{net.L}"], net.W[net.L]
    square = float((b * b).sum())
    if not np.isfinite(square) or square == 0:
        return None
    k = float((true[f"db{net.L}"] * b).sum()) / square
    for exact in (1.0, 1 / net.m):
        k = exact if np.isclose(k, exact, rtol=1e-9) else k
    rest = true[f"dW{net.L}"] - k * d[f"dW{net.L}"]
    l2 = float((rest * W).sum() / (W * W).sum())
    if largest(l2 * W) <= 1e-9 * largest(true[f"dW{net.L}"]):
        l2 = 0.0
    return replace(net, k=k, l2=l2)
