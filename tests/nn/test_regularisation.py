"""Dropout, L2, other targets and other losses: every derivative against jax.grad in float64.

As in test_equations, sizes are distinct primes, and a zero that is added to Z_l or A_l yields dZ_l
or dA_l. An error of 1e-12 of the largest entry is some ten thousand units of rounding, far above
what these sums of at most 23 products can make, and far below any wrong term.
"""

import inspect
from collections import Counter
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.nn import mlp
from jaxnn.nn.activations import ACTIVATIONS
from jaxnn.nn.losses import (
    Distilled,
    cross_entropy,
    cross_entropy_derivative,
    distillation,
    smooth,
    soften,
    softmax,
    softmax_cross_entropy,
)
from jaxnn.nn.mlp import NO_MASKS, back_propagate, depth, feed_forward, gradient
from jaxnn.nn.regularisation import dropout_mask, l2_derivative, l2_penalty, max_norm

from .test_equations import Case, f64, in_numpy, on_device, problem, scalar_activation

T, WEIGHT = 3.0, 0.7


class Setting(NamedTuple):
    """A network, the layers whose A is masked, λ, and what it learns from."""

    sizes: tuple[int, ...]
    activation: str
    masked: tuple[int, ...] = ()
    l2: float | None = None
    targets: str = "labels"


SETTINGS = {
    "one layer, masked input, L2": Setting((13, 5), "sigmoid", (0,), 0.3),
    "two layers, masked": Setting((13, 11, 5), "sigmoid", (1,)),
    "two layers, smoothed": Setting((13, 11, 5), "softplus", (), None, "smoothed"),
    "three layers, masked above": Setting((17, 13, 11, 5), "leaky_relu", (2,), 0.1, "smoothed"),
    "three layers, distilled": Setting((17, 13, 11, 5), "silu", (), None, "distilled"),
    "four layers, everything": Setting((19, 17, 13, 11, 5), "gelu", (0, 1, 2, 3), 0.2, "distilled"),
}
MASKED = pytest.mark.parametrize("name", [k for k, s in SETTINGS.items() if s.masked])
DEEP = pytest.mark.parametrize("name", [k for k, s in SETTINGS.items() if len(s.sizes) > 2])
PENALISED = pytest.mark.parametrize("name", [k for k, s in SETTINGS.items() if s.l2])
EVERY = pytest.mark.parametrize("name", SETTINGS)
M = 7


def point(setting: Setting) -> tuple[Any, Any, Any, Any]:
    """Parameters, X, the targets (soft ones of float64, which sum to 1 there) and the masks."""
    params, X, Y = problem(Case(setting.sizes, M, setting.activation))
    rng = np.random.default_rng(1)
    masks = {
        f"D{layer}": np.float32((rng.random((M, setting.sizes[layer])) < 0.6) / 0.6)
        for layer in setting.masked
    }
    E = np.exp(rng.normal(size=Y.shape))
    teacher = E / E.sum(axis=1, keepdims=True)
    smoothed = 0.9 * f64(Y) + 0.1 / 5
    targets = {"labels": Y, "smoothed": smoothed, "distilled": Distilled(Y, teacher)}
    return params, X, targets[setting.targets], masks


def loss_of(setting: Setting) -> Any:
    return distillation(T, WEIGHT) if setting.targets == "distilled" else softmax_cross_entropy


class Outcome(NamedTuple):
    """Cache, derivatives by hand and by jax.grad, the loss and its gradient, all in float64."""

    cache: dict[str, Any]
    hand: dict[str, Any]
    autodiff: dict[str, Any]
    loss: Any
    gradient: Any


