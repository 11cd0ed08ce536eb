"""Every equation of docs/derivation.md, held against jax.grad or another way to compute it.

Sizes are distinct primes, so that no axis can pass for another. Inputs are float32 numbers, so that
float32 and float64 start from the same values. A unit u of rounding is 2⁻²⁴ or 2⁻⁵³, and an error
is measured in u times the sum of the |terms|: a difference of two nearly equal numbers has no
better accuracy than that, whoever computes it. Where float64 is compared with a relative 1e-11 or
1e-12, that is some ten thousand units: far above rounding and far below any wrong term.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.flatten_util import ravel_pytree
from numpy.typing import NDArray
from scipy.special import ndtr

from jaxnn.nn.activations import ACTIVATIONS, Activation, leaky_relu, relu, sigmoid, tanh
from jaxnn.nn.losses import cross_entropy, cross_entropy_derivative, log_softmax, softmax
from jaxnn.nn.mlp import back_propagate, depth, feed_forward, gradient, init_params, loss
from jaxnn.nn.optimisers import momentum
from jaxnn.runs.metrics import classification_report
from jaxnn.training.program import Hyperparameters, Program
from jaxnn.training.shuffle import permutation
from jaxnn.training.step import init_state, train_epoch, train_step

Real = NDArray[Any]
Arrays = dict[str, Real]

UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}
FUNCTION_UNITS = 8  # more than the compiler's exp, log, tanh and sigmoid are ever off
DTYPES = pytest.mark.parametrize("dtype", UNIT)


def f32(values: Any) -> Real:
    return np.asarray(values, np.float32)


def f64(values: Any) -> Real:
    return np.asarray(values, np.float64)


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


# ----------------------------------------------------------------- the cases, and their derivatives


class Case(NamedTuple):
    """An architecture, a batch size and a factor on the weights."""

    sizes: tuple[int, ...]
    m: int
    activation: str
    scale: float = 1.0


CASES = {
    "one layer": Case((13, 5), 7, "sigmoid"),
    "two layers, sigmoid": Case((13, 11, 5), 7, "sigmoid"),
    "two layers, tanh": Case((13, 11, 5), 7, "tanh"),
    "two layers, relu": Case((13, 11, 5), 7, "relu"),
    "three layers, sigmoid": Case((17, 13, 11, 5), 7, "sigmoid"),
    "four layers, tanh": Case((19, 17, 13, 11, 5), 7, "tanh"),
    "five layers, relu": Case((23, 19, 17, 13, 11, 5), 7, "relu"),
    "batch of one": Case((13, 11, 5), 1, "sigmoid"),
    "saturated sigmoid": Case((13, 11, 5), 7, "sigmoid", 30.0),
    "two layers, leaky_relu": Case((13, 11, 5), 7, "leaky_relu"),
    "three layers, gelu": Case((17, 13, 11, 5), 7, "gelu"),
    "saturated tanh": Case((17, 13, 11, 5), 7, "tanh", 30.0),
}
EVERY_CASE = pytest.mark.parametrize("name", CASES)
DEEP_CASES = pytest.mark.parametrize(
    "name", [k for k, case in CASES.items() if len(case.sizes) > 2]
)


def problem(case: Case, seed: int = 0) -> tuple[Arrays, Real, Real]:
    """Parameters with biases that are not zero, X, and one-hot Y."""
    rng = np.random.default_rng(seed)
    params = {}
    for layer, (n_in, n_out) in enumerate(pairwise(case.sizes), start=1):
        params[f"W{layer}"] = f32(case.scale * rng.normal(size=(n_out, n_in)) * n_in**-0.5)
        params[f"b{layer}"] = f32(rng.normal(size=n_out) / 3)
    X = f32(rng.normal(size=(case.m, case.sizes[0])))
    return params, X, np.eye(case.sizes[-1], dtype="f4")[rng.integers(case.sizes[-1], size=case.m)]


def on_device(tree: Any, dtype: str) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def in_numpy(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)


@partial(jax.jit, static_argnames="activation")
def by_hand(params: Any, X: Any, Y: Any, activation: Activation) -> tuple[Any, Any]:
    """The cache of the forward pass, and every derivative."""
    values = feed_forward(params, X, activation)
    return values, back_propagate(params, values, Y, activation)


@partial(jax.jit, static_argnames="activation")
def by_autodiff(params: Any, X: Any, Y: Any, activation: Activation, at: Mapping[str, Any]) -> Any:
    """The same derivatives by jax.grad, at the intermediate values `at`.

    dZ_l and dA_l are derivatives by a zero that is added to Z_l and A_l, times m: they belong to
    each example's own loss, of which the mean takes a share of 1/m.
    """
    output = f"Z{depth(params)}"
    zeros = {k: jnp.zeros_like(v) for k, v in at.items() if k not in ("A0", f"A{depth(params)}")}

    def tapped_loss(params: Any, zeros: Any) -> jax.Array:
        def tap(name: str, value: jax.Array) -> jax.Array:
            value = value - jax.lax.stop_gradient(value) + at[name]
            return value + zeros[name] if name in zeros else value

        return cross_entropy(feed_forward(params, X, activation, tap)[output], Y)

    by_parameter, by_zero = jax.grad(tapped_loss, argnums=(0, 1))(params, zeros)
    intermediates = {f"d{name}": by_zero[name] * Y.shape[0] for name in zeros}
    return {f"d{name}": by_parameter[name] for name in params} | intermediates


def sums_of_terms(params: Arrays, values: Arrays, Y: Real, activation: str) -> Arrays:
    """Σ|terms| of every derivative: the backward pass with |factors| and no minus sign."""
    L = len(params) // 2
    A = {layer: abs(f64(values[f"A{layer}"])) for layer in range(L + 1)}
    slope = {"sigmoid": lambda a: a + a * a, "tanh": lambda a: 1 + a * a, "relu": lambda a: a > 0}
    slope |= {"leaky_relu": lambda a: 1 + 0 * a, "softplus": lambda a: -np.expm1(-a)}
    slope |= {"gelu": lambda a: 1.25 + 0 * a, "silu": lambda a: 1 + a}
    S = {f"dZ{L}": A[L] + Y}
    for layer in range(L, 0, -1):
        if layer < L:
            S[f"dA{layer}"] = S[f"dZ{layer + 1}"] @ abs(f64(params[f"W{layer + 1}"]))
            S[f"dZ{layer}"] = S[f"dA{layer}"] * slope[activation](A[layer])
        S[f"dW{layer}"] = S[f"dZ{layer}"].T @ A[layer - 1] / len(Y)
        S[f"db{layer}"] = S[f"dZ{layer}"].sum(axis=0) / len(Y)
    return S


def roundings(case: Case, values: Arrays) -> float:
    """How many roundings lie between the cache and a derivative, at most.

    A sum of n products is n roundings, in whatever order it is added up; softmax has two
    exponentials, whose argument carries a rounding of its own size, a sum and a quotient; each
    hidden layer a function, its derivative and a product. The last are dW's sum and its 1/m.
    """
    Z = f64(values[f"Z{len(case.sizes) - 1}"])
    output = 2 * FUNCTION_UNITS + 2 * np.ptp(Z, axis=1).max() + case.sizes[-1] + 2
    hidden = sum(n + FUNCTION_UNITS + 3 for n in case.sizes[2:])
    return float(output + hidden + case.m + 1)


class Outcome(NamedTuple):
    """Of one case in one dtype: derivatives by hand, by jax.grad in float64, and the bound."""

    hand: Arrays
    autodiff: Arrays
    bound: Arrays


@cache
def outcome(name: str, dtype: str) -> Outcome:
    """float64 is allowed 1e-12 of Σ|terms|. In float32, jax.grad works in float64 at the Z and A
    that the float32 forward pass found, so that only the backward pass's own rounding is left, and
    it is allowed u for each rounding, and as many of the smallest float, below which all is 0."""
    case = CASES[name]
    params, X, Y = problem(case)
    activation = ACTIVATIONS[case.activation]
    with jax.enable_x64(True):
        values, hand = in_numpy(by_hand(*on_device((params, X, Y), dtype), activation))
        autodiff = by_autodiff(
            *on_device((params, X, Y), "float64"), activation, on_device(values, "float64")
        )
    S = sums_of_terms(params, values, Y, case.activation)
    n = roundings(case, values)
    bound = {
        "float32": {k: n * (UNIT["float32"] * S[k] + np.finfo("f4").tiny * (1 + S[k])) for k in S},
        "float64": {k: 1e-12 * S[k] for k in S},
    }
    return Outcome(hand, in_numpy(autodiff), bound[dtype])


def assert_within(actual: Any, expected: Any, bound: Any, what: str = "") -> None:
    """Element by element; a NaN is never within."""
    actual, expected = f64(actual), f64(expected)
    assert actual.shape == expected.shape, what
    assert np.all(np.isfinite(expected)), what
    assert np.all(abs(actual - expected) <= bound), what


def assert_verified(name: str, dtype: str, quantity: str, layers: range) -> None:
    hand, autodiff, bound = outcome(name, dtype)
    for layer in layers:
        key = f"{quantity}{layer}"
        assert hand[key].dtype == dtype, key
        assert_within(hand[key], autodiff[key], bound[key], key)


def layers_of(name: str) -> range:
    return range(1, len(CASES[name].sizes))


# ----------------------------------------------------------------------------------- initialisation


def test_initialisation_variance() -> None:
    """A mean square of N normal numbers is off by √(2/N) of itself; five of these are allowed."""
    n_x, n_1, n_2 = 101, 499, 211
    params = in_numpy(init_params(jax.random.key(0), (n_x, n_1, n_2)))
    for W, n_in in ((params["W1"], n_x), (params["W2"], n_1)):
        assert abs(np.mean(f64(W) ** 2) * n_in - 1) <= 5 * (2 / W.size) ** 0.5
        assert abs(W.mean()) <= 5 * (n_in * W.size) ** -0.5
    assert {k: v.shape for k, v in params.items()} == {
        "W1": (n_1, n_x), "b1": (n_1,), "W2": (n_2, n_1), "b2": (n_2,)
    }  # fmt: skip
    assert not params["b1"].any()
    assert not params["b2"].any()


def test_initialisation_draws_every_layer_anew() -> None:
    """The correlation of independent W1 and W2 is off zero by 1/√N; five of these are allowed."""
    params = in_numpy(init_params(jax.random.key(0), (101, 101, 101)))
    correlation = np.corrcoef(params["W1"].ravel(), params["W2"].ravel())[0, 1]
    assert abs(correlation) <= 5 / 101


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_initialisation_preserves_variance(activation: Activation) -> None:
    """Var(Z_l) is the mean square of A_{l−1}.

    With S = AᵀA/m, a unit's mean square over the batch is wᵀSw for its own row w ~ N(0, I/n): it
    has mean tr(S)/n, which is the claim, and variance 2 tr(S²)/n². The units are independent, so
    the mean over them is off by the root of that over their number; five of these are allowed.
    """
    m, sizes = 211, (101, 307, 503)
    X = np.random.default_rng(0).choice(f32([-1, 1]), size=(m, sizes[0]))
    values = feed_forward(init_params(jax.random.key(1), sizes), jnp.asarray(X), activation)
    for layer in (1, 2):
        A, Z = f64(values[f"A{layer - 1}"]), f64(values[f"Z{layer}"])
        S = A.T @ A / m
        spread = (2 * np.sum(S * S) / Z.shape[1]) ** 0.5 / A.shape[1]
        assert abs(np.mean(Z**2) - np.mean(A**2)) <= 5 * spread
        assert spread < 0.07 * np.mean(A**2)


@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_same_seed_same_bits(seed: int) -> None:
    case = Case((13, 11, 5), 7, "sigmoid")
    _, X, Y = on_device(problem(case), "float32")

    def bits() -> list[bytes]:
        params = init_params(jax.random.key(seed), case.sizes)
        derivatives = by_hand(params, X, Y, sigmoid)
        return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((params, derivatives))]

    assert bits() == bits()
    other = init_params(jax.random.key(seed + 1), case.sizes)["W1"]
    assert not np.array_equal(other, init_params(jax.random.key(seed), case.sizes)["W1"])


# ------------------------------------------------------------------------------------- forward pass


def scalar_activation(name: str, Z: Real) -> Real:
    """The definitions; the sigmoid by e^{−|z|}, which cannot overflow."""
    e = np.exp(-abs(Z))
    sigma = np.where(Z < 0, e / (1 + e), 1 / (1 + e))
    values = {"sigmoid": sigma, "tanh": np.tanh(Z), "relu": np.where(Z > 0, Z, 0)}
    values |= {"leaky_relu": np.maximum(Z, Z / 100), "softplus": np.logaddexp(Z, 0)}
    values |= {"gelu": Z * ndtr(Z), "silu": Z * sigma}
    return f64(values[name])


@cache
def forward_values(name: str, dtype: str) -> tuple[Arrays, Arrays]:
    """Parameters and cache in float64, with the values of the forward pass in `dtype`."""
    case = CASES[name]
    with jax.enable_x64(True):
        params, X, Y = on_device(problem(case), dtype)
        values, _ = by_hand(params, X, Y, ACTIVATIONS[case.activation])
        assert {v.dtype.name for v in values.values()} == {dtype}
        return {k: f64(v) for k, v in params.items()}, {k: f64(v) for k, v in values.items()}


@pytest.mark.sampled(8)
@DTYPES
@EVERY_CASE
def test_Z(name: str, dtype: str) -> None:
    """From the A before it: n products and a bias are n + 1 roundings of Σ|terms|."""
    p, values = forward_values(name, dtype)
    for layer in layers_of(name):
        A, W, b = values[f"A{layer - 1}"], p[f"W{layer}"], p[f"b{layer}"]
        Z = np.einsum("ij,kj->ik", A, W) + b
        S = abs(A) @ abs(W).T + abs(b)
        assert_within(values[f"Z{layer}"], Z, 2 * (W.shape[1] + 1) * UNIT[dtype] * S, f"Z{layer}")


@DTYPES
@DEEP_CASES
def test_A_hidden(name: str, dtype: str) -> None:
    _, values = forward_values(name, dtype)
    for layer in layers_of(name)[:-1]:
        Z, g = values[f"Z{layer}"], CASES[name].activation
        A = scalar_activation(g, Z)
        # The normal distribution's tail falls like exp(−z²/2): a rounding of z grows to z² of them.
        units = FUNCTION_UNITS * (1 + Z * Z if g == "gelu" else 1)
        bound = units * UNIT[dtype] * abs(A) + np.finfo(dtype).tiny
        assert_within(values[f"A{layer}"], A, bound, f"A{layer}")


@DTYPES
@EVERY_CASE
def test_A_output(name: str, dtype: str) -> None:
    """softmax by its definition: float64 holds the exponential of every logit here."""
    _, values = forward_values(name, dtype)
    L = len(CASES[name].sizes) - 1
    Z = values[f"Z{L}"]
    E = np.exp(Z)
    A = E / E.sum(axis=1, keepdims=True)
    units = roundings(CASES[name], values)
    assert_within(values[f"A{L}"], A, units * UNIT[dtype] * A + np.finfo(dtype).tiny)


def test_cache_holds_every_intermediate() -> None:
    case = CASES["three layers, sigmoid"]
    params, X, _ = on_device(problem(case), "float32")
    values = feed_forward(params, X)
    assert list(values) == ["A0", "Z1", "A1", "Z2", "A2", "Z3", "A3"]
    assert [v.shape for v in values.values()] == [
        (7, 17),
        *2 * [(7, 13)],
        *2 * [(7, 11)],
        *2 * [(7, 5)],
    ]
    assert values["A0"] is X
    assert depth(params) == 3


# ------------------------------------------------------------------------ softmax and cross-entropy


def logits(dtype: str, m: int = 7, C: int = 5) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(3)
    Y = np.eye(C)[rng.integers(C, size=m)]
    return jnp.asarray(3 * rng.normal(size=(m, C)), dtype), jnp.asarray(Y, dtype)


def test_softmax_ignores_a_shift() -> None:
    """Eighths and whole numbers add up exactly, so that not a bit may change."""
    Z = jnp.float32(np.random.default_rng(0).integers(-40, 40, size=(7, 5)) / 8)
    shift = jnp.float32(np.arange(-3, 4)[:, None] * 1000)
    np.testing.assert_array_equal(softmax(Z + shift), softmax(Z))
    np.testing.assert_array_equal(log_softmax(Z + shift), log_softmax(Z))


def test_softmax_jacobian(x64: None) -> None:
    """∂A_ij/∂Z_ik = A_ij (δ_jk − A_ik), and 0 between two examples; A and δ are at most 1."""
    Z, _ = logits("float64")
    A = np.asarray(softmax(Z))
    expected = np.zeros((7, 5, 7, 5))
    for i in range(7):
        expected[i, :, i, :] = A[i][:, None] * (np.eye(5) - A[i][None, :])
    assert_within(jax.jacobian(softmax)(Z), expected, 5 * FUNCTION_UNITS * UNIT["float64"])


HUGE = {"float32": float(np.finfo("f4").max), "float64": float(np.finfo("f8").max)}
EXTREME = {
    "both signs": [1e4, -1e4, 0.0],
    "one large": [1e4, 0.0, 1.0],
    "one small": [-1e4, 0.0, 1.0],
    "largest floats": ["max", "min", 0.0],
    "all largest": ["max", "max", "max"],
    "all smallest": ["min", "min", "min"],
    "two largest": ["max", "max", "min"],
    "subnormal": [1e-42, -1e-42, 0.0],
}


@jax.jit
def everything_of(Z: jax.Array) -> tuple[jax.Array, ...]:
    """softmax, log_softmax; then, for every label in turn, the loss, dZ and the loss's gradient."""
    targets = jnp.eye(Z.shape[1], dtype=Z.dtype)[:, None, :] * jnp.ones_like(Z)[None, :, :]
    A = softmax(Z)
    losses, by_grad = jax.vmap(jax.value_and_grad(cross_entropy), (None, 0))(Z, targets)
    dZ = jax.vmap(cross_entropy_derivative, (None, 0))(A, targets)
    return A, log_softmax(Z), losses, dZ, by_grad


