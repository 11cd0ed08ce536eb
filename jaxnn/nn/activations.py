"""Activations, each beside the derivative that was worked out by hand.

A derivative receives both Z and A = g(Z), so that back-propagation never evaluates again what the
forward pass has in its cache: the sigmoid's derivative, for one, costs a subtraction and a product.
Every function and derivative is finite for every finite z.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

#: The slope of the leaky ReLU on the left.
LEAK = 0.01


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

#: max(z, z/100);  1 where z > 0 and 1/100 elsewhere. At the kink the derivative is the one from the
#: left, as for ReLU (PyTorch's convention; `jax.nn.leaky_relu` takes the one from the right, 1).
leaky_relu = Activation(
    "leaky_relu",
    lambda Z: jnp.where(Z > 0, Z, LEAK * Z),
    lambda Z, A: jnp.where(Z > 0, 1.0, LEAK).astype(Z.dtype),
)

#: log(1 + eᶻ);  softplus′(z) = σ(z).
softplus = Activation("softplus", jax.nn.softplus, lambda Z, A: jax.nn.sigmoid(Z))

#: z Φ(z) with the normal distribution Φ itself, not the tanh that is often put in its place;
#: gelu′(z) = Φ(z) + z φ(z) (Hendrycks and Gimpel, arXiv:1606.08415).
gelu = Activation("gelu", lambda Z: Z * _Phi(Z), lambda Z, A: _Phi(Z) + Z * _phi(Z))

#: z σ(z);  silu′(z) = σ(z) + z σ(z) (1 − σ(z)), where z σ(z) is A.
silu = Activation(
    "silu",
    lambda Z: Z * jax.nn.sigmoid(Z),
    lambda Z, A: (S := jax.nn.sigmoid(Z)) + A * (1 - S),
)

ACTIVATIONS = {
    activation.name: activation
    for activation in (sigmoid, tanh, relu, leaky_relu, softplus, gelu, silu)
}


def _Phi(Z: Array) -> Array:
    """Φ(z) = ½ erfc(−z/√2): of full relative accuracy on the left, where ½ (1 + erf) cancels."""
    return jax.scipy.special.erfc(-Z * math.sqrt(0.5)) / 2


def _phi(Z: Array) -> Array:
    """φ(z) = exp(−z²/2) / √(2π) = Φ′(z)."""
    return jnp.exp(-Z * Z / 2) / math.sqrt(2 * math.pi)