@cache
def outcome(name: str) -> Outcome:
    setting = SETTINGS[name]
    activation, loss = ACTIVATIONS[setting.activation], loss_of(setting)
    L = len(setting.sizes) - 1

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})
    def program(params: Any, X: Any, targets: Any, masks: Any) -> Outcome:
        values = feed_forward(params, X, activation, masks=masks)
        hand = back_propagate(params, values, targets, activation, l2=setting.l2, loss=loss)
        zeros = {
            k: jnp.zeros_like(v) for k, v in values.items() if k not in ("A0", f"A{L}", *masks)
        }

        def tapped(params: Any, zeros: Any) -> Any:
            def tap(name: str, value: Any) -> Any:
                return value + zeros[name] if name in zeros else value

            Z = feed_forward(params, X, activation, tap, masks)[f"Z{L}"]
            squares = sum((params[f"W{layer}"] ** 2).sum() for layer in range(1, L + 1))
            return written_out(setting, Z, targets) + (setting.l2 or 0) / 2 * squares

        by_parameter, by_zero = jax.grad(tapped, argnums=(0, 1))(params, zeros)
        autodiff = {f"d{k}": v for k, v in by_parameter.items()}
        autodiff |= {f"d{k}": v * M for k, v in by_zero.items()}
        options = {"masks": masks, "l2": setting.l2, "loss": loss}
        whole = mlp.loss(params, X, targets, activation, **options)
        grads = gradient(params, X, targets, activation, **options)
        return Outcome(values, hand, autodiff, whole, grads)

    with jax.enable_x64(True):
        return in_numpy(program(*on_device(point(setting), "float64")))


def written_out(setting: Setting, Z: Any, targets: Any) -> Any:
    """The loss by its definition: Σ Y log softmax, and the teacher's at temperature T."""
    if setting.targets != "distilled":
        return -(targets * jax.nn.log_softmax(Z)).sum() / M
    truth = -(targets.Y * jax.nn.log_softmax(Z)).sum() / M
    teacher = -(targets.P * jax.nn.log_softmax(Z / T)).sum() / M
    return (1 - WEIGHT) * truth + WEIGHT * T**2 * teacher


def assert_verified(name: str, kind: str, layers: range) -> None:
    _, hand, autodiff, *_ = outcome(name)
    for layer in layers:
        found, true = hand[f"d{kind}{layer}"], autodiff[f"d{kind}{layer}"]
        assert found.shape == true.shape
        assert found.dtype == np.float64
        assert abs(true).max() > 1e-3
        assert abs(found - true).max() <= 1e-12 * abs(true).max(), f"d{kind}{layer}"


def layers_of(name: str) -> range:
    return range(1, len(SETTINGS[name].sizes))


# --------------------------------------------------------------------------------- every derivative


@MASKED
def test_Z_of_masked_A(name: str) -> None:
    """Z_l = (A_{l−1} ∘ D_{l−1}) W_lᵀ + b_l, while A itself stays whole."""
    setting = SETTINGS[name]
    params, X, _, masks = jax.tree.map(f64, point(setting))
    values, A = outcome(name).cache, X
    for layer in layers_of(name):
        seen = A * masks.get(f"D{layer - 1}", 1.0)
        Z = seen @ params[f"W{layer}"].T + params[f"b{layer}"]
        np.testing.assert_allclose(values[f"Z{layer}"], Z, rtol=1e-12, atol=1e-12)
        A = scalar_activation(setting.activation, Z)
        if layer < len(setting.sizes) - 1:
            np.testing.assert_allclose(values[f"A{layer}"], A, rtol=1e-12, atol=1e-12)


@EVERY
def test_dZ_output_of_any_targets(name: str) -> None:
    assert_verified(name, "Z", layers_of(name)[-1:])


@DEEP
def test_dA_masked(name: str) -> None:
    assert_verified(name, "A", layers_of(name)[:-1])


@DEEP
def test_dZ_hidden_masked(name: str) -> None:
    assert_verified(name, "Z", layers_of(name)[:-1])


@EVERY
def test_dW_masked_and_penalised(name: str) -> None:
    assert_verified(name, "W", layers_of(name))


@EVERY
def test_db_is_not_penalised(name: str) -> None:
    assert_verified(name, "b", layers_of(name))


@EVERY
def test_loss_is_the_data_s_and_the_penalty(name: str) -> None:
    setting = SETTINGS[name]
    params, _, targets, _ = point(setting)
    cache, _, _, found, _ = outcome(name)
    with jax.enable_x64(True):
        Z = jnp.asarray(cache[f"Z{len(setting.sizes) - 1}"])
        data = float(written_out(setting, Z, on_device(targets, "float64")))
    squares = sum(float((f64(params[f"W{layer}"]) ** 2).sum()) for layer in layers_of(name))
    assert float(found) == pytest.approx(data + (setting.l2 or 0) / 2 * squares, rel=1e-12)


