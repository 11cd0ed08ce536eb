"""Losses that are not the same function each time, or in each dtype: random draws, host callbacks,
a state of their own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn.gradcheck.report import GradientError

KEEP = 0.9


@pytest.fixture(autouse=True)
def promotion():
    """As users have it: dtypes and ranks promote."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


M, N, C = 17, 11, 5


def params_and_data(dtype):
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(C, N)).astype(dtype), "b": rng.normal(size=C).astype(dtype)}
    return params, rng.normal(size=(M, N)).astype(dtype)


def bernoulli(key, x):
    return x * jax.random.bernoulli(key, KEEP, x.shape) / KEEP


def normal(key, x):
    return x + jax.random.normal(key, x.shape)


def uniform(key, x):
    return x * jax.random.uniform(key, x.shape, minval=0.5, maxval=1.5)


def of_its_dtype(key, x):
    return x + jax.random.uniform(key, x.shape, x.dtype)


def permutation(key, x):
    return x[jax.random.permutation(key, len(x))] * jnp.arange(1, len(x) + 1)[:, None] / len(x)


def randint(key, x):
    return x[jax.random.randint(key, (len(x),), 0, len(x))]


def by_example(key, x):
    """A key of its own for each example."""
    keys = jax.random.split(key, len(x))
    return jax.vmap(lambda key, row: row * jax.random.bernoulli(key, KEEP, row.shape))(keys, x)


@jax.jit
def compiled(key, x):
    return bernoulli(key, x) + jax.random.gumbel(key, x.shape)


def in_a_loop(key, x):
    """Noise is added three times, each time another."""
    keys = jax.random.split(key, 3)
    add = lambda x, key: (x + jax.random.normal(key, x.shape), None)  # noqa: E731
    return jax.lax.scan(add, x, keys)[0]


DRAWS = [
    bernoulli, normal, uniform, of_its_dtype, permutation, randint, by_example, compiled, in_a_loop,
]  # fmt: skip


def layer(draw):
    """The loss Σ (d(x) Wᵀ + b)² / 2m of a layer behind a draw d, and its derivative by hand."""

    def loss(p, x, key):
        return ((draw(key, x) @ p["w"].T + p["b"]) ** 2).sum() / (2 * M)

    def gradient(p, x, key):
        h = draw(key, x)
        d = (h @ p["w"].T + p["b"]) / M
        return {"w": d.T @ h, "b": d.sum(axis=0)}

    return loss, gradient


def in_numpy(gradient):
    """The same with the products in NumPy, which no tracer can enter."""

    def by_hand(p, x, key):
        return jax.tree.map(np.asarray, gradient(jax.tree.map(np.asarray, p), x, key))

    return by_hand


WRONG = {
    "zeros": lambda g: jax.tree.map(lambda v: 0 * v, g),
    "twice": lambda g: jax.tree.map(lambda v: 2 * v, g),
    "b times 0.1": lambda g: {**g, "b": 0.1 * g["b"]},
    "one entry off by 1 %": lambda g: {**g, "w": g["w"] * (1 + 0.01 * (np.arange(N) == 3))},
}
KEYS = {"legacy": jax.random.PRNGKey, "typed": jax.random.key}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("draw", DRAWS, ids=lambda draw: getattr(draw, "__name__", "compiled"))
def test_random_draws(draw, dtype):
    """In float32 and float64 jax.random draws other numbers; here the caller's are used."""
    loss, gradient = layer(draw)
    params, x = params_and_data(dtype)
    key = KEYS["legacy" if dtype == np.float32 else "typed"](1)
    with jax.enable_x64(dtype == np.float64):
        report = jaxnn.check_gradients(loss, gradient, params, x, key)
        assert report.ok, str(report)
        assert report.witness.given_slope == pytest.approx(2, abs=0.1)
        for wrong in WRONG.values():
            report = jaxnn.check_gradients(
                loss, lambda *a, f=wrong: f(gradient(*a)), params, x, key
            )
            assert (report.ok, report.not_judged) == (False, ""), str(report)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("fault", [None, *WRONG])
def test_random_draws_of_numpy_gradients(fault, key):
    """The mask comes from JAX, in the caller's width, and the products from NumPy."""
    loss, gradient = layer(bernoulli)
    by_hand = in_numpy(gradient)
    params, x = params_and_data(np.float32)
    wrong = WRONG.get(fault, lambda g: g)
    report = jaxnn.check_gradients(loss, lambda *a: wrong(by_hand(*a)), params, x, KEYS[key](1))
    assert (report.ok, report.not_judged) == (fault is None, ""), str(report)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fault", [None, *WRONG])
