"""Activations, each beside the derivative that was worked out by hand.

A derivative receives both Z and A = g(Z), so that back-propagation never evaluates again what the
forward pass has in its cache: the sigmoid's derivative, for one, costs a subtraction and a product.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Activation(NamedTuple):
    """A function g and its derivative, both element-wise: A = g(Z) and g′(Z) = derivative(Z, A)."""

    name: str
    function: Callable[[Array], Array]
    derivative: Callable[[Array, Array], Array]


#: σ(z) = 1 / (1 + e⁻ᶻ);  σ′(z) = σ(z) (1 − σ(z)).
sigmoid = Activation("sigmoid", jax.nn.sigmoid, lambda Z, A: A * (1 - A))

#: tanh(z);  tanh′(z) = 1 − tanh²(z).
tanh = Activation("tanh", jnp.tanh, lambda Z, A: 1 - A * A)

#: max(z, 0);  1 where z > 0 and 0 elsewhere. At the kink, z = 0, the derivative is taken as 0,
#: the convention of `jax.nn.relu` (Bertoin et al., arXiv:2106.12915).
relu = Activation("relu", jax.nn.relu, lambda Z, A: (Z > 0).astype(Z.dtype))

ACTIVATIONS = {activation.name: activation for activation in (sigmoid, tanh, relu)}