@EVERY
def test_gradient_is_what_back_propagate_gives(name: str) -> None:
    _, hand, _, _, grads = outcome(name)
    assert set(grads) == set(point(SETTINGS[name])[0])
    for key, value in grads.items():
        np.testing.assert_array_equal(value, hand[f"d{key}"])


def operations(function: Any, *arguments: Any) -> Counter[str]:
    """How often each operation occurs in a function's program."""
    return Counter(
        str(equation.primitive) for equation in jax.make_jaxpr(function)(*arguments).eqns
    )


def test_what_is_not_given_is_not_in_the_program() -> None:
    """A mask of A_1 costs a product forward and two backward, a penalty λ a product and a sum for
    each W; with neither there is nothing of them, and the order stays the document's."""
    params, X, Y, masks = on_device(point(SETTINGS["two layers, masked"]), "float32")
    plain = operations(gradient, params, X, Y)
    assert plain == operations(partial(gradient, masks={}, l2=None), params, X, Y)
    l2 = operations(lambda *a: gradient(*a, l2=jnp.float32(0.1)), params, X, Y)
    assert l2 - plain == Counter({"mul": 2, "add": 2})
    dropout = operations(lambda *a: gradient(*a, masks=masks), params, X, Y)
    assert dropout - plain == Counter({"mul": 3})
    cache = jax.eval_shape(feed_forward, params, X) | masks
    order: list[str] = []
    jax.eval_shape(lambda *a: order.extend(back_propagate(*a, l2=0.1)), params, cache, Y)
    assert order == ["dZ2", "dW2", "db2", "dA1", "dZ1", "dW1", "db1"]


# ------------------------------------------------------------------------------------------ dropout


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5])
def test_dropout_mask_has_mean_one(rate: float) -> None:
    """0 or 1/(1 − p); the mean of N entries is off 1 by √(p/(1 − p)/N), and five of these are
    allowed."""
    n = 101 * 499
    D = np.asarray(dropout_mask(jax.random.key(0), jnp.float32(rate), (101, 499)))
    assert D.dtype == np.float32
    assert set(np.unique(D)) <= {np.float32(0), np.float32(1) / (1 - np.float32(rate))}
    assert abs(f64(D).mean() - 1) <= 5 * (rate / (1 - rate) / n) ** 0.5 + 1e-7
    other = np.asarray(dropout_mask(jax.random.key(1), jnp.float32(rate), (101, 499)))
    assert np.array_equal(D, other) == (rate == 0)


# ----------------------------------------------------------------------------- penalty and max-norm


def test_l2_penalty() -> None:
    """λ/2 of all squares but the biases'; its derivative is λW."""
    params = {"W1": jnp.float32([[1, 2], [3, 4]]), "b1": jnp.float32([9, 9])}
    params |= {"W2": jnp.float32([[5, 0]]), "b2": jnp.float32([9])}
    assert float(l2_penalty(params, jnp.float32(0.5))) == 0.25 * (1 + 4 + 9 + 16 + 25)
    by_grad = jax.grad(l2_penalty)(params, 0.5)
    for name in ("W1", "W2"):
        np.testing.assert_array_equal(by_grad[name], l2_derivative(params[name], 0.5))
    assert not by_grad["b1"].any()


def test_max_norm_projects_rows() -> None:
    """Rows of norm 5, 1, 0 and 5e-20 for c = 2: only the first changes, in length alone."""
    W = jnp.float32([[3, 4], [0.6, 0.8], [0, 0], [3e-20, 4e-20]])
    params = {"W1": W, "b1": jnp.float32([9, 9, 9, 9])}
    projected = jax.jit(max_norm)(params, jnp.float32(2))
    np.testing.assert_array_equal(projected["b1"], params["b1"])
    np.testing.assert_array_equal(projected["W1"][1:], W[1:])
    np.testing.assert_allclose(projected["W1"][0], [1.2, 1.6], rtol=3e-7)


# ------------------------------------------------------------------------------------------ targets


