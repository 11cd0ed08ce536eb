"""A program in NumPy gives what the same program gives in JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.gradcheck.evaluate import OPERATIONS
from jaxnn.gradcheck.program import trace
from jaxnn.gradcheck.reference import float64_rules

lax = jax.lax
KEY = jax.random.key(0)

A = np.random.default_rng(0).uniform(0.1, 0.9, size=(3, 4))
B = np.random.default_rng(1).uniform(0.1, 0.9, size=(3, 4))
SQUARE = np.random.default_rng(2).normal(size=(4, 4))


def steps(c, row):
    return jnp.tanh(c * row), c.sum()


#: name: (function, arguments). Signs, ties, NaN and single numbers are among them.
PROGRAMS = {
    "arithmetic": (lambda a, b: (a + b) * (a - b) / (1 + a * b) - -a, (A, B)),
    "functions": (
        lambda a: sum(f(a) for f in (
            jnp.exp, jnp.exp2, jnp.log, jnp.log1p, jnp.expm1, jnp.tanh, jax.nn.sigmoid, jnp.sin,
            jnp.cos, jnp.tan, jnp.sinh, jnp.cosh, jnp.arcsin, jnp.arccos, jnp.arctan, jnp.arcsinh,
            jnp.arctanh, jnp.sqrt, lax.rsqrt, jnp.cbrt, jnp.square, jnp.abs, lax.erf, lax.erfc,
            lax.lgamma)), (A,)),
    "powers": (lambda a: a**2 + a**3 - a**-1 + a**7 + a**-5 + a**0.3 + a**a, (A,)),
    "signs": (lambda a: jnp.sign(a) + jnp.floor(a) + jnp.ceil(a) + jnp.abs(a), (SQUARE,)),
    "arctan2": (jnp.arctan2, (A, -B)),
    "extremes": (
        lambda a, b: jnp.maximum(a, b) * jnp.minimum(a, 0.5) + lax.clamp(0 * a + 0.2, a, b),
        (A, B)),
    "NaN": (lambda a: jnp.maximum(jnp.where(a > 0.5, jnp.nan, a), a).max(1), (A,)),
    "where": (
        lambda a, b: jnp.where((a > b) | ~(a <= 0.3) & (b >= 0.2) & (b != 0.2), a, b),
        (A, B)),
    "three cases": (lambda a: lax.select_n((a * 3).astype(jnp.int32), a, 2 * a, 3 * a), (A,)),
    "inner product": (lambda a, b: a.ravel() @ b.ravel(), (A, B)),
    "products": (lambda a, b: a @ b.T @ a, (A, B)),
    "batched products": (
        lambda a: jnp.einsum("bij,bkj->bik", a[:, None] * a[:, :, None], SQUARE + a[:, None]),
        (A,)),
    "products over two axes": (
        lambda a: jnp.einsum("ij,ijk->k", a, jnp.broadcast_to(SQUARE, (3, 4, 4))),
        (A,)),
    "reductions": (lambda a: a.sum() + a.sum(0).max() + a.min(1).prod() + a.mean((0, 1)), (A,)),
    "counts": (lambda a: (a > 0.5).sum(0) + jnp.argmax(a, 0) - jnp.argmin(a, 0), (A,)),
    "questions": (lambda a: ((a > 0).all(0) & (a > 0.8).any(0), jnp.isfinite(a)), (A,)),
    "running sums": (
        lambda a: (jnp.cumsum(a, 1), lax.cumsum(a, 0, reverse=True), jnp.cumprod(a, 1)),
        (A,)),
    "moves": (
        lambda a: jnp.concatenate(
            [a.T.reshape(2, 6)[:, ::-1], jnp.expand_dims(a.ravel(), 0).reshape(2, 6)[:, 1::2]], 1
        ),
        (A,)),
    "padding": (lambda a: lax.pad(a, a[0, 0], ((1, 2, 1), (-1, 0, 2))), (A,)),
    "negative padding": (lambda a: lax.pad(a, a[0, 0], ((0, -1, 0), (-1, -1, 1))), (A,)),
    "slices": (lambda a: lax.dynamic_slice(a, (jnp.int32(2), jnp.int32(-1)), (2, 2)), (A,)),
    "updates": (lambda a, b: lax.dynamic_update_slice(a, b[:2, :2], (2, 1)), (A, B)),
    "gathers": (lambda a: a[jnp.array([0, 2]), jnp.array([1, 3])], (A,)),
    "scatters": (lambda a: jnp.asarray(a).at[1].add(3.0), (A,)),
    "ranges": (lambda a: a * jnp.arange(4.0) + jnp.eye(3, 4), (A,)),
    "whole numbers": (
        lambda a: (jnp.arange(6) // 4, jnp.arange(6) % 4, (a * 10).astype(jnp.int32) * 3 - 7),
        (A,)),
    "calls": (jax.jit(lambda a: jax.checkpoint(jax.nn.relu)(a) + jax.nn.log_softmax(a)), (A,)),
    "a branch": (lambda a: lax.cond(a.sum() > 100, jnp.sin, jnp.cos, a), (A,)),
    "a loop": (lambda a: lax.scan(steps, a[0], a), (A,)),
    "a loop backwards": (lambda a: lax.scan(steps, a[0], a, reverse=True), (A,)),
    "a long loop": (lambda a: lax.fori_loop(0, 20_000, lambda i, c: c * 0.9999, a), (A,)),
    "a loop without an end": (
        lambda a: lax.while_loop(lambda c: c.sum() < 9, lambda c: c * 1.1, a),
        (A,)),
    "random numbers": (lambda a: a * jax.random.normal(KEY, (3, 4)), (A,)),
    "a convolution": (lambda a: jnp.convolve(a[0], a[1]), (A,)),
    "bfloat16": (lambda a: (a.astype(jnp.bfloat16) * 3).astype(a.dtype), (A,)),
    "complex": (lambda a: jnp.abs(jnp.fft.fft(a)) + (a + 1j * a).imag, (A,)),
    "sorting": (lambda a: (jnp.sort(a), jnp.argsort(a)), (A,)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_numpy_gives_what_jax_gives(name, dtype):
    function, arguments = PROGRAMS[name]
    arguments = [np.asarray(a, dtype) for a in arguments]
    with float64_rules():
        expected = function(*arguments)
        program = trace(function, *arguments)
        found = program(*arguments)
        eps = np.finfo(dtype).eps
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(
                np.asarray(one), np.asarray(other), rtol=300 * eps, atol=300 * eps
            )


def test_every_operation_is_tried_here():
    """Each is met by one of the programs above, or by its gradient."""
    met = set()

    def note(jaxpr):
        for equation in jaxpr.eqns:
            met.add(equation.primitive.name)
            for value in jax.tree.leaves(list(equation.params.values())):
                if hasattr(inner := getattr(value, "jaxpr", value), "eqns"):
                    note(inner)

    with float64_rules():
        for function, arguments in PROGRAMS.values():
            note(jax.make_jaxpr(function)(*arguments).jaxpr)
    rare = {"add_any", "copy", "copy_p", "double", "stop_gradient", "xor", "expand_dims"}
    assert set(OPERATIONS) - rare <= met