def assert_sound(Z: jax.Array) -> None:
    """Distributions that sum to 1; logarithms and losses that are finite, for every label."""
    A, log_A, losses, dZ, by_grad = in_numpy(everything_of(Z))
    assert {x.dtype for x in (A, log_A, losses, dZ, by_grad)} == {Z.dtype}
    assert np.all((A >= 0) & (A <= 1))
    np.testing.assert_allclose(A.sum(axis=1), 1, rtol=Z.shape[1] * float(np.finfo(A.dtype).eps))
    assert np.all(np.isfinite(log_A) & (log_A <= 0))
    assert np.all((losses >= 0) & (losses < np.inf))
    assert np.all(abs(dZ) <= 1)
    assert np.all(np.isfinite(by_grad))


@DTYPES
@pytest.mark.parametrize("row", EXTREME.values(), ids=EXTREME)
def test_extreme_logits(row: list[float | str], dtype: str, x64: None) -> None:
    named = {"max": HUGE[dtype], "min": -HUGE[dtype]}
    Z = jnp.asarray(np.array([[named.get(z, z) for z in row]], dtype))  # type: ignore[arg-type]
    assert_sound(jnp.concatenate([Z, -Z]))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(hnp.arrays(np.float32, (2, 3), elements={"allow_nan": False, "allow_infinity": False}))
