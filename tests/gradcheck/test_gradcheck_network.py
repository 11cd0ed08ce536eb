"""Our own network as a patient, and the settings that must not matter."""

import jax
import numpy as np
import pytest

import jaxnn
from jaxnn.gradcheck import verify_network
from jaxnn.gradcheck.reference import order
from jaxnn.nn import mlp
from jaxnn.nn.activations import ACTIVATIONS, gelu
from jaxnn.nn.losses import Distilled, distillation

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


def regularised(dtype=np.float32):
    """A network, masks of 0 or 4/3, λ, and a teacher, as the arguments of `verify_network`."""
    params, X, Y = network(3, dtype=dtype)
    rng = np.random.default_rng(5)
    widths = {"D0": 11, "D1": 7, "D2": 13}
    masks = {
        k: dtype(4 / 3) * (rng.random((17, n)) < 0.75).astype(dtype) for k, n in widths.items()
    }
    targets = Distilled(Y, soft(Y, dtype))
    return (params, X, targets), {"masks": masks, "l2": 0.1, "loss": distillation(2.0, 0.5)}


REGULARISED_FAULTS = [
    (lambda d, params: {}, None, None),
    (lambda d, params: {"dZ3": -d["dZ3"]}, "sign", "dZ3"),
    (lambda d, params: {"dA2": d["dZ3"] @ params["W3"]}, "unknown", "dA2"),
    (lambda d, params: {"dW1": d["dW1"] - 0.1 * params["W1"]}, "missing_regularisation", "dW1"),
    (lambda d, params: {"db2": 17 * d["db2"]}, "missing_mean", "db2"),
]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("change", "code", "first"), REGULARISED_FAULTS)
def test_a_regularised_network_is_verified_and_its_faults_are_named(change, code, first):
    def back_propagate(params, cache, Y, activation, **options):
        d = mlp.back_propagate(params, cache, Y, activation, **options)
        return d | change(d, params)

    arguments, options = regularised()
    report = verify_network(*arguments, gelu, back_propagate, **options)
    assert (report.ok, report.cause, report.first_wrong) == (code is None, code, first)
    assert [leaf.path for leaf in report.leaves] == order(3)
    assert report.witness.status == "confirms"
    assert report.witness.slope == pytest.approx(2, abs=0.1)


def test_a_penalty_alone_is_followed_equation_by_equation():
    arguments = network(dtype=np.float32)
    assert verify_network(*arguments, l2=0.1).ok
    forgotten = planted(lambda d: {})
    report = verify_network(*arguments, back_propagate=lambda *a, l2: forgotten(*a), l2=0.1)
    assert (report.cause, report.first_wrong) == ("missing_regularisation", "dW2")
    assert "l2 * W2" in report.explanation


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