def test_a_key_that_the_loss_closes_over(fault, dtype):
    """JAX is in its default float32, also where the parameters are NumPy's float64."""
    loss, gradient = layer(bernoulli)
    params, x = params_and_data(dtype)
    key, wrong = jax.random.key(3), WRONG.get(fault, lambda g: g)
    report = jaxnn.check_gradients(
        lambda p: loss(p, x, key), lambda p: wrong(gradient(p, x, key)), params
    )
    assert (report.ok, report.not_judged) == (fault is None, ""), str(report)


def test_another_key_in_the_gradient_is_wrong():
    loss, gradient = layer(bernoulli)
    params, x = params_and_data(np.float32)
    other = lambda p, x, key: gradient(p, x, jax.random.fold_in(key, 1))  # noqa: E731
    report = jaxnn.check_gradients(loss, other, params, x, jax.random.key(1))
    assert (report.ok, report.not_judged) == (False, "")


def under_a_custom_rule(key, x):
    rule = jax.custom_vjp(lambda x: x + jax.random.normal(key, x.shape))
    rule.defvjp(lambda x: (rule(x), None), lambda _, g: (g,))
    return rule(x)


def spacing(key, x):
    return x + 1e5 * jnp.finfo(x.dtype).eps


def of_the_host(key, x):
    return x + np.random.default_rng().normal(size=x.shape).astype(x.dtype)


counted = iter(range(10**6))


def with_a_state(key, x):
    return x * (1 + next(counted))


def with_a_small_state(key, x):
    """What it changes by from call to call is less than float32 and float64 may differ by."""
    return x * (1 + 1e-5 * next(counted))


@pytest.mark.sampled(6)
@pytest.mark.parametrize("fault", [None, "zeros", "twice", "b times 0.1"])
@pytest.mark.parametrize(
    "draw",
    [under_a_custom_rule, spacing, of_the_host, with_a_state, with_a_small_state],
    ids=lambda d: d.__name__,
)
def test_what_is_another_function_in_float64_cannot_be_judged(draw, fault):
    def depth(p, x, key):
        """The draw depends on the parameters, so that no draw can be taken out of it."""
        return ((draw(key, x @ p["w"].T) + p["b"]) ** 2).sum() / (2 * M)

    params, x = params_and_data(np.float32)
    wrong = WRONG.get(fault, lambda g: g)
    right = jax.grad(depth)(params, x, jax.random.key(0))
    report = jaxnn.check_gradients(depth, lambda *a: wrong(right), params, x, jax.random.key(0))
    assert not report.ok
    assert report.not_judged
    assert report.verdict.startswith("CANNOT BE JUDGED  gradient, because the loss ")
    assert report.to_dict()["not_judged"] == report.not_judged
    assert report.cause is None
    with pytest.raises(GradientError, match="CANNOT BE JUDGED"):
        report.raise_if_wrong()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("cast", ["float16", "float32", "bfloat16"])
def test_a_loss_that_computes_in_a_short_dtype_is_judged(cast):
    params, x = params_and_data(np.float32)

    def loss(p, x):
        return ((x.astype(cast) @ p["w"].T.astype(cast)).astype(x.dtype) ** 2).sum() / M

    wrong = lambda p, x: WRONG["twice"](jax.grad(loss)(p, x))  # noqa: E731
    report = jaxnn.check_gradients(loss, wrong, params, x)
    assert (report.ok, report.not_judged) == (False, "")


# -- Callbacks -------------------------------------------------------------------------------------


def on_the_host(f, df):
    """f of NumPy with its derivative, for jax.grad."""

    def call(function, x):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(function, shape, x, vmap_method="sequential")

    @jax.custom_jvp
    def op(x):
        return call(f, x)

    op.defjvp(lambda p, t: (op(*p), call(df, *p) * t[0]))
    return op


class Host:
    """A function whose name in a printed program is always the same."""

    def __init__(self, function):
        self.function = function

    def __call__(self, x):
        return np.asarray(self.function(x))

    def __repr__(self):
        return "Host"


AT = np.array([0.3, 0.5, 0.7])


@pytest.mark.parametrize("factor", [1, 1.01])
def test_a_callback_of_many_numbers_runs_in_another_thread(factor):
    """JAX calls the host from a thread of its own, where float64 does not exist by default."""
    at = np.random.default_rng(0).normal(size=2000).astype(np.float32)
    op = on_the_host(np.sin, np.cos)
    hand = jax.custom_vjp(op)
    hand.defvjp(lambda x: (op(x), x), lambda x, g: (factor * g * jnp.cos(x),))
    report = jaxnn.check_gradients(lambda w: op(w).sum(), lambda w: factor * np.cos(w), at)
    assert report.ok == (factor == 1), str(report)
    report = jaxnn.check_vjp(hand, at)
    assert report.ok == (factor == 1), str(report)
    assert jnp.ones(3).dtype == jnp.float32


