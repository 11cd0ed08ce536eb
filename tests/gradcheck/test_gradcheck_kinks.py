"""What is right at a kink: all that the loss's operations leave open, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn import check_gradients, check_vjp
from jaxnn.gradcheck.kinks import Kinks, is_smooth

from ..faults.kinks import SETTINGS, kinked_problem
from .point import network

ZEROS = np.zeros(3)

#: name: (function, point, derivatives that are right there, derivatives that are wrong)
FUNCTIONS = {
    "relu": (jax.nn.relu, ZEROS, [0, 0.3, 0.5, 1], [-1, 1.9, 2]),
    "leaky relu": (jax.nn.leaky_relu, ZEROS, [0.01, 0.3, 1], [0, 1.1, 2]),
    "relu by a mask": (lambda x: x * (x > 0), ZEROS, [0, 0.3, 1], [-0.1, 2]),
    "relu by where": (lambda x: jnp.where(x > 0, x, 0), ZEROS, [0, 0.3, 1], [-0.1, 2]),
    "abs": (jnp.abs, ZEROS, [-1, 0, 1], [-3, 1.1, 3]),
    "-abs": (lambda x: -jnp.abs(x), ZEROS, [-1, 0, 1], [-3, 3]),
    "abs by sign": (lambda x: x * jnp.sign(x), ZEROS, [-1, 0, 1], [-3, 3]),
    "minimum": (lambda x: jnp.minimum(x, 0), ZEROS, [0, 0.5, 1], [-1, 2]),
    "clip": (lambda x: jnp.clip(x, 0, 1), np.array([0, 1, 0.0]), [0, 0.5, 1], [-0.5, 2]),
    "hinge": (lambda x: jnp.maximum(0, 1 - x), np.ones(3), [-1, -0.5, 0], [-2, 1]),
    "recomputed": (jax.checkpoint(jnp.abs), ZEROS, [-1, 0, 1], [-3, 3]),
    "a difference of kinks": (lambda x: jnp.abs(x) - 3 * jax.nn.relu(x), ZEROS, [-2, 1], [-5, 2]),
    "max": (jnp.max, ZEROS, [1 / 3, [1, 0, 0], [0, 0.5, 0.5]], [0, 1, 0.5, [1, 1, 0]]),
    "min": (jnp.min, ZEROS, [1 / 3, [1, 0, 0], [0, 0.5, 0.5]], [0, 1, 0.5, [1, 1, 0]]),
    "median": (jnp.median, ZEROS, [1 / 3, [1, 0, 0], [0, 0.5, 0.5]], [0, 1, 0.5]),
    "sort": (lambda x: jnp.sort(x)[1:], ZEROS, [2 / 3, [1, 0, 1]], [0, 1, 0.5]),
    "pairs by vmap": (lambda x: jax.vmap(jnp.max)(jnp.stack([x[:2], x[1:]])), ZEROS,
                      [[1, 0, 1], [0.5, 1, 0.5]], [1, 0, [1, 2, 1]]),
    "a loop": (lambda x: jax.lax.scan(lambda c, y: (jnp.maximum(c, y), c), x[0], x[1:])[0],
               ZEROS, [[1, 0, 0], [0, 1, 0], [0.25, 0.25, 0.5]], [[2, 0, 0], [-1, 0, 0]]),
}  # fmt: skip

RIGHT = [(name, value) for name, (_, _, right, _) in FUNCTIONS.items() for value in right]
WRONG = [(name, value) for name, (_, _, _, wrong) in FUNCTIONS.items() for value in wrong]


def judged(name, value):
    """The report on a constant gradient of the function's sum."""
    function, point, *_ = FUNCTIONS[name]
    given = np.broadcast_to(np.asarray(value, float), point.shape).copy()
    return check_gradients(lambda x: function(x).sum(), lambda x: given, point)


@pytest.mark.sampled(12)
@pytest.mark.parametrize(("name", "value"), RIGHT)
def test_what_a_kink_leaves_open_is_right(name, value):
    assert judged(name, value).ok


