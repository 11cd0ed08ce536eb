"""The derivation once more, in NumPy and float64, and the wrong equations that people write.

`OUTPUT` and `HIDDEN` are the tables of wrong equations, one line for each. `trail` searches them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.hypotheses import Mark, near
from jaxnn.gradcheck.numpy_activations import FUNCTIONS, sigmoid, softmax
from jaxnn.gradcheck.reference import float64_rules, order
from jaxnn.nn.activations import ACTIVATIONS, Activation

Derivatives = Mapping[str, Float64Array]


def apply(activation: Activation, Z: Float64Array) -> Float64Array:
    """g(Z) in float64."""
    if activation.name in FUNCTIONS:
        return FUNCTIONS[activation.name](Z)
    with float64_rules():
        return np.asarray(activation.function(jnp.asarray(Z)))


def slope(activation: Activation, Z: Float64Array, A: Float64Array) -> Float64Array:
    """g′(Z), by the activation's own formula in Z and A."""
    derivative: Callable[[Any, Any], Any] = activation.derivative
    if activation.name in FUNCTIONS:
        return np.asarray(derivative(Z, A), np.float64)
    with float64_rules():
        return np.asarray(derivative(jnp.asarray(Z), jnp.asarray(A)))


#: The losses that are recognised, by the function of the output layer; each has dZ_L = A_L − Y, up
#: to a constant: softmax with cross-entropy, σ with binary cross-entropy, a plain squared error.
HEADS: dict[str, Callable[[Float64Array], Float64Array]] = {
    "softmax": softmax,
    "sigmoid": sigmoid,
    "identity": lambda Z: Z,
}

#: Wrong equations for dZ_L. The right one is A − Y.
OUTPUT: tuple[tuple[str, str, Callable[[Float64Array, Float64Array], Float64Array]], ...] = (
    ("labels_not_subtracted", "A", lambda A, Y: A),
    ("softmax_jacobian_missing", "-Y / A", lambda A, Y: -Y / A),
    ("softmax_jacobian_missing", "-Y * (1 - A)", lambda A, Y: -Y * (1 - A)),
    ("mse_derivative", "(A - Y) * A * (1 - A)", lambda A, Y: (A - Y) * A * (1 - A)),
    (
        "mse_derivative",
        "A * ((A - Y) - sum((A - Y) * A))",
        lambda A, Y: A * ((A - Y) - ((A - Y) * A).sum(axis=1, keepdims=True)),
    ),
)


class Factor(NamedTuple):
    """A wrong factor D in dZ = dA ∘ D, where g is the activation and h any other."""

    code: str
    text: str
    value: Callable[[Activation, Activation, Float64Array, Float64Array], Float64Array]


#: Wrong equations for a hidden dZ_l. The right factor is g′(Z) = g.derivative(Z, A).
OTHER = "wrong_activation_derivative"
HIDDEN = (
    Factor("missing_activation_derivative", "1", lambda g, h, Z, A: np.ones_like(Z)),
    Factor("derivative_at_activation", "{g}'(A)", lambda g, h, Z, A: slope(g, A, apply(g, A))),
    Factor(OTHER, "{h}'(Z)", lambda g, h, Z, A: slope(h, Z, apply(h, Z))),
    Factor(OTHER, "{h}' written in A", lambda g, h, Z, A: slope(h, Z, A)),
    Factor(OTHER, "{h}'(A)", lambda g, h, Z, A: slope(h, A, apply(h, A))),
    Factor(OTHER, "{g}' written in A, of Z", lambda g, h, Z, A: slope(g, Z, Z)),
    Factor(OTHER, "{g}'(Z) twice", lambda g, h, Z, A: slope(g, Z, A) ** 2),
    Factor(OTHER, "A, the activation itself", lambda g, h, Z, A: A),
)


