"""Mixed precision: rounding on the way accuses nobody, and hides no mistake."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import check_gradients
from jaxnn.gradcheck.precision import widened
from jaxnn.gradcheck.reference import float64_rules

from ..faults.mixed import RIGHT, WRONG, mixed_problem


def report_on(low, gradient, seed):
    problem = mixed_problem(seed, low, gradient)
    return check_gradients(problem.loss, problem.gradient, problem.params, *problem.args)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("low", "gradient"), [case[1:] for case in RIGHT], ids=[c[0] for c in RIGHT]
)
def test_rounding_in_a_short_dtype_is_no_mistake(low, gradient):
    report = report_on(low, gradient, 1)
    assert report.ok, str(report)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("code", "first", "low", "gradient"), [c[1:] for c in WRONG], ids=[c[0] for c in WRONG]
)
def test_a_mistake_is_named_through_rounding(code, first, low, gradient):
    report = report_on(low, gradient, 1)
    assert (report.ok, report.cause, report.first_wrong) == (False, code, first)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("low", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_data_that_the_loss_rounds_are_no_mistake(low, array):
    """NumPy's own cast is done before jax sees it; a right gradient may round the data or not."""
    rng = np.random.default_rng(0)
    w, x, y = (array(rng.normal(size=shape).astype(np.float32)) for shape in ((5,), (11, 5), (11,)))

    def loss(w, x, y):
        return jnp.mean((x.astype(low).astype(jnp.float32) @ w - y) ** 2)

    def by_hand(w, x, y):
        return 2 * x.T @ (x @ w - y) / len(y)

    for right in (by_hand, jax.grad(loss)):
        report = check_gradients(loss, right, w, x, y)
        assert report.ok, str(report)
        assert not report.witness.given_slope < 1.9
    assert not check_gradients(loss, lambda *args: 1.1 * by_hand(*args), w, x, y).ok


#: Programs that compute in a short dtype in every way that a loss may.
SHORT = {
    "a cast": lambda x: x.astype(jnp.bfloat16).astype(x.dtype),
    "under jit": jax.jit(lambda x: x.astype(jnp.float16).astype(x.dtype)),
    "recomputed": jax.checkpoint(lambda x: jnp.sin(x.astype(jnp.bfloat16)).astype(x.dtype)),
    "a relu": lambda x: jax.nn.relu(x.astype(jnp.bfloat16)).astype(x.dtype),
    "a product": lambda x: jnp.matmul(
        jnp.eye(5, dtype=jnp.bfloat16), x.astype(jnp.bfloat16), preferred_element_type=jnp.float32
    ).astype(x.dtype),
    "a product of a named precision": lambda x: jnp.matmul(
        jnp.eye(5, dtype=jnp.float32), x.astype(jnp.float32), precision="bfloat16"
    ).astype(x.dtype),
    "a loop": lambda x: jax.lax.scan(
        lambda c, y: (c + y, c * y), jnp.zeros((), jnp.bfloat16), x.astype(jnp.bfloat16)
    )[1].astype(x.dtype),
    "rounded to fewer bits": lambda x: jax.lax.reduce_precision(x.astype(jnp.float32), 8, 7)
    .astype(x.dtype),
}  # fmt: skip
EXACT = {
    "recomputed": np.sin,
    "a relu": lambda x: np.maximum(x, 0),
    "a loop": lambda x: (np.cumsum(x) - x) * x,
}


@pytest.mark.parametrize("name", SHORT)
def test_the_loss_that_is_meant_has_no_rounding(name):
    x = np.random.default_rng(0).normal(size=5)
    with float64_rules():
        function, short = widened(SHORT[name], x)
        found = function(x)
    assert short
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, EXACT.get(name, np.positive)(x), rtol=1e-14)


def test_a_loss_in_float64_is_itself():
    with float64_rules():
        assert widened(jnp.sin, np.ones(3)) == (jnp.sin, frozenset())
