"""The activations beyond the document's, and their derivatives, everywhere that a float can be."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr

from jaxnn.nn.activations import ACTIVATIONS, Activation, gelu, leaky_relu, silu, softplus

from .test_equations import DTYPES, FUNCTION_UNITS, GRID, HUGE, UNIT, f64, scalar_activation

MORE = {g.name: g for g in (leaky_relu, softplus, gelu, silu)}
EACH = pytest.mark.parametrize("name", MORE)
Z = f64(GRID)
sigma = scalar_activation("sigmoid", Z)
phi = np.exp(-Z * Z / 2) / np.sqrt(2 * np.pi)

#: The derivatives, in NumPy, and Σ|terms| of each.
SLOPES = {
    "leaky_relu": np.where(Z > 0, 1, 0.01),
    "softplus": sigma,
    "gelu": ndtr(Z) + Z * phi,
    "silu": sigma + Z * sigma * scalar_activation("sigmoid", -Z),
}
TERMS = SLOPES | {
    "gelu": ndtr(Z) + abs(Z) * phi,
    "silu": sigma + abs(Z) * sigma * scalar_activation("sigmoid", -Z),
}


def units(name: str) -> Any:
    """Roundings of up to four functions on the grid; exp(−z²/2), down to the smallest float, makes
    z² of one."""
    return 4 * FUNCTION_UNITS * (1 + np.minimum(Z * Z, 1500) if name == "gelu" else 1)


def floor(dtype: str) -> Any:
    """The smallest float, below which a factor is 0, times the other factor, which may be z."""
    return np.finfo(dtype).tiny * (1 + np.minimum(abs(Z), 1e3))


@cache
def on_the_grid(dtype: str) -> dict[str, tuple[Any, Any, Any]]:
    """Each function, its derivative by hand, and by jax.grad in float64, in one program."""

    @jax.jit
    def program(Z: jax.Array) -> dict[str, Any]:
        def of(g: Activation) -> tuple[jax.Array, ...]:
            A = g.function(Z)
            by_grad = jax.vmap(jax.grad(g.function))(Z.astype("float64"))
            return A, g.derivative(Z, A), by_grad

        return {name: of(g) for name, g in MORE.items()}

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, program(jnp.asarray(GRID, dtype)))


def assert_near(actual: Any, expected: Any, bound: Any) -> None:
    assert np.all(np.isfinite(actual))
    assert np.all(abs(f64(actual) - expected) <= bound)


@DTYPES
@EACH
def test_function_by_its_definition(name: str, dtype: str) -> None:
    A, _, _ = on_the_grid(dtype)[name]
    expected = scalar_activation(name, Z)
    assert A.dtype == dtype
    assert_near(A, expected, units(name) * UNIT[dtype] * abs(expected) + floor(dtype))


def assert_derivative(name: str, dtype: str) -> None:
    """By hand, by jax.grad and by NumPy: all the same, and on the right of all kinks 1."""
    _, hand, by_grad = on_the_grid(dtype)[name]
    bound = units(name) * UNIT[dtype] * TERMS[name] + floor(dtype)
    assert hand.dtype == dtype
    assert_near(hand, by_grad, bound)
    assert_near(hand, SLOPES[name], bound)
    assert abs(hand - by_grad)[abs(Z) <= 20].max() <= {"float64": 1e-12, "float32": 1e-5}[dtype]
    far = {z: float(hand[list(GRID).index(np.float32(z))]) for z in (1e4, -1e4, HUGE["float32"])}
    left = 0.01 if name == "leaky_relu" else 0.0
    assert far == pytest.approx({1e4: 1.0, -1e4: left, HUGE["float32"]: 1.0}, abs=0, rel=1e-7)


@DTYPES
def test_leaky_relu_derivative(dtype: str) -> None:
    assert_derivative("leaky_relu", dtype)


@DTYPES
def test_softplus_derivative(dtype: str) -> None:
    assert_derivative("softplus", dtype)


@DTYPES
def test_gelu_derivative(dtype: str) -> None:
    assert_derivative("gelu", dtype)


@DTYPES
def test_silu_derivative(dtype: str) -> None:
    assert_derivative("silu", dtype)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_leaky_relu_derivative_at_the_kink(zero: float) -> None:
    """1/100, the one-sided derivative from the left, by hand and by jax.grad alike."""
    z = jnp.float32([zero])
    assert float(leaky_relu.derivative(z, leaky_relu.function(z))[0]) == np.float32(0.01)
    assert float(jax.grad(leaky_relu.function)(z[0])) == np.float32(0.01)
    smallest = jnp.float32([np.finfo("f4").tiny])
    assert float(leaky_relu.derivative(smallest, leaky_relu.function(smallest))[0]) == 1


@pytest.mark.parametrize("activation", [softplus, gelu, silu])
def test_slope_of_one_half_at_zero(activation: Activation) -> None:
    z = jnp.float32([0.0])
    assert float(activation.derivative(z, activation.function(z))[0]) == 0.5


def test_each_is_known_by_its_own_name() -> None:
    assert all(name == activation.name for name, activation in ACTIVATIONS.items())


def test_each_is_tested_here_or_among_the_equations() -> None:
    assert {*MORE, "sigmoid", "tanh", "relu"} == set(ACTIVATIONS)