@dataclass(frozen=True)
class Derivation:
    """The network at one point: W_l (n_l, n_{l−1}), b_l, the cache, and the loss's constants.

    The loss is k · Σ_i (loss of example i) + l2/2 · Σ‖W‖²: k = 1/m makes it a mean, 1 a sum.
    """

    W: Mapping[int, Float64Array]
    b: Mapping[int, Float64Array]
    Y: Float64Array
    Z: Mapping[int, Float64Array]
    A: Mapping[int, Float64Array]
    activation: Activation
    k: float
    l2: float = 0.0
    head: str = "softmax"

    @property
    def L(self) -> int:
        return len(self.W)

    @property
    def m(self) -> int:
        return len(self.Y)

    def sizes(self) -> dict[str, int]:
        """The sizes by their names in the derivation, the batch size first."""
        hidden = {f"n_{layer}": len(self.b[layer]) for layer in range(1, self.L)}
        hidden = {"n_h": hidden["n_1"]} if self.L == 2 else hidden
        return {"m": self.m, "C": self.Y.shape[1], "n_x": self.A[0].shape[1], **hidden}

    def slope(self, layer: int) -> Float64Array:
        """g′(Z_l)."""
        return slope(self.activation, self.Z[layer], self.A[layer])

    def wrong_slopes(self, layer: int) -> Iterator[tuple[Mark, Float64Array]]:
        """The lines of HIDDEN at this layer, for each other activation of a homework's.

        A line whose values are right here, or those of a line before it, is left out.
        """
        g, Z, A = self.activation, self.Z[layer], self.A[layer]
        others = [ACTIVATIONS[name] for name in FUNCTIONS if name != g.name]
        seen = [self.slope(layer)]
        for factor in HIDDEN:
            for h in others if "{h}" in factor.text else others[:1]:
                value = factor.value(g, h, Z, A)
                if not any(near(value, before, 1e-12) for before in seen):
                    seen.append(value)
                    yield Mark(factor.code, detail=factor.text.format(g=g.name, h=h.name)), value

    def dW(self, layer: int, dZ: Float64Array, A: Float64Array | None = None) -> Float64Array:
        """k dZᵀ A_{l−1} + l2 W."""
        data = self.k * dZ.T @ (self.A[layer - 1] if A is None else A)
        return data + self.l2 * self.W[layer] if self.l2 else data

    def loss(self) -> float:
        """k Σ_i (loss of example i) + l2/2 Σ‖W‖², for the softmax's cross-entropy."""
        Z = self.Z[self.L]
        below = Z - Z.max(axis=1, keepdims=True)
        logs = below - np.log(np.exp(below).sum(axis=1, keepdims=True))
        squares = sum(float((W * W).sum()) for W in self.W.values())
        return -self.k * float((self.Y * logs).sum()) + self.l2 / 2 * squares

    def moved(self, point: Derivatives) -> "Derivation":
        """The same network with other parameters, by the names of their derivatives."""
        W, b = ({i: point[f"d{kind}{i}"] for i in self.W} for kind in "Wb")
        return derivation(W, b, self.A[0], self.Y, self.activation, self.k, self.l2, self.head)

    def point(self) -> dict[str, Float64Array]:
        """The parameters by the names of their derivatives."""
        return {f"dW{i}": self.W[i] for i in self.W} | {f"db{i}": self.b[i] for i in self.b}

    def derivatives(self) -> dict[str, Float64Array]:
        """Every right equation, in the order of back-propagation."""
        d = {f"dZ{self.L}": self.A[self.L] - self.Y * 1.0}
        for layer in range(self.L, 0, -1):
            if layer < self.L:
                d[f"dA{layer}"] = d[f"dZ{layer + 1}"] @ self.W[layer + 1]
                d[f"dZ{layer}"] = d[f"dA{layer}"] * self.slope(layer)
            d[f"dW{layer}"] = self.dW(layer, d[f"dZ{layer}"])
            d[f"db{layer}"] = self.k * d[f"dZ{layer}"].sum(axis=0)
        return {name: d[name] for name in order(self.L)}


def derivation(
    W: Mapping[int, Float64Array],
    b: Mapping[int, Float64Array],
    X: Float64Array,
    Y: Float64Array,
    activation: Activation,
    k: float,
    l2: float = 0.0,
    head: str = "softmax",
) -> Derivation:
    """The forward pass, and what the backward pass needs of it."""
    Z: dict[int, Float64Array] = {}
    A = {0: X}
    for layer in sorted(W):
        Z[layer] = A[layer - 1] @ W[layer].T + b[layer]
        A[layer] = HEADS[head](Z[layer]) if layer == len(W) else apply(activation, Z[layer])
    return Derivation(W, b, Y, Z, A, activation, k, l2, head)