def test_any_finite_logits(Z: Real) -> None:
    assert_sound(jnp.asarray(Z))


def test_cross_entropy_of_logits_far_apart(x64: None) -> None:
    """The loss is the distance itself where softmax has long been 0 and its logarithm −∞."""
    Z = jnp.float32([[1e4, -1e4, 0.0]])
    assert float(softmax(Z)[0, 1]) == 0
    assert float(cross_entropy(Z, jnp.float32([[0, 1, 0]]))) == 2e4
    assert float(cross_entropy(Z, jnp.float32([[0, 0, 1]]))) == 1e4


# ------------------------------------------------------------------------------------ backward pass


@pytest.mark.sampled(8)
@DTYPES
@EVERY_CASE
def test_dZ_output(name: str, dtype: str) -> None:
    assert_verified(name, dtype, "dZ", layers_of(name)[-1:])


@DTYPES
@DEEP_CASES
def test_dA(name: str, dtype: str) -> None:
    assert_verified(name, dtype, "dA", layers_of(name)[:-1])


@DTYPES
@DEEP_CASES
def test_dZ_hidden(name: str, dtype: str) -> None:
    assert_verified(name, dtype, "dZ", layers_of(name)[:-1])


@DTYPES
@EVERY_CASE
def test_dW(name: str, dtype: str) -> None:
    assert_verified(name, dtype, "dW", layers_of(name))


