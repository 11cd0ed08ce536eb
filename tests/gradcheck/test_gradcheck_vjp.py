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


@pytest.mark.sampled(16)
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


def tanh_backward(g, x):
    return (g * (1 - jnp.tanh(x) ** 2),)


LARGE = [
    (tanh_backward, True),
    (lambda g, x: (jnp.where(jnp.abs(x) > 2.5, 0, tanh_backward(g, x)[0]),), False),
    (lambda g, x: (jnp.asarray(tanh_backward(g, x)[0]).at[37, 411].multiply(1.01),), False),
]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("reference", [None, jnp.tanh])
@pytest.mark.parametrize(("rule", "right"), LARGE, ids=["right", "saturated", "one entry"])
def test_every_entry_of_a_large_jacobian_is_reached(rule, right, reference):
    """Of 49,152² numbers nearly all are 0; the verdict says that they were compared in sums."""
    (x,) = arguments(((64, 768),))
    report = jaxnn.check_vjp(by_hand(rule, jnp.tanh), x, reference=reference)
    assert report.ok is right
    assert report.notes[0].startswith("in sums: all 49,152 outputs by all 49,152 inputs")
    assert ("in 5 weighted sums of its outputs" in report.verdict) is right


def test_the_report_says_where_a_large_jacobian_is_wrong():
    (x,) = arguments(((64, 768),))
    rule = LARGE[2][0]
    report = jaxnn.check_vjp(by_hand(rule, jnp.tanh), x)
    assert (report.cause, report.first_wrong) == ("scale", "x")
    assert "1.01" in report.explanation
    assert "(37, 411)" in report.explanation


def test_a_large_forward_pass_that_autodiff_cannot_go_through_is_judged_along_directions():
    def twice(x):
        def step(state):
            return state[0] + 1, jnp.sin(state[1])

        return jax.lax.while_loop(lambda state: state[0] < 2, step, (0, x))[1]

    def rule(g, x):
        return (g * jnp.cos(jnp.sin(x)) * jnp.cos(x),)

    def one_entry(g, x):
        return (rule(g, x)[0].at[3, 5].set(0),)

    (x,) = arguments(((64, 768),))
    report = jaxnn.check_vjp(by_hand(rule, twice), x)
    assert report.ok, str(report)
    assert "compared only along 4 directions" in report.verdict
    report = jaxnn.check_vjp(by_hand(one_entry, twice), x)
    assert not report.ok
    assert "by x[3, 5] is" in report.explanation


def test_no_figure_of_a_random_cotangent_is_told():
    """A row of the product is wrong by another factor with each cotangent."""

    def rule(g, X, W):
        dX, dW = backward(g, X, W)
        return dX, dW.at[1].set((g[:-1] * (1 - affine(X, W)[:-1] ** 2)).T[1] @ X[:-1] * 0.5)

    one, other = (
        jaxnn.check_vjp(by_hand(rule), *arguments(), reference=affine, seed=seed) for seed in (0, 1)
    )
    assert not one.ok
    assert one.explanation == other.explanation


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


@pytest.mark.parametrize("reference", [None, jax.nn.relu])
@pytest.mark.parametrize("shape", [(5,), (64, 768)])
def test_no_convention_outside_the_kink_of_relu(shape, reference):
    def rule(g, x):
        return (g * jnp.heaviside(x, 2.0),)

    x = np.maximum(arguments((shape,))[0], 0)
    assert not jaxnn.check_vjp(by_hand(rule, jax.nn.relu), x, reference=reference).ok


@pytest.mark.parametrize("at_zero", [0.0, 0.5, 1.0])
def test_kinks_that_meet_in_one_entry(at_zero):
    W, w = arguments(((8, 5), (8,)))

    def network(x):
        return jax.nn.relu(W @ x) @ w

    def rule(g, x):
        z = W @ x
        return ((g * w * jnp.where(z == 0, at_zero, jnp.heaviside(z, 0.0))) @ W,)

    report = jaxnn.check_vjp(by_hand(rule, network), np.zeros(5, np.float32))
    assert report.ok, str(report)


def largest(x):
    return x.max(axis=1)


SHARES = [
    (lambda top: top, False),
    (lambda top: top / top.sum(1, keepdims=True), True),
    (lambda top: jnp.where(jnp.cumsum(top, axis=1) == 1, top, 0), True),
]


@pytest.mark.parametrize("reference", [None, largest])
@pytest.mark.parametrize("width", [4, 3000])
@pytest.mark.parametrize(("share", "right"), SHARES, ids=["all", "equal", "first"])
def test_tied_entries_share_the_gradient(share, right, width, reference):
    def rule(g, x):
        return (g[:, None] * share((x == x.max(1, keepdims=True)).astype(x.dtype)),)

    x = np.round(arguments(((6, width),))[0])
    x[2, :2] = 9
    report = jaxnn.check_vjp(by_hand(rule, largest), x, reference=reference)
    assert report.ok is right, str(report)
    assert report.cause == (None if right else "ties")


@pytest.mark.parametrize("new_key", [jax.random.PRNGKey, jax.random.key])
@pytest.mark.parametrize("shape", [(5, 7), (64, 768)])
def test_dropout_with_a_key_among_the_arguments(shape, new_key):
    """In float64 JAX draws another mask than in float32."""

    def dropout(x, key):
        return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), 2 * x, 0)

    def rule(factor):
        return lambda g, x, key: (
            jnp.where(jax.random.bernoulli(key, 0.5, x.shape), factor * g, 0),
            None,
        )

    args = *arguments((shape,)), new_key(0)
    assert jaxnn.check_vjp(by_hand(rule(2), dropout), *args).ok
    assert not jaxnn.check_vjp(by_hand(rule(1), dropout), *args).ok


