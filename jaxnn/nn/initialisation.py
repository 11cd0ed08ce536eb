"""The weights that training starts from: how W_l is drawn, and with which variance.

By the document's argument, Var(Z_l) = n_{l−1} Var(W_l) times the mean square of A_{l−1}: what the
activation does to the mean square decides which variance keeps Z_l in its range, layer by layer.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import Array
from jax.typing import DTypeLike


class Initialiser(NamedTuple):
    """W_l = draw(key, n_l, n_{l−1}, dtype), of shape (n_l, n_{l−1})."""

    name: str
    draw: Callable[[Array, int, int, DTypeLike], Array]


def _normal(n: Callable[[int, int], float]) -> Callable[..., Array]:
    """W ~ N(0, 1/n) with n of (n_out, n_in), independently."""

    def draw(key: Array, n_out: int, n_in: int, dtype: DTypeLike) -> Array:
        scale: float = n(n_out, n_in) ** -0.5
        return jax.random.normal(key, (n_out, n_in), dtype) * scale

    return draw


#: The document's 1/n_in: Z_l has the mean square of A_{l−1}.
document = Initialiser("document", _normal(lambda n_out, n_in: n_in))

#: 2/n_in: ReLU sets half of a symmetric Z to 0 and so halves its mean square; Z_l then has that of
#: Z_{l−1} (He et al., arXiv:1502.01852).
he = Initialiser("he", _normal(lambda n_out, n_in: n_in / 2))

#: 2/(n_in + n_out): backward, dA_{l−1} has n_out Var(W_l) times the mean square of dZ_l, which asks
#: for 1/n_out; this is between the two (Glorot and Bengio, AISTATS 2010).
glorot = Initialiser("glorot", _normal(lambda n_out, n_in: (n_in + n_out) / 2))

#: Orthonormal rows, or columns where there are fewer of them: a step back (n_out ≤ n_in) or forward
#: (n_out ≥ n_in) keeps every length, not only the mean of all (Saxe et al., arXiv:1312.6120).
orthogonal = Initialiser(
    "orthogonal",
    lambda key, n_out, n_in, dtype: jax.random.orthogonal(key, n_out, m=n_in, dtype=dtype),
)

INITIALISERS = {initialiser.name: initialiser for initialiser in (document, he, glorot, orthogonal)}