@DTYPES
@EVERY_CASE
def test_db(name: str, dtype: str) -> None:
    assert_verified(name, dtype, "db", layers_of(name))


@st.composite
def architectures(draw: st.DrawFn) -> Case:
    sizes = draw(st.lists(st.sampled_from([1, 2, 3, 5, 7]), min_size=2, max_size=5))
    return Case(
        tuple(sizes), draw(st.sampled_from([1, 2, 5])), draw(st.sampled_from(list(ACTIVATIONS)))
    )


@settings(max_examples=10, deadline=None, derandomize=True)
@given(case=architectures(), seed=st.integers(0, 2**32 - 1))
def test_random_architectures(case: Case, seed: int) -> None:
    arrays, activation = problem(case, seed), ACTIVATIONS[case.activation]
    with jax.enable_x64(True):
        wide = on_device(arrays, "float64")
        values, hand = by_hand(*wide, activation)
        autodiff = by_autodiff(*wide, activation, values)
    S = sums_of_terms(arrays[0], in_numpy(values), arrays[2], case.activation)
    assert set(hand) == set(autodiff) == set(S)
    for key, terms in S.items():
        assert_within(hand[key], autodiff[key], 1e-12 * terms, key)


def test_back_propagate_keeps_the_order_of_the_document() -> None:
    params, X, Y = on_device(problem(CASES["two layers, sigmoid"]), "float32")
    order = list(back_propagate(params, feed_forward(params, X), Y))
    assert order == ["dZ2", "dW2", "db2", "dA1", "dZ1", "dW1", "db1"]


