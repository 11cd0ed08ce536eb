"""Our own network as a patient, and the settings that must not matter."""

import jax
import numpy as np
import pytest

import jaxnn
from jaxnn import mlp
from jaxnn.activations import ACTIVATIONS
from jaxnn.gradcheck import verify_network
from jaxnn.gradcheck.reference import order

from .point import network


@pytest.mark.parametrize(
    ("activation", "depth", "dtype"),
    [("sigmoid", 2, "float32"), ("tanh", 3, "float32"), ("relu", 3, "float64")],
)
def test_every_derivative_is_verified(activation, depth, dtype):
    report = verify_network(*network(depth, dtype=dtype), ACTIVATIONS[activation])
    assert report.ok
    assert [leaf.path for leaf in report.leaves] == order(depth)
    assert report.max_relative_error < {"float32": 1e-5, "float64": 1e-14}[dtype]
    assert report.witness.status == "confirms"


def planted(change):
    def back_propagate(params, cache, Y, activation):
        d = dict(mlp.back_propagate(params, cache, Y, activation))
        return change(d) or d

    return back_propagate


FAULTS = [
    (lambda d: d.update(dW2=-d["dW2"]), "sign", "dW2"),
    (lambda d: d.update(db1=d["db1"] / 17), "bias_mean_for_sum", "db1"),
    (lambda d: d.update(dW1=d["dW1"].at[3, 2].multiply(1.01)), "scale", "dW1"),
    (lambda d: d.update(dZ1=d["dA1"]), "missing_activation_derivative", "dZ1"),
    (lambda d: d.update(dW1=d["dW1"][:, :3]), "shape", "dW1"),
    (lambda d: {k: v for k, v in d.items() if k != "dW1"}, "structure", "dW1"),
]


@pytest.mark.parametrize(("change", "code", "first"), FAULTS)
def test_a_planted_fault_is_refused_and_named(change, code, first):
    report = verify_network(*network(dtype=np.float32), back_propagate=planted(change))
    assert not report.ok
    assert report.findings[0].code == code
    assert report.first_wrong == first


@pytest.mark.parametrize(
    ("x64", "promotion", "rank"),
    [(False, "standard", "raise"), (True, "strict", "allow"), (True, "standard", "allow")],
)
def test_global_settings_neither_matter_nor_change(x64, promotion, rank):
    with (
        jax.enable_x64(x64),
        jax.numpy_dtype_promotion(promotion),
        jax.numpy_rank_promotion(rank),
    ):
        assert verify_network(*network(dtype=np.float32)).ok
        assert jax.config.jax_enable_x64 == x64
        assert jax.config.jax_numpy_dtype_promotion == promotion
        assert jax.config.jax_numpy_rank_promotion == rank


def soft(Y, dtype):
    """Rows that sum to 1 in their own dtype only."""
    noise = np.random.default_rng(3).random(Y.shape)
    return ((Y + noise) / (Y + noise).sum(axis=1, keepdims=True)).astype(dtype)


def test_soft_targets_are_right_too():
    params, X, Y = network(dtype=np.float32)
    assert verify_network(params, X, soft(Y, np.float32)).ok
    for dtype in (np.float32, np.float64):
        params, X, Y = network(dtype=dtype)
        assert jaxnn.check_gradients(mlp.loss, mlp.gradient, params, X, soft(Y, np.float32)).ok
