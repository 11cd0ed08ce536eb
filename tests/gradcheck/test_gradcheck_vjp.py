"""`check_vjp`: backward passes of custom_vjp functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn.errors import JaxnnError
from jaxnn.gradcheck.report import GradientError
from jaxnn.gradcheck.testing import assert_vjp


def affine(X, W):
    return jnp.tanh(X @ W.T)


def backward(g, X, W):
    d = g * (1 - affine(X, W) ** 2)
    return d @ W, d.T @ X


def by_hand(rule, function=affine):
    hand = jax.custom_vjp(function)
    hand.defvjp(lambda *args: (function(*args), args), lambda args, g: rule(g, *args))
    return hand


def arguments(shapes=((5, 3), (2, 3))):
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


def with_w(change):
    def rule(g, X, W):
        dX, dW = backward(g, X, W)
        return dX, change(g, dW)

    return rule


CASES = [
    (backward, None, None),
    (with_w(lambda g, d: -d), "sign", "W"),
    (with_w(lambda g, d: d.at[1, 2].multiply(1.01)), "scale", "W"),
    (with_w(lambda g, d: jnp.ones_like(d)), "ignores_cotangent", "W"),
    (with_w(lambda g, d: d + 1), "nonlinear_in_cotangent", "W"),
    (lambda g, X, W: backward(g**2, X, W), "nonlinear_in_cotangent", "X"),
    (with_w(lambda g, d: d * np.random.default_rng().normal()), "nondeterministic", "W"),
    (with_w(lambda g, d: d * jnp.nan), "non_finite", "W"),
]


@pytest.mark.parametrize("reference", [None, affine])
@pytest.mark.parametrize(("rule", "cause", "first"), CASES)
def test_backward_passes(rule, cause, first, reference):
    report = jaxnn.check_vjp(by_hand(rule), *arguments(), reference=reference)
    assert (report.ok, report.cause, report.first_wrong) == (cause is None, cause, first)
    assert report.notes == ("complete: all 10 outputs by all 21 inputs",)


MISFITS = [
    (with_w(lambda g, d: d[:, :1]), "shape", None),
    (lambda g, X, W: (g @ W,), "structure", None),
    (with_w(lambda g, d: d.astype(int)), "dtype", "W"),
]


@pytest.mark.parametrize(("rule", "cause", "first"), MISFITS)
def test_a_product_of_another_form_than_the_arguments(rule, cause, first):
    report = jaxnn.check_vjp(by_hand(rule), *arguments())
    assert (report.ok, report.cause, report.first_wrong) == (False, cause, first)
    assert [leaf.problem for leaf in report.leaves] == ["not compared"] * 2


def test_a_rule_that_is_wrong_in_the_callers_dtype_only():
    rule = with_w(lambda g, d: d * (1.1 if d.dtype == jnp.float32 else 1))
    report = jaxnn.check_vjp(by_hand(rule), *arguments(), reference=affine)
    assert (report.ok, report.cause, report.first_wrong) == (False, "unknown", "W")
    assert "in float32; in float64 it is right" in report.explanation


def test_trees_integers_and_empty_arrays_as_arguments():
    def function(p, i, empty):
        return {"out": p["w"][i] * p["b"][0]}

    def rule(g, p, i, empty):
        g = g["out"]
        dw = jnp.zeros_like(p["w"]).at[i].set(g * p["b"][0])
        return {"w": dw, "b": [(g * p["w"][i]).sum()[None]]}, None, jnp.zeros_like(empty)

    p = {"w": np.arange(6.0).reshape(2, 3), "b": [np.array([1.5])]}
    report = jaxnn.check_vjp(by_hand(rule, function), p, 1, np.zeros((0, 2)))
    assert report.ok, str(report)
    assert [leaf.path for leaf in report.leaves] == ["p.b[0]", "p.w", "empty"]


def test_a_function_that_is_not_finite_cannot_be_checked():
    with pytest.raises(JaxnnError, match="finite here"):
        jaxnn.check_vjp(jnp.log, np.zeros(2))


def test_above_a_size_that_is_stated_a_sample_is_compared():
    args = arguments(((40, 30), (50, 30)))
    report = jaxnn.check_vjp(by_hand(backward), *args, reference=affine)
    assert report.ok
    assert report.notes[0].startswith("sampled: 500 of 2000 outputs by ")
    report = jaxnn.check_vjp(by_hand(with_w(lambda g, d: 1.1 * d)), *args, reference=affine)
    assert (report.ok, report.cause, report.first_wrong) == (False, "scale", "W")


def test_another_function_than_its_reference():
    report = jaxnn.check_vjp(by_hand(backward), *arguments(), reference=lambda X, W: X @ W.T)
    assert (report.ok, report.cause) == (False, "feed_forward")


@pytest.mark.parametrize("reference", [None, jax.nn.relu])
@pytest.mark.parametrize("at_zero", [0.0, 0.5, 1.0])
def test_any_convention_at_the_kink_of_relu(at_zero, reference):
    def rule(g, x):
        return (jnp.where(x == 0, at_zero * g, jnp.where(x > 0, g, 0)),)

    x = np.array([0.0, -1.0, 2.0], np.float32)
    report = jaxnn.check_vjp(by_hand(rule, jax.nn.relu), x, reference=reference)
    assert report.ok


def test_only_real_arrays_can_be_checked():
    with pytest.raises(JaxnnError, match="real arrays"):
        jaxnn.check_vjp(lambda n: n, 3)


def test_the_assertion_holds_the_report():
    with pytest.raises(GradientError, match="cause: sign"):
        assert_vjp(by_hand(with_w(lambda g, d: -d)), *arguments())