@pytest.mark.parametrize("name", ["one layer", "three layers, sigmoid", "two layers, relu"])
def test_gradient_has_the_structure_of_params(name: str) -> None:
    case = CASES[name]
    params, X, Y = on_device(problem(case), "float32")
    activation = ACTIVATIONS[case.activation]
    grads = gradient(params, X, Y, activation)
    derivatives = back_propagate(params, feed_forward(params, X, activation), Y, activation)
    assert jax.tree.map(lambda g: (g.shape, g.dtype), grads) == jax.tree.map(
        lambda p: (p.shape, p.dtype), dict(params)
    )
    for key, value in grads.items():
        np.testing.assert_array_equal(value, derivatives[f"d{key}"])


@pytest.mark.parametrize("activation", [sigmoid, tanh, relu, leaky_relu])
def test_back_propagate_recomputes_nothing(activation: Activation) -> None:
    """Its program has 2L − 1 matrix products, one for each dW and dA, and not one function."""
    params, X, Y = on_device(problem(CASES["four layers, tanh"]), "float32")
    values = feed_forward(params, X, activation)
    program = jax.jit(partial(back_propagate, activation=activation)).lower(params, values, Y)
    operations = Counter(re.findall(r"stablehlo\.(\w+)", program.as_text()))
    assert operations["dot_general"] == 2 * 4 - 1
    functions = {"exponential", "exponential_minus_one", "log", "log_plus_one", "logistic", "tanh"}
    assert not functions & set(operations)
    assert not {"maximum", "power", "call", "custom_call"} & set(operations)