def test_a_straight_through_estimator_can_be_declared():
    def identity(x):
        return x

    (x,) = arguments(((5,),))

    def nearest(x):
        return jnp.round(x)

    estimator = by_hand(lambda g, x: (g,), nearest)
    assert not jaxnn.check_vjp(estimator, x).ok
    report = assert_vjp(estimator, x, derivative_of=identity)
    assert "RIGHT  nearest, as the derivative of identity" in report.verdict
    assert any(note.startswith("not checked: that this is the derivative") for note in report.notes)
    wrong = by_hand(lambda g, x: (2 * g,), nearest)
    assert not jaxnn.check_vjp(wrong, x, derivative_of=identity).ok


def test_a_gradient_clip_can_be_declared():
    def clip(g):
        return jnp.clip(g, -1, 1)

    def identity(x):
        return x

    (x,) = arguments(((5,),))
    clipped = by_hand(lambda g, x: (clip(g),), identity)
    assert jaxnn.check_vjp(clipped, x).cause == "nonlinear_in_cotangent"
    report = assert_vjp(clipped, x, cotangent=clip)
    assert "with its cotangent changed by clip" in report.verdict
    assert "not checked: that the product is linear in its cotangent" in report.notes
    other = by_hand(lambda g, x: (jnp.clip(g, -2, 2),), identity)
    assert not jaxnn.check_vjp(other, x, cotangent=clip).ok


FORWARD = [
    (lambda x: jnp.tanh(x), "must return a pair"),
    (lambda x: ((jnp.tanh(x),), x), "another result than the function"),
    (lambda x: (jnp.tanh(x)[:1], x), "another shape than the function"),
    (lambda x: (2 * jnp.tanh(x), x), "the result that the forward rule returns"),
]


@pytest.mark.parametrize(("forward", "told"), FORWARD)
def test_a_forward_rule_that_returns_something_else_is_named(forward, told):
    function = jax.custom_vjp(jnp.tanh)
    function.defvjp(forward, lambda x, g: tanh_backward(g, x))
    report = jaxnn.check_vjp(function, np.ones(3))
    assert not report.ok
    assert "forward rule" in report.explanation
    assert told in report.explanation
    assert "PyTreeDef" not in report.explanation


def test_python_floats_are_arguments_unless_they_are_not_differentiated():
    square = by_hand(lambda g, x: (2 * g * x,), lambda x: x * x)
    assert jaxnn.check_vjp(square, 3.0).ok
    power = jax.custom_vjp(lambda x, c: c * x**2, nondiff_argnums=(1,))
    power.defvjp(lambda x, c: (c * x**2, x), lambda c, x, g: (2 * c * x * g,))
    assert jaxnn.check_vjp(power, np.ones(3), 0.5).ok


def test_complex_numbers_are_refused_in_words():
    with pytest.raises(JaxnnError, match="complex128 in z"):
        jaxnn.check_vjp(lambda z: z * z, np.array([1 + 2j]))


def test_only_real_arrays_can_be_checked():
    with pytest.raises(JaxnnError, match="real arrays"):
        jaxnn.check_vjp(lambda n: n, 3)


def test_the_assertion_holds_the_report():
    with pytest.raises(GradientError, match="cause: sign"):
        assert_vjp(by_hand(with_w(lambda g, d: -d)), *arguments())


@pytest.mark.parametrize("factor", [1, 1.01])
def test_numpys_float64_is_float32_for_jax(factor):
    """An integer among the arguments: the forward pass is then NumPy's, and the rule jax's."""
    power = jax.custom_vjp(lambda x, n: x**n)
    power.defvjp(
        lambda x, n: (x**n, (x, n)),
        lambda kept, g: (factor * g * kept[1] * kept[0] ** (kept[1] - 1), None),
    )
    report = jaxnn.check_vjp(power, np.random.default_rng(0).normal(size=7), 3)
    assert report.ok == (factor == 1), str(report)


def test_what_was_not_moved_was_not_compared():
    """All inputs on a kink of a function without autodiff: nothing can be said of it."""

    def turned_positive(x):
        def step(state):
            return state[0] + 1, jnp.abs(state[1])

        return jax.lax.while_loop(lambda state: state[0] < 2, step, (0, x))[1]

    report = jaxnn.check_vjp(
        by_hand(lambda g, x: (7 * g,), turned_positive), np.zeros(2000, np.float32)
    )
    assert not report.ok
    assert report.cause is None
    assert "give reference=" in report.not_judged
    assert report.verdict.startswith("CANNOT BE JUDGED")


def test_a_function_of_numpy_is_refused_in_words():
    with pytest.raises(JaxnnError, match=r"jax\.custom_vjp") as refused:
        jaxnn.check_vjp(lambda x: np.sin(x), np.ones(3))
    assert "\n" not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_a_rule_finds_arrays_of_jax_among_its_residuals(convert):
    def without(x, n):
        return jnp.where(jnp.arange(5) >= n, jnp.cumprod(x.at[n].set(1.0)), 0.0)

    products = by_hand(
        lambda g, x: (jnp.stack([without(x, n) for n in range(5)]) @ g,), lambda x: jnp.cumprod(x)
    )
    assert jaxnn.check_vjp(products, convert([0.7, 1.3, 0.0, -2.0, 0.4])).ok