def test_smoothed_targets() -> None:
    """(1 − ε) + ε/C for the class, ε/C for every other: rows that sum to 1, as A − Y needs."""
    Y = smooth(jnp.eye(5, dtype=jnp.float32), jnp.float32(0.1))
    np.testing.assert_allclose(Y, np.eye(5) * 0.9 + 0.02, rtol=3e-7)
    np.testing.assert_allclose(Y.sum(axis=1), 1, rtol=3e-7)


def test_distillation_without_a_teacher_is_the_cross_entropy() -> None:
    """w = 0 leaves the truth alone, and w = 1 with T = 1 the cross-entropy with the teacher's P."""
    rng = np.random.default_rng(0)
    Z, E = jnp.float32(rng.normal(size=(7, 5))), jnp.float32(rng.normal(size=(7, 5)))
    targets, A = Distilled(jnp.eye(7, 5), soften(E, 2.0)), softmax(Z)
    for loss, Y in ((distillation(2.0, 0.0), targets.Y), (distillation(1.0, 1.0), targets.P)):
        np.testing.assert_allclose(loss.function(Z, targets), cross_entropy(Z, Y), rtol=1e-6)
        expected = cross_entropy_derivative(A, Y)
        np.testing.assert_allclose(loss.derivative(Z, A, targets), expected, atol=1e-6)


def test_distillation_at_a_high_temperature_matches_logits() -> None:
    """T (softmax(Z/T) − softmax(V/T)) → (Z − V)/C for logits of mean 0, with an error of order 1/T
    (Hinton et al., section 2.1)."""
    rng = np.random.default_rng(0)
    Z, V = (v - v.mean(axis=1, keepdims=True) for v in rng.normal(size=(2, 7, 5)))
    with jax.enable_x64(True):
        targets = Distilled(jnp.zeros((7, 5)), soften(jnp.asarray(V), 1e5))
        dZ = distillation(1e5, 1.0).derivative(jnp.asarray(Z), softmax(jnp.asarray(Z)), targets)
    np.testing.assert_allclose(dZ, (Z - V) / 5, atol=1e-4)


def test_hyperparameters_are_arguments_of_the_program(compilations: Any) -> None:
    """Another rate, λ, T, w, ε or c runs the program that is there."""

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})
    def step(params: Any, X: Any, Y: Any, hyper: Any, key: Any) -> Any:
        targets = Distilled(smooth(Y, hyper["smoothing"]), soften(3 * Y, hyper["temperature"]))
        masks = {"D1": dropout_mask(key, hyper["rate"], (M, 11))}
        loss = distillation(hyper["temperature"], hyper["weight"])
        grads = gradient(params, X, targets, masks=masks, l2=hyper["l2"], loss=loss)
        moved = jax.tree.map(lambda p, g: p - g, params, grads)
        return max_norm(moved, hyper["norm"])

    params, X, Y, _ = on_device(point(SETTINGS["two layers, masked"]), "float32")
    names = ("smoothing", "temperature", "rate", "weight", "l2", "norm")
    key, some, others = (
        jax.random.key(1),
        *({name: jnp.float32(value) for name in names} for value in (0.5, 0.25)),
    )
    first = jax.block_until_ready(step(params, X, Y, some, key))
    with compilations() as events:
        second = jax.block_until_ready(step(params, X, Y, others, key))
    assert events == []
    assert all(float(abs(first[k] - second[k]).max()) > 0 for k in params)
    assert depth(second) == 2
    assert dict(NO_MASKS) == {}


@pytest.mark.parametrize("function", [mlp.loss, mlp.gradient])
def test_the_document_s_arguments_come_in_order_and_all_others_by_name(function: Any) -> None:
    parameters = inspect.signature(function).parameters.values()
    in_order = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    by_name = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert in_order == ["params", "X", "Y", "activation"]
    assert by_name == ["masks", "l2", "loss"]


def test_smoothed_labels_give_every_class_its_share() -> None:
    """(1 − ε) Y + ε/C: of 3 examples in 5 classes, ε = 1/4 leaves 0.8 and gives the others 0.05."""
    smoothed = smooth(jnp.eye(5)[np.array([4, 0, 2])], jnp.float32(0.25))
    expected = np.full((3, 5), 0.05)
    expected[range(3), [4, 0, 2]] = 0.8
    np.testing.assert_allclose(smoothed, expected, rtol=1e-6)