@pytest.mark.sampled(1)
@pytest.mark.parametrize("wrap", [lambda f: f, Host], ids=["functions", "of one name"])
def test_callbacks_one_after_the_other(wrap):
    """Freed ones leave their address to the next."""

    def check(s, right):
        op = on_the_host(
            wrap(lambda x: np.asarray(s * x * x)), wrap(lambda x: np.asarray(2 * s * x))
        )
        gradient = lambda w: (2 if right else 2.1) * s * w  # noqa: E731
        return jaxnn.check_gradients(lambda w: op(w).sum(), gradient, AT).ok

    assert [check(s, True) for s in range(1, 12)] == [True] * 11
    assert [check(s, False) for s in range(1, 4)] == [False] * 3


def test_the_derivative_of_an_earlier_callback_is_wrong():
    sine, square = (
        on_the_host(Host(np.sin), Host(np.cos)),
        on_the_host(Host(lambda x: x * x), Host(lambda x: 2 * x)),
    )
    assert jaxnn.check_gradients(lambda w: sine(w).sum(), np.cos, AT).ok
    assert not jaxnn.check_gradients(lambda w: square(w).sum(), np.cos, AT).ok


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_constants_of_a_loss_are_those_of_this_loss(factor):
    """Equal programs with other constants, one after the other."""
    for c in (AT, AT + 1, AT + 2):
        inner = jax.jit(lambda w, c=c: (w * c) ** 2)
        report = jaxnn.check_gradients(
            lambda w, f=inner: f(w).sum(), lambda w, c=c: factor * 2 * w * c * c, AT
        )
        assert report.ok == (factor == 1)


# -- Widths ----------------------------------------------------------------------------------------


@pytest.mark.sampled(1)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["plain", "jitted"])
def test_programs_of_the_user_that_hold_integers_stay_and_go_on(wrap):
    """An array of NumPy integers, in a compiled function that was used before and is used after."""
    labels = np.array([0, 3, 3, 5])
    loss = wrap(lambda p: (jnp.tanh(p)[labels] ** 2).sum() * 0.1)
    gradient = wrap(jax.grad(loss))
    at = jnp.arange(1.0, 8.0) / 7
    before = loss(at)
    held = jax.jit(loss).lower(at).compile()
    assert jaxnn.check_gradients(loss, gradient, at).ok
    assert not jaxnn.check_gradients(loss, lambda p: 1.001 * gradient(p), at).ok
    assert loss(at) == held(at) == before
    assert gradient(at).dtype == at.dtype


@pytest.mark.parametrize("factor", [1.0, 1.0001])
def test_a_numpy_gradient_in_float64_that_calls_jax_in_its_float32(factor):
    params, x = params_and_data(np.float64)

    def gradient(p, x):
        h = np.asarray(jax.nn.sigmoid(x @ p["w"].T + p["b"]), np.float64)
        d = h * (1 - h) / M
        return {"w": factor * d.T @ x, "b": d.sum(axis=0)}

    def loss(p, x):
        return jax.nn.sigmoid(x @ p["w"].T + p["b"]).sum() / M

    report = jaxnn.check_gradients(loss, gradient, params, x)
    assert report.ok == (factor == 1), str(report)


# -- The loss has the last word --------------------------------------------------------------------


@pytest.mark.parametrize("power", [1, 2])
def test_nothing_is_right_with_a_taylor_slope_of_one(power):
    """The gradient is autodiff's, and the loss has another one: half of it is stopped."""
    loss = lambda p: (jax.lax.stop_gradient(p) * p**power).sum()  # noqa: E731
    report = jaxnn.check_gradients(loss, jax.grad(loss), np.arange(1.0, 5.0))
    assert report.witness.given_slope == pytest.approx(1, abs=0.2)
    assert not report.ok
    assert "stop_gradient" in report.not_judged


@pytest.mark.slow
def test_a_typed_key_and_a_wrong_gradient_of_a_network():
    params, X, Y = jaxnn_network()
    key = jax.random.key(0)
    loss = lambda p, key, X, Y: jaxnn.loss(p, X, Y)  # noqa: E731
    gradient = lambda p, key, X, Y: jaxnn.gradient(p, X, -Y)  # noqa: E731
    report = jaxnn.check_gradients(loss, gradient, params, key, X, Y)
    assert (report.ok, report.first_wrong) == (False, "dZ2")


@functools.cache
def jaxnn_network():
    from .point import network

    return network(activation="sigmoid")


@pytest.mark.parametrize(
    "loss", [lambda p: np.sum(np.exp(p)), lambda p: float(p.sum()), lambda p: np.asarray(p).sum()]
)
def test_a_loss_in_numpy_is_one_error_and_no_chain_of_them(loss):
    with pytest.raises(jaxnn.errors.JaxnnError, match=r"written with jax\.numpy") as caught:
        jaxnn.check_gradients(loss, lambda p: p, np.ones(3))
    assert caught.value.__suppress_context__