@pytest.mark.sampled(12)
@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_no_choice_explains_is_wrong(name, value):
    report = judged(name, value)
    assert not report.ok
    assert report.cause in ("ties", "beyond_kink", "zero", "scale", "sign", "unknown", "partial")


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("setting", "name"), [(s, name) for s, kinked in SETTINGS.items() for name in kinked.right]
)
@pytest.mark.parametrize("seed", [0, 2])
def test_conventions_at_kinks_are_right(setting, name, seed):
    problem = kinked_problem(seed, setting, SETTINGS[setting].right[name])
    report = check_gradients(problem.loss, problem.gradient, problem.params, *problem.args)
    assert report.ok, str(report)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("setting", "name"), [(s, name) for s, kinked in SETTINGS.items() for name in kinked.wrong]
)
@pytest.mark.parametrize("seed", [0, 2])
def test_mistakes_at_kinks_are_named(setting, name, seed):
    code, gradient = SETTINGS[setting].wrong[name]
    problem = kinked_problem(seed, setting, gradient)
    report = check_gradients(problem.loss, problem.gradient, problem.params, *problem.args)
    assert (report.ok, report.cause, report.first_wrong) == (False, code, "params")


def relu_network(params, X, Y, relu):
    """Three layers whose biases are 0; a blank example puts every unit on its kink."""
    A1 = relu(X @ params["W1"].T + params["b1"][None])
    A2 = relu(A1 @ params["W2"].T + params["b2"][None])
    return ((A2 @ params["W3"].T + params["b3"][None] - Y) ** 2).sum()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
def test_a_network_on_its_kinks_may_follow_any_convention(slope):
    params, X, Y = network(depth=3)
    params = {k: v if k[0] == "W" else 0 * v for k, v in params.items()}
    X[:2] = 0

    @jax.custom_jvp
    def by_convention(z):
        return jax.nn.relu(z)

    @by_convention.defjvp
    def rule(primals, tangents):
        (z,), (dz,) = primals, tangents
        return jax.nn.relu(z), jnp.where(z == 0, slope, (z > 0).astype(z.dtype)) * dz

    def loss(params, X, Y):
        return relu_network(params, X, Y, jax.nn.relu)

    report = check_gradients(
        loss, jax.grad(lambda *a: relu_network(*a, by_convention)), params, X, Y
    )
    assert report.ok, str(report)
    doubled = check_gradients(
        loss,
        lambda *a: jax.tree.map(lambda g: 2.5 * g, jax.grad(loss)(*a)),
        params, X, Y,
    )  # fmt: skip
    assert not doubled.ok


def test_a_smooth_function_of_kinks_is_wrong_neither_by_jax_nor_by_its_derivative():
    """f(x) = relu(x) − relu(−x) is x; by the convention ReLU′(0) = 0 its derivative is 0."""

    def loss(x):
        return (jax.nn.relu(x) - jax.nn.relu(-x)).sum()

    for gradient in (jax.grad(loss), np.ones_like):
        report = check_gradients(loss, gradient, ZEROS)
        assert report.ok
        assert "disputes" not in str(report)
    assert not check_gradients(loss, lambda x: np.full(3, 3.0), ZEROS).ok


@pytest.mark.parametrize(
    "largest",
    [lambda p: jax.lax.top_k(p, 1)[0][0], lambda p: p[jnp.argmax(p)]],
    ids=["top_k", "argmax"],
)
def test_a_kink_that_is_not_followed_excuses_nothing_along_directions(largest):
    """Each entry by itself is possible; all tied entries together move the loss by 1, not by 2."""
    tied = np.array([1.0, 1.0, 0.0, -1.0])
    for right in ([1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0]):
        assert check_gradients(largest, lambda p, g=right: np.array(g, float), tied).ok
    report = check_gradients(largest, lambda p: (p == p.max()) * 1.0, tied)
    assert not report.ok
    assert "2" in report.not_judged


def test_where_the_loss_jumps_no_gradient_is_right():
    for gradient in (np.zeros_like, np.ones_like):
        report = check_gradients(lambda p: jnp.sign(p).sum(), gradient, np.zeros(4))
        assert not report.ok, str(report)
    at = np.array([0.0, 0.3])
    assert "jumps" in check_gradients(lambda p: jnp.sign(p).sum(), np.zeros_like, at).not_judged
    # Beside the jumps it has a derivative, however near they are.
    for at in ([0.3, -0.2], [1e-6, 2.0]):
        report = check_gradients(lambda p: jnp.sign(p).sum(), np.zeros_like, np.array(at))
        assert report.ok, str(report)
        assert report.witness.given_slope > 1.5


