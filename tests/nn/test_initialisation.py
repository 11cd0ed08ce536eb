"""Each initialisation by the variance argument that chooses it, and by what it promises.

A mean over independent units is off its expectation by their standard deviation over the root of
their number; five of these are allowed.
"""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.nn.activations import relu
from jaxnn.nn.initialisation import INITIALISERS, document, glorot, he, orthogonal
from jaxnn.nn.mlp import feed_forward, init_params

from .test_equations import f64

SIZES = (101, 307, 211)


def mean_square(values: Any) -> float:
    return float(np.mean(f64(values) ** 2))


def spread(A: Any, variance: float, units: int) -> float:
    """Of the mean square of A Wᵀ: a unit's is wᵀSw with S = AᵀA/m, of variance 2 tr(S²) Var(W)²."""
    S = f64(A).T @ f64(A) / len(A)
    return float((2 * np.sum(S * S) / units) ** 0.5 * variance)


@pytest.mark.parametrize(
    ("initialiser", "variance"),
    [
        (document, lambda n_in, n_out: 1 / n_in),
        (he, lambda n_in, n_out: 2 / n_in),
        (glorot, lambda n_in, n_out: 2 / (n_in + n_out)),
    ],
    ids=["document", "he", "glorot"],
)
def test_variance_of_Z_across_widths(initialiser: Any, variance: Any) -> None:
    """Var(Z_l) = n_{l−1} Var(W_l) · mean square of A_{l−1}; backward, dA_{l−1} with n_l."""
    params = init_params(jax.random.key(0), SIZES, initialiser)
    rng = np.random.default_rng(0)
    cache = feed_forward(params, jnp.float32(rng.normal(size=(211, SIZES[0]))), relu)
    for layer, (n_in, n_out) in enumerate(pairwise(SIZES), start=1):
        W, A, v = f64(params[f"W{layer}"]), cache[f"A{layer - 1}"], variance(n_in, n_out)
        expected = n_in * v * mean_square(A)
        assert abs(mean_square(cache[f"Z{layer}"]) - expected) <= 5 * spread(A, v, n_out)
        assert spread(A, v, n_out) < 0.1 * expected
        dZ = rng.normal(size=(211, n_out))
        backward = n_out * v * mean_square(dZ)
        assert abs(mean_square(dZ @ W) - backward) <= 5 * spread(dZ, v, n_in)


def test_he_makes_up_for_what_relu_halves() -> None:
    """Given A_{l−1}, a unit's mean of A² − Z²/2 is 0 in expectation; with 2/n_{l−1}, Z_l then has
    the mean square of Z_{l−1}, which with 1/n_{l−1} is half of it at every layer."""
    X = jnp.float32(np.random.default_rng(0).normal(size=(211, SIZES[0])))
    cache = feed_forward(init_params(jax.random.key(0), SIZES, he), X, relu)
    unit = (f64(cache["A1"]) ** 2 - f64(cache["Z1"]) ** 2 / 2).mean(axis=0)
    assert abs(unit.mean()) <= 5 * unit.std() / len(unit) ** 0.5
    # A layer of n units adds a variance of 5/n at most, however much the examples have in common:
    # the standard deviation is below 0.2 of the ratio here.
    assert 0.7 < mean_square(cache["Z2"]) / mean_square(cache["Z1"]) < 1.4
    halved = feed_forward(init_params(jax.random.key(0), SIZES, document), X, relu)
    assert mean_square(halved["Z2"]) / mean_square(halved["Z1"]) < 0.65


@pytest.mark.parametrize(("n_out", "n_in"), [(31, 53), (53, 31), (13, 13)])
def test_orthogonal_rows_or_columns(n_out: int, n_in: int) -> None:
    """W Wᵀ = I where rows are fewer: then dZ W has the length of dZ; else Wᵀ W = I, and A Wᵀ that
    of A. A product of two unit vectors is rounded some n_in times by 2⁻⁵³."""
    with jax.enable_x64(True):
        W = f64(orthogonal.draw(jax.random.key(0), n_out, n_in, jnp.float64))
    assert W.shape == (n_out, n_in)
    square = W @ W.T if n_out <= n_in else W.T @ W
    np.testing.assert_allclose(square, np.eye(len(square)), rtol=0, atol=1e-13)
    v = np.random.default_rng(0).normal(size=(7, min(n_out, n_in)))
    through = v @ W if n_out <= n_in else v @ W.T
    lengths = [np.linalg.norm(x, axis=1) for x in (through, v)]
    np.testing.assert_allclose(*lengths, rtol=1e-13)


def test_the_bits_of_the_document_s_initialisation() -> None:
    key = jax.random.key(3)
    params = init_params(key, SIZES)
    for layer, (n_in, n_out) in enumerate(pairwise(SIZES), start=1):
        W = jax.random.normal(jax.random.fold_in(key, layer), (n_out, n_in)) * n_in**-0.5
        np.testing.assert_array_equal(params[f"W{layer}"], W)


@pytest.mark.parametrize(
    ("initialiser", "variance"), [(he, 2 / 3), (glorot, 2 / 9)], ids=["he", "glorot"]
)
def test_narrow_layers_have_that_variance_too(initialiser: Any, variance: float) -> None:
    """Of 3 inputs and 6 units, by the document's draw, whose variance is 1/3: a few roundings."""
    key = jax.random.key(4)
    found, drawn = (i.draw(key, 6, 3, jnp.float32) for i in (initialiser, document))
    np.testing.assert_allclose(found, f64(drawn) * (3 * variance) ** 0.5, rtol=1e-6)


@pytest.mark.parametrize("name", INITIALISERS)
def test_shapes_dtypes_and_keys(name: str) -> None:
    """In the dtype asked for, another key another W, and biases of 0."""
    with jax.enable_x64(True):
        one, other = (
            init_params(jax.random.key(seed), (13, 13), INITIALISERS[name], jnp.float64)
            for seed in (0, 1)
        )
    assert {k: (v.shape, v.dtype.name) for k, v in one.items()} == {
        "W1": ((13, 13), "float64"),
        "b1": ((13,), "float64"),
    }
    assert abs(f64(one["W1"]) - f64(other["W1"])).max() > 0.1
    assert not f64(one["b1"]).any()
