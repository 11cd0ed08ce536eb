"""Each optimiser beside its rule in NumPy, and each schedule at the points that define it.

Hyperparameters are arguments of the compiled program, as in training, and dtypes promote strictly.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn.nn.optimisers import (
    OPTIMISERS,
    SCHEDULES,
    adam,
    adamw,
    constant,
    cosine,
    linear,
    momentum,
    nesterov,
    one_cycle,
    scheduled,
    velocity,
)

STEPS = 7
RNG = np.random.default_rng(4)
START = {"W1": RNG.normal(size=(3, 2)), "b1": RNG.normal(size=3)}
GRADIENTS = {name: RNG.normal(size=(STEPS, *p.shape)) for name, p in START.items()}

Rule = Callable[[str, np.ndarray, np.ndarray, int], np.ndarray]


def trained(make: Callable[..., Any], hyper: dict[str, float], dtype: str) -> dict[str, Any]:
    """The parameters after the steps, from one compiled program whose arguments are `hyper`."""

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})
    def program(params: Any, gradients: Any, hyper: Any) -> Any:
        rule = make(**hyper)

        def step(carry: Any, g: Any) -> Any:
            params, state = carry
            updates, state = rule.update(g, state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, rule.init(params)), gradients)
        return params

    with jax.enable_x64(dtype == "float64"):
        arrays = jax.tree.map(lambda v: jnp.asarray(v, dtype), (START, GRADIENTS, hyper))
        found = program(*arrays)
    assert {v.dtype.name for v in found.values()} == {dtype}
    return jax.tree.map(np.asarray, found)


def by_nesterov(lr: float, beta: float) -> Any:
    V = {name: np.zeros_like(p) for name, p in START.items()}

    def rule(name: str, p: Any, g: Any, t: int) -> Any:
        V[name] = beta * V[name] + (1 - beta) * g
        return p - lr * (beta * V[name] + (1 - beta) * g)

    return rule


def by_adam(
    lr: float, beta: float, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0
) -> Any:
    M, S = ({name: np.zeros_like(p) for name, p in START.items()} for _ in range(2))

    def rule(name: str, p: Any, g: Any, t: int) -> Any:
        M[name] = beta * M[name] + (1 - beta) * g
        S[name] = beta2 * S[name] + (1 - beta2) * g**2
        m, s = M[name] / (1 - beta**t), S[name] / (1 - beta2**t)
        decay = weight_decay if name[0] == "W" else 0.0
        return p - lr * (m / (np.sqrt(s) + eps) + decay * p)

    return rule


def in_numpy(rule: Rule) -> dict[str, np.ndarray]:
    params = dict(START)
    for t in range(1, STEPS + 1):
        params = {name: rule(name, p, GRADIENTS[name][t - 1], t) for name, p in params.items()}
    return params


def assert_same(found: Any, expected: Any, dtype: str = "float64") -> None:
    """Seven steps of some ten roundings each; Adam's 1 − β₂ᵗ loses three digits, also in NumPy."""
    for name, p in expected.items():
        np.testing.assert_allclose(found[name], p, atol={"float64": 1e-11, "float32": 1e-3}[dtype])
        assert abs(p - START[name]).max() > 0.1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nesterov_rule(dtype: str) -> None:
    hyper = {"lr": 0.5, "beta": 0.3}
    assert_same(trained(nesterov, hyper, dtype), in_numpy(by_nesterov(**hyper)), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adam_rule(dtype: str) -> None:
    hyper = {"lr": 0.1, "beta": 0.8, "beta2": 0.99, "eps": 1e-3}
    assert_same(trained(adam, hyper, dtype), in_numpy(by_adam(**hyper)), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adamw_rule(dtype: str) -> None:
    """A decay of 1 would move a bias by 0.1 of itself in each step: biases have none."""
    hyper = {"lr": 0.1, "beta": 0.8, "weight_decay": 1.0}
    assert_same(trained(adamw, hyper, dtype), in_numpy(by_adam(**hyper)), dtype)


def test_nesterov_equals_sgd() -> None:
    """optax.sgd(lr (1 − β), momentum=β, nesterov=True): the same steps."""
    ours = trained(nesterov, {"lr": 0.5, "beta": 0.9}, "float64")
    theirs = trained(lambda: optax.sgd(0.5 * (1 - 0.9), momentum=0.9, nesterov=True), {}, "float64")
    assert_same(ours, theirs)


def test_the_defaults_are_those_of_the_papers() -> None:
    by_paper = {"beta": 0.9, "beta2": 0.999, "eps": 1e-8}
    for rule, defaults in ((adam, by_paper), (adamw, by_paper | {"weight_decay": 0.01})):
        found = {name: p.default for name, p in inspect.signature(rule).parameters.items()}
        assert {name: found[name] for name in defaults} == defaults


# ---------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize(
    ("schedule", "at"),
    [
        (constant, {0: 1, 0.3: 1, 1: 1}),
        (linear, {0: 1, 0.25: 0.75, 1: 0}),
        (cosine, {0: 1, 1 / 3: 0.75, 0.5: 0.5, 1: 0}),
        (one_cycle, {0: 0.1, 0.1: 0.55, 0.2: 1, 0.6: 0.5, 1: 0}),
    ],
)
def test_schedule_at_its_points(schedule: Any, at: dict[float, float]) -> None:
    """float32 has 2⁻²⁴ of the largest value, 1; the cosine's argument up to four times as much."""
    found = schedule(jnp.float32(list(at)))
    np.testing.assert_allclose(found, list(at.values()), rtol=0, atol=5e-7)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_schedule_has_no_jump_and_stays_in_the_unit_interval(schedule: Any) -> None:
    """On 1001 points a slope of at most 4.5, which is one_cycle's, moves by 0.0045."""
    values = np.asarray(schedule(jnp.linspace(0, 1, 1001)))
    assert values.dtype == np.float32
    assert np.all((values >= 0) & (values <= 1))
    assert abs(np.diff(values)).max() < 0.0046
    assert values.max() == 1


def test_scheduled_steps() -> None:
    """Step t has lr · schedule(t / steps), and the end's from then on; all of it traced."""
    at = jax.jit(lambda lr, steps, t: scheduled(lr, linear, steps)(t))
    found = [float(at(jnp.float32(0.5), jnp.int32(4), jnp.int32(t))) for t in (0, 1, 2, 4, 9)]
    assert found == [0.5, 0.375, 0.25, 0.0, 0.0]


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_takes_a_schedule(name: str) -> None:
    """A constant one is the number itself."""
    rule, hyper = OPTIMISERS[name], {"lr": 0.25, "beta": 0.9}
    plain = trained(rule, hyper, "float32")
    same = trained(lambda lr, beta: rule(scheduled(lr, constant, STEPS), beta), hyper, "float32")
    for key, p in plain.items():
        np.testing.assert_allclose(same[key], p, rtol=1e-6)


def test_a_schedule_shortens_the_steps() -> None:
    """Gradient descent in a line to 0: step t has lr · (1 − t/7)."""
    found = trained(lambda lr: momentum(scheduled(lr, linear, STEPS), 0.0), {"lr": 0.5}, "float64")
    factors = 0.5 * (1 - np.arange(STEPS) / STEPS)
    expected = {k: p - np.tensordot(factors, GRADIENTS[k], 1) for k, p in START.items()}
    assert_same(found, expected)


def test_momentum_has_the_bits_of_optax_ema() -> None:
    """The same sum, in the same order: runs of earlier versions go on to the same parameters."""
    V, g = (jnp.asarray(RNG.normal(size=999), jnp.float32) for _ in range(2))

    def V_after(make: Any, beta: Any, V: Any, g: Any) -> Any:
        rule = make(beta)
        return rule.update(g, rule.init(g)._replace(ema=V))[0]

    fused = {"xla_backend_optimization_level": "3"}
    found, expected = (
        jax.jit(partial(V_after, make), compiler_options=fused)(jnp.float32(0.7), V, g)
        for make in (velocity, partial(optax.ema, debias=False))
    )
    np.testing.assert_array_equal(found, expected)


def test_momentum_of_a_number_counts_no_steps() -> None:
    """Its state is V and one count, as ever: checkpoints of earlier runs stay readable."""
    state = momentum(0.5, 0.9).init(START)
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(state)]
    assert sorted(shapes) == [(), (3,), (3, 2)]
