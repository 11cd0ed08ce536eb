"""A report says nothing that it does not know, and nothing that is about another case."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import check_gradients
from jaxnn.nn import mlp
from jaxnn.nn.activations import ACTIVATIONS

from .point import network


def squared_error(params, X, Y):
    """The mean over all m·C entries, as numpy.mean gives it."""
    A1 = jnp.tanh(X @ params["W1"].T + params["b1"])
    return jnp.mean((A1 @ params["W2"].T + params["b2"] - Y) ** 2)


def squared_error_gradient(params, X, Y, over=1.0):
    A1 = np.tanh(X @ params["W1"].T + params["b1"])
    dZ2 = over * 2 * (A1 @ params["W2"].T + params["b2"] - Y) / Y.size
    dZ1 = dZ2 @ params["W2"] * (1 - A1**2)
    return {"W1": dZ1.T @ X, "b1": dZ1.sum(0), "W2": dZ2.T @ A1, "b2": dZ2.sum(0)}


def test_no_advice_where_it_depends_on_where_the_writer_keeps_a_constant():
    """`dZ2 = A2 - Y` or `/ m`, written down in this code, would break what is right in it."""
    point = network(2, "tanh")
    assert check_gradients(squared_error, squared_error_gradient, *point).ok
    report = check_gradients(
        squared_error, lambda *args: squared_error_gradient(*args, over=3.0), *point
    )
    assert report.cause == "scale"
    assert "Write" not in report.explanation
    assert "/ m" not in report.explanation


def test_the_mean_may_stand_in_dZ_already():
    """(A2 - Y) / m in dZ2 and no / m in dW2 is right code as well."""
    params, X, Y = network(2, "sigmoid")

    def transposed(params, X, Y):
        cache = {name: np.asarray(v) for name, v in mlp.feed_forward(params, X).items()}
        dZ2 = (cache["A2"] - Y) / len(X)
        dZ1 = dZ2 @ params["W2"] * cache["A1"] * (1 - cache["A1"])
        return {"W1": dZ1.T @ X, "b1": dZ1.sum(0), "W2": 2 * dZ2.T @ cache["A1"], "b2": dZ2.sum(0)}

    told = check_gradients(mlp.loss, transposed, params, X, Y).explanation
    assert "Write dW2 = dZ2.T @ A1 / m (without / m if dZ2 has it already)." in told


@pytest.mark.parametrize("wrong", [("a",), ("a", "b")])
def test_leaves_of_any_loss_are_in_no_order(wrong):
    """Nothing says which of them comes first, so nothing may be called the first."""
    params = {"a": np.array([0.3, 0.5]), "b": np.array([0.7, 1.1, 1.3])}

    def loss(p):
        return jnp.sum(jnp.sin(p["a"])) * jnp.sum(p["b"] ** 3)

    def gradient(p):
        right = {
            "a": np.cos(p["a"]) * (p["b"] ** 3).sum(),
            "b": np.sin(p["a"]).sum() * 3 * p["b"] ** 2,
        }
        return {name: value + (name in wrong) * np.sin(7 * value) for name, value in right.items()}

    report = check_gradients(loss, gradient, params)
    assert report.verdict == f"WRONG  gradient, in {', '.join(wrong)}, cause: unknown"
    assert "before" not in report.explanation


def test_a_cache_is_spoken_of_only_where_there_is_one():
    draws = np.random.default_rng(0)
    w = np.array([0.3, 0.5])
    report = check_gradients(
        lambda w: jnp.sum(w**2), lambda w: 2 * w * (1 + 1e-3 * draws.normal()), w
    )
    assert report.cause == "nondeterministic"
    assert "cache" not in str(report)


@pytest.mark.slow
def test_nothing_that_is_right_is_followed_by_a_dispute():
    """A step of a difference may cross a kink of a ReLU network: that contradicts nobody."""
    for seed in range(12):
        params, X, Y = network(2, "relu", sizes=(64, 20, 64, 10), seed=seed)

        def loss(params, X, Y):
            return mlp.loss(params, X, Y, ACTIVATIONS["relu"])

        report = check_gradients(loss, jax.grad(loss), params, X, Y)
        assert report.ok, str(report)
        assert "disputes" not in str(report)