def test_where_the_loss_jumps_nothing_is_open():
    kinks = Kinks(lambda p: (jnp.sign(p["x"]) + jax.nn.relu(p["x"])).sum(), {"x": ZEROS})
    assert kinks
    assert not kinks.continuous


def test_a_rule_of_its_own_is_followed_or_seen_through():
    @jax.custom_vjp
    def twice(x):
        return jax.nn.relu(x)

    twice.defvjp(lambda x: (twice(x), x), lambda x, ct: (2 * ct * (x >= 0),))
    assert not Kinks(lambda p: twice(p["x"]).sum(), {"x": ZEROS})
    inside = Kinks(lambda p: twice(p["x"]).sum(), {"x": ZEROS}, through_rules=True)
    row = ZEROS[None]
    low, high = inside.intervals([{"x": 2 + row}], {"x": row}, {"x": 1e-13}, np.ones((1, 1)))["x"]
    assert (low, high) == (pytest.approx(row), pytest.approx(row + 1))


STEPS = {
    "top_k": lambda x: jax.lax.top_k(x, 1)[0],
    "argmax": lambda x: x[jnp.argmax(x)],
    "floor": jnp.floor,
    "round": jnp.round,
    "a cast": lambda x: x.astype(int) * x,
    "sign": jnp.sign,
    "remainder": lambda x: x % 1.0,
    "running maximum": jax.lax.cummax,
    "a branch": lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
}


def test_no_function_with_a_kink_or_a_jump_is_taken_for_a_smooth_one():
    for name, function in {**{n: f for n, (f, *_) in FUNCTIONS.items()}, **STEPS}.items():
        assert not is_smooth(lambda p, f=function: f(p["x"]).sum(), {"x": ZEROS}), name
    smooth = lambda p: jax.nn.sigmoid(jnp.tanh(p["x"]) @ p["x"]) ** 3  # noqa: E731
    assert is_smooth(smooth, {"x": ZEROS})


@pytest.mark.parametrize("at_zero", [0.0, 0.5, 1.0])
def test_kinks_inside_a_function_that_has_none_leave_nothing_open(at_zero):
    """log(1 + eˣ) is a maximum and an absolute value on the way, and its derivative at 0 is 1/2."""
    by_hand = lambda x: np.where(x == 0, at_zero, 1 / (1 + np.exp(-x)))  # noqa: E731
    report = jaxnn.check_gradients(lambda x: jnp.logaddexp(0.0, x).sum(), by_hand, POINT)
    assert report.ok == (at_zero == 0.5), str(report)


# -- Backward passes -------------------------------------------------------------------------------

POINT = np.array([0.0, 1.0, -2.0, 0.0, 0.5, 0.0])


def heaviside(x, at_zero):
    return jnp.where(x == 0, at_zero, (x > 0).astype(x.dtype)).astype(x.dtype)


def sign(x, at_zero):
    return jnp.where(x == 0, at_zero, jnp.sign(x))


def four_kinks(relu, absolute, clipped, least):
    def rule(g, x):
        inside = ((x > 0) & (x < 1)).astype(x.dtype)
        d = heaviside(x, relu) + sign(x, absolute) + heaviside(-x, least)
        d -= jnp.where((x == 0) | (x == 1), clipped, inside)
        value = jax.nn.relu(x) + jnp.abs(x) - jnp.clip(x, 0, 1) + jnp.minimum(x, 0)
        return (g * d * x.sum() + (g * value).sum(),)

    return rule


def with_four_kinks(x):
    return (jax.nn.relu(x) + jnp.abs(x) - jnp.clip(x, 0, 1) + jnp.minimum(x, 0)) * x.sum()


def smooth_of_kinks(x):
    """x, by the convention ReLU′(0) = 0 with derivative 0, by 1 with derivative 2."""
    return jax.nn.relu(x) - jax.nn.relu(-x)


def largest_and_relu(x):
    return x.max(0) + jax.nn.relu(x).sum(0)


def by_shares(shares, at_zero):
    return lambda g, x: ((shares(x).astype(g.dtype) + heaviside(x, at_zero)) * g[None],)


def first_of(x):
    top = x == x.max(0)[None]
    return top & (jnp.cumsum(top, 0) == 1)


def all_of(x):
    top = x == x.max(0)[None]
    return top.astype(x.dtype) / top.sum(0)[None].astype(x.dtype)