def test_back_propagate_reads_the_cache() -> None:
    """An A1 that no Z1 has: the derivatives follow the cache, not a second forward pass."""
    params, X, Y = on_device(problem(CASES["two layers, sigmoid"]), "float32")
    values = feed_forward(params, X)
    A1 = jnp.full_like(values["A1"], 0.25)
    d = back_propagate(params, {**values, "A1": A1}, Y)
    np.testing.assert_array_equal(d["dW2"], d["dZ2"].T @ A1 / 7)
    np.testing.assert_array_equal(d["dZ1"], d["dA1"] * jnp.float32(0.25 * 0.75))


# -------------------------------------------------------------------------------------- activations

GRID = f32([*np.linspace(-20, 20, 401), 80, -80, 1e4, -1e4, HUGE["float32"]])


def derivatives_on_the_grid(activation: Activation, dtype: str) -> tuple[Real, Real]:
    """By hand, and by jax.grad in float64."""
    with jax.enable_x64(True):
        Z = jnp.asarray(GRID, dtype)
        by_grad = jax.vmap(jax.grad(activation.function))(Z.astype("float64"))
        by_hand = activation.derivative(Z, activation.function(Z))
        return np.asarray(by_hand), np.asarray(by_grad)


@DTYPES
def test_sigmoid_derivative(dtype: str) -> None:
    """A (1 − A): absolute accuracy where A is near 1, relative accuracy where A is near 0."""
    hand, by_grad = derivatives_on_the_grid(sigmoid, dtype)
    A = scalar_activation("sigmoid", f64(GRID))
    bound = 2 * FUNCTION_UNITS * UNIT[dtype] * (A + A * A) + np.finfo(dtype).tiny
    assert hand.dtype == dtype
    assert_within(hand, by_grad, bound)
    assert_within(hand, A * scalar_activation("sigmoid", -f64(GRID)), bound)


@DTYPES
def test_tanh_derivative(dtype: str) -> None:
    hand, by_grad = derivatives_on_the_grid(tanh, dtype)
    A = np.tanh(f64(GRID))
    bound = 2 * FUNCTION_UNITS * UNIT[dtype] * (1 + A * A)
    assert hand.dtype == dtype
    assert_within(hand, by_grad, bound)
    assert_within(hand, np.cosh(np.minimum(abs(f64(GRID)), 700)) ** -2, bound)


@DTYPES
def test_relu_derivative(dtype: str) -> None:
    hand, by_grad = derivatives_on_the_grid(relu, dtype)
    assert hand.dtype == dtype
    np.testing.assert_array_equal(hand, by_grad)
    np.testing.assert_array_equal(hand, np.where(GRID > 0, 1, 0))


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_relu_derivative_at_the_kink(zero: float) -> None:
    """0, the end of the interval [0, 1] of one-sided derivatives that jax.nn.relu takes."""
    Z = jnp.float32([zero])
    assert float(relu.derivative(Z, relu.function(Z))[0]) == 0
    assert float(jax.grad(lambda z: relu.function(z))(jnp.float32(zero))) == 0
    smallest = jnp.float32([np.finfo("f4").tiny])
    assert float(relu.derivative(smallest, relu.function(smallest))[0]) == 1


@pytest.mark.parametrize(("activation", "at_zero"), [(sigmoid, 0.25), (tanh, 1.0)])
def test_smooth_derivative_at_zero(activation: Activation, at_zero: float) -> None:
    Z = jnp.float32([0.0])
    assert float(activation.derivative(Z, activation.function(Z))[0]) == at_zero


# ----------------------------------------------------------------------------------- second witness


def flat_loss(name: str) -> tuple[Any, jax.Array, jax.Array]:
    """loss(p), p and the hand-derived gradient, with all parameters in one vector p."""
    case = CASES[name]
    activation = ACTIVATIONS[case.activation]
    params, X, Y = on_device(problem(case), "float64")
    p, unravel = ravel_pytree(params)
    g, _ = ravel_pytree(gradient(params, X, Y, activation))
    return lambda q: loss(unravel(q), X, Y, activation), p, g


@pytest.mark.parametrize("name", ["two layers, sigmoid", "two layers, tanh"])
def test_central_differences(name: str, x64: None) -> None:
    """Along every coordinate. A loss of about 2 is rounded by some 10 u, twice, over 2h: 1e-9 of
    ‖g‖‖v‖ with ‖g‖ near 1 and ‖v‖ = 1; the remainder's h² is far below. Ten times that is allowed.
    """
    function, p, g = flat_loss(name)
    h = 1e-6
    steps = h * jnp.eye(p.size, dtype=p.dtype)
    values = jax.jit(lambda P: jax.lax.map(function, P))
    difference = (values(p[None, :] + steps) - values(p[None, :] - steps)) / (2 * h)
    assert_within(difference, g, 1e-8 * float(jnp.linalg.norm(g)))


@pytest.mark.parametrize("name", ["two layers, sigmoid", "three layers, sigmoid"])
def test_taylor_remainder_has_slope_two(name: str, x64: None) -> None:
    """The third-order term bends the slope by some h ≤ 0.003 of itself: 0.01 is allowed. A gradient
    that is wrong by 1 % leaves a first-order remainder, of slope 1."""
    function, p, g = flat_loss(name)
    v = jnp.asarray(np.random.default_rng(5).normal(size=p.size))
    v = v / jnp.linalg.norm(v) + g / jnp.linalg.norm(g)
    h = np.geomspace(1e-4, 3e-3, 7)
    along = jax.jit(lambda steps: jax.lax.map(lambda s: function(p + s * v), steps))
    values, start = np.asarray(along(jnp.asarray(h))), float(function(p))

    def slope(directional: float) -> float:
        remainder = abs(values - start - h * directional)
        return float(np.polyfit(np.log(h), np.log(remainder), 1)[0])

    assert slope(float(g @ v)) == pytest.approx(2.0, abs=0.01)
    assert slope(1.01 * float(g @ v)) < 1.5


# ------------------------------------------------------------------------------------ an epoch


def test_an_epoch_uses_every_example() -> None:
    """17 examples in batches of 5: a last batch of 2, whose mean is over 2.

    The document's `m // batch` leaves these two out, and its `m − 1` the last one. Float32 gives
    1e-5 after four steps; either slip moves some parameter a hundred times further.
    """
    n, batch, lr, beta = 17, 5, 0.5, 0.9
    params, X, _ = problem(Case((13, 11, 5), n, "sigmoid"))
    labels = np.random.default_rng(2).integers(5, size=n)
    images = f32(1 / (1 + np.exp(-X)))
    hyper = Hyperparameters({"lr": jnp.float32(lr), "beta": jnp.float32(beta)})
    key = jax.random.key(0)
    order = np.asarray(permutation(key, n))

    def steps(ends: list[int]) -> Any:
        state = init_state(on_device(params, "float32"), hyper)
        for j, end in enumerate(ends):
            rows = order[batch * j : end]
            Y = np.eye(5, dtype="f4")[labels[rows]]
            state = train_step(state, jnp.asarray(images[rows]), jnp.asarray(Y), hyper)
        return state.params

    state = init_state(on_device(params, "float32"), hyper)
    state = train_epoch(
        state,
        jnp.asarray(images),
        jnp.asarray(labels),
        jnp.float32(1),
        key,
        hyper,
        program=Program(batch_size=batch),
    )

    def distance(params: Any) -> float:
        return max(float(abs(params[k] - v).max()) for k, v in state.params.items())

    assert distance(steps([5, 10, 15, 17])) < 1e-5
    assert distance(steps([5, 10, 15])) > 1e-3
    assert distance(steps([5, 10, 15, 16])) > 1e-3


# ----------------------------------------------------------------------------------------- momentum