def pooled_relu(x):
    return jax.lax.reduce_window(jax.nn.relu(x), -jnp.inf, jax.lax.max, (2,), (2,), "VALID")


TABLE = np.array([[0.0, 0.0, 1.0], [0.0, 2.0, 1.0], [-1.0, 0.0, 1.0]])
WINDOWS = np.array([0.0, 0.0, 1.0, 1.0, -1.0, 0.0])

#: (function, point, rules that are right, rules that are wrong)
BACKWARD = {
    "four kinks in one entry": (
        with_four_kinks, POINT,
        [four_kinks(0, 0, 0, 0), four_kinks(1, -1, 1, 0), four_kinks(0.5, 0.3, 0.2, 0.9),
         four_kinks(0, 1, 0, 1)],
        [four_kinks(2, 1, 0, 1), four_kinks(0, -1.5, 1, 0)]),
    "a smooth function of kinks": (
        smooth_of_kinks, POINT,
        [lambda g, x, c=c: (g * jnp.where(x == 0, c, 1.0),) for c in (0.0, 1.0, 2.0)],
        [lambda g, x: (g * jnp.where(x == 0, 3.0, 1.0),)]),
    "ties beside kinks": (
        largest_and_relu, TABLE,
        [by_shares(first_of, 1.0), by_shares(all_of, 0.3)],
        [by_shares(lambda x: x == x.max(0)[None], c) for c in (0.0, 0.5)]),
    "pooling after ReLU": (
        pooled_relu, WINDOWS,
        [lambda g, x: (jnp.stack([g[0], 0 * g[0], g[1], 0 * g[1], 0 * g[2], 0 * g[2]]),),
         lambda g, x: (jnp.stack([0 * g[0], g[0], g[1] / 2, g[1] / 2, 0 * g[2], 0.7 * g[2]]),)],
        [lambda g, x: (jnp.repeat(g, 2) * heaviside(x, 3.0),)]),
}  # fmt: skip


@pytest.mark.parametrize("referred", [False, True])
@pytest.mark.parametrize("name", BACKWARD)
def test_a_backward_pass_may_mix_conventions_and_go_no_further(name, referred):
    function, point, right, wrong = BACKWARD[name]
    for expected, rules in ((True, right), (False, wrong)):
        for rule in rules:
            hand = jax.custom_vjp(function)
            hand.defvjp(lambda x: (function(x), x), lambda x, g, rule=rule: rule(g, x))
            report = check_vjp(hand, point, reference=function if referred else None)
            assert report.ok == expected, str(report)
            assert not report.not_judged


def test_of_thousands_of_equal_entries_each_convention_is_right_and_a_mask_is_ties():
    tied = np.ones(3000)
    last = np.eye(1, 3000, 2999)[0]
    for right in (last, last[::-1].copy(), tied / 3000):
        report = check_gradients(jnp.max, lambda p, g=right: g, tied)
        assert report.ok, str(report)
    report = check_gradients(jnp.max, lambda p: (p == p.max()) * 1.0, tied)
    assert (report.ok, report.cause) == (False, "ties")


def test_what_jax_divides_among_equal_entries_may_go_to_one_where_the_sum_is_smooth():
    """max(x, 0) − max(−x, 0) is x, and jax.grad of it 1; by ReLU′(0) = 0 it is 0."""

    def loss(x):
        return (jnp.maximum(x, 0) - jnp.maximum(-x, 0)).sum()

    for slope, ok in ((0.0, True), (1.0, True), (2.0, True), (-0.5, False), (3.0, False)):
        assert check_gradients(loss, lambda x, s=slope: np.full(3, s), ZEROS).ok == ok


@pytest.mark.parametrize("at_zero", [0.0, 1.0])
def test_a_stop_gradient_that_changes_nothing_decides_nothing_at_a_kink(at_zero):
    """Softmax holds its maximum constant; ReLU's rule at 0 is another than that of a maximum."""

    def loss(x):
        return -jax.nn.log_softmax(jax.nn.relu(x))[1]

    def by_hand(x):
        e = np.exp(np.maximum(x, 0))
        return (e / e.sum() - np.eye(len(x))[1]) * np.where(x == 0, at_zero, x > 0)

    report = jaxnn.check_gradients(loss, by_hand, POINT)
    assert report.ok, str(report)