def velocities(lr: float, beta: float, gradients: Real) -> Real:
    """V of every step, read from the update −lr·V."""
    optimiser = momentum(lr, beta)
    state, V = optimiser.init(jnp.zeros(3)), []
    for g in gradients:
        updates, state = optimiser.update(jnp.asarray(g), state)
        V.append(-np.asarray(updates) / lr)
    return np.stack(V)


def random_gradients(steps: int = 11) -> Real:
    return np.random.default_rng(4).normal(size=(steps, 3))


def test_momentum_without_memory_is_gradient_descent(x64: None) -> None:
    g = random_gradients()
    np.testing.assert_allclose(velocities(0.5, 0.0, g), g, rtol=1e-15)


def test_momentum_is_not_plain_sgd_nor_debiased(x64: None) -> None:
    """optax.sgd(lr, momentum=β) steps 1/(1 − β) times as far; optax.ema by default 1/(1 − βᵗ)."""
    lr, beta, g, p = 0.5, 0.9, random_gradients(), jnp.zeros(3)
    plain, debiased = optax.sgd(lr, momentum=beta), optax.ema(beta)
    sgd_state, ema_state = plain.init(p), debiased.init(p)
    for t, V in enumerate(velocities(lr, beta, g), start=1):
        step, sgd_state = plain.update(jnp.asarray(g[t - 1]), sgd_state)
        with jax.numpy_dtype_promotion("standard"):
            mean, ema_state = debiased.update(jnp.asarray(g[t - 1]), ema_state)
        np.testing.assert_allclose(step, -lr * V / (1 - beta), rtol=1e-11)
        np.testing.assert_allclose(mean, V / (1 - beta**t), rtol=1e-11)


# ------------------------------------------------------ where the document's text and code disagree


def binary_cross_entropy(A: jax.Array, Y: jax.Array) -> jax.Array:
    """The document's prose: −1/m Σ Y log A + (1 − Y) log(1 − A), summed over the classes."""
    return -(Y * jnp.log(A) + (1 - Y) * jnp.log(1 - A)).sum() / Y.shape[0]


def test_binary_cross_entropy_of_softmax_has_another_dZ(x64: None) -> None:
    """With r = (A − Y)/(1 − A), dZ_k = r_k − A_k Σ_j r_j: neither the document's code nor ours."""
    Z, Y = logits("float64")
    by_grad = 7 * np.asarray(jax.grad(lambda Z: binary_cross_entropy(softmax(Z), Y))(Z))
    A = softmax(Z)
    r = (A - Y) / (1 - A)
    assert_within(by_grad, r - A * r.sum(axis=1, keepdims=True), 1e-11)
    assert abs(by_grad - np.asarray(cross_entropy_derivative(A, Y))).max() > 0.1


def test_precision_and_recall_change_places_with_the_arguments() -> None:
    """TP/(TP + FP) counts what was predicted, TP/(TP + FN) what is true; F1 sees no difference."""
    truth, predicted = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1, 2, 2])
    report = classification_report(truth, predicted, 3)
    swapped = classification_report(predicted, truth, 3)
    assert report["0"] == pytest.approx(
        {"precision": 3 / 3, "recall": 3 / 4, "f1-score": 6 / 7, "support": 4}
    )
    for row in ("0", "1", "2"):
        assert swapped[row]["precision"] == report[row]["recall"]
        assert swapped[row]["recall"] == report[row]["precision"]
        assert swapped[row]["f1-score"] == pytest.approx(report[row]["f1-score"])


def test_log_softmax_is_the_distance_up_to_half_the_largest_float() -> None:
    """Only beyond it is a distance cut off, so that the loss of soft targets stays finite."""
    far = np.float32(0.49) * np.finfo(np.float32).max
    assert float(log_softmax(jnp.array([[0.0, -far]], jnp.float32))[0, 1]) == -far


def test_the_mean_is_finite_where_the_sum_is_not() -> None:
    """Each example's loss is divided by m before they are added."""
    far = 0.49 * HUGE["float32"]
    Z, Y = jnp.tile(jnp.float32([[0, -far]]), (3, 1)), jnp.tile(jnp.float32([[0, 1]]), (3, 1))
    assert float(cross_entropy(Z, Y)) == pytest.approx(far, rel=1e-6)


def test_loss_is_finite_for_soft_targets_that_are_rounded_up():
    """0.4 and 0.6 + ε times the largest distance between two logits is beyond the largest float."""
    largest = jnp.finfo(jnp.float32).max
    Z = jnp.array([[largest, -largest, -largest]])
    Y = jnp.array([[0.0, 0.4, 0.6]], jnp.float32) * jnp.float32(1 + 2**-22)
    assert jnp.isfinite(cross_entropy(Z, Y))
