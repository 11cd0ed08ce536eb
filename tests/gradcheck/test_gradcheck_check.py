"""`check_gradients` as its users see it."""

import json
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn.errors import JaxnnError
from jaxnn.gradcheck.report import GradientError
from jaxnn.gradcheck.testing import assert_gradients
from jaxnn.nn import mlp

from .point import network


def quadratic(p, x):
    return ((p["w"] * x) ** 2).sum() + p["b"]


def quadratic_gradient(p, x):
    return {"w": 2 * p["w"] * x * x, "b": np.ones((), x.dtype)}


def point(dtype=np.float32):
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=7).astype(dtype), "b": np.asarray(0.3, dtype)}
    return params, rng.normal(size=7).astype(dtype)


def edited(**leaves):
    """The right gradient with leaves replaced by functions of what they were."""

    def gradient(p, x):
        g = quadratic_gradient(p, x)
        return {k: leaves[k](v) if k in leaves else v for k, v in g.items()}

    return gradient


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("x64", [False, True])
def test_a_right_gradient_is_right_in_any_dtype_and_setting(dtype, x64):
    with jax.enable_x64(x64):
        report = jaxnn.check_gradients(quadratic, quadratic_gradient, *point(dtype))
        assert jax.config.jax_enable_x64 == x64
    assert report.ok
    assert (report.cause, report.first_wrong, report.explanation) == (None, None, "")
    assert report.precision == dtype


def test_the_hand_written_gradient_of_the_network_is_right():
    params, X, Y = network(dtype=np.float32)
    report = jaxnn.check_gradients(mlp.loss, mlp.gradient, params, X, Y)
    assert report.ok
    assert [leaf.path for leaf in report.leaves] == ["W1", "W2", "b1", "b2"]
    assert report.witness.status == "confirms"
    assert (report.witness.slope, report.witness.given_slope) == pytest.approx((2, 2), abs=0.1)


FAULTS = [
    (edited(w=np.negative), "sign", "w"),
    (edited(w=lambda v: 2 * v), "scale", "w"),
    (edited(w=lambda v: v[:, None]), "shape", "w"),
    (edited(w=lambda v: v.astype(int)), "dtype", "w"),
    (edited(b=lambda v: v * np.nan), "non_finite", "b"),
    (lambda p, x: {"w": 2 * p["w"] * x * x}, "structure", None),
    (lambda p, x: (p["w"], p["b"]), "structure", None),
    (lambda p, x: None, "structure", None),
    (edited(w=lambda v: np.random.default_rng().normal(size=v.shape)), "nondeterministic", "w"),
    (edited(w=lambda v: v**3), "unknown", "w"),
]


@pytest.mark.parametrize(("gradient", "cause", "first"), FAULTS)
def test_wrong_gradients_are_named(gradient, cause, first):
    report = jaxnn.check_gradients(quadratic, gradient, *point())
    assert (report.ok, report.cause, report.first_wrong) == (False, cause, first)
    assert report.explanation.endswith(".")
    assert report.verdict.startswith("WRONG")
    assert report.explanation in str(report).replace("\n  ", " ")


@pytest.mark.slow
def test_one_weight_of_fifty_thousand_off_by_one_percent():
    params, X, Y = network(sizes=(61, 784, 64, 10), dtype=np.float32)

    def gradient(params, X, Y):
        g = mlp.gradient(params, X, Y)
        return {**g, "W1": g["W1"].at[17, 401].multiply(1.01)}

    report = jaxnn.check_gradients(mlp.loss, gradient, params, X, Y)
    wrong = [leaf for leaf in report.leaves if not leaf.ok]
    assert [(leaf.path, leaf.wrong, leaf.worst_index) for leaf in wrong] == [("W1", 1, (17, 401))]


def test_a_changed_global_is_seen_by_a_loss_that_was_compiled_before():
    factor = [1.0]

    def loss(p):
        return factor[0] * (p**2).sum()

    def gradient(p):
        return 2 * factor[0] * p

    at = jnp.arange(1.0, 4.0)
    assert jaxnn.check_gradients(loss, gradient, at).ok
    factor[0] = 7.0
    assert jaxnn.check_gradients(loss, gradient, at).ok
    assert not jaxnn.check_gradients(loss, lambda p: 2 * p, at).ok


def test_intermediates_pin_the_equation_down():
    params, X, Y = network()

    def gradient(params, X, Y):
        d = dict(mlp.back_propagate(params, mlp.feed_forward(params, X), Y))
        m = X.shape[0]
        d["dA1"] = -d["dA1"]
        d["dZ1"], d["dW1"], d["db1"] = -d["dZ1"], -d["dZ1"].T @ X / m, -d["dZ1"].sum(axis=0) / m
        return {
            **{k: d[f"d{k}"] for k in params},
            "dZ2": d["dZ2"],
            "dA1": d["dA1"],
            "dZ1": d["dZ1"],
        }

    report = jaxnn.check_gradients(mlp.loss, gradient, params, X, Y)
    assert (report.cause, report.first_wrong) == ("sign", "dA1")


def test_float32_inside_a_numpy_gradient_is_rounding_but_a_mistake_in_it_is_not():
    params, X, Y = network()

    def short(params, X, Y, factor=1.0):
        low = {k: np.float32(v) for k, v in params.items()}
        Z1 = np.float32(X) @ low["W1"].T + low["b1"]
        A1 = 1 / (1 + np.exp(-Z1))
        E = np.exp(A1 @ low["W2"].T + low["b2"])
        dZ2 = E / E.sum(axis=1, keepdims=True) - np.float32(Y)
        dZ1 = dZ2 @ low["W2"] * A1 * (1 - A1)
        d = {"W1": dZ1.T @ np.float32(X), "b1": dZ1.sum(0), "W2": dZ2.T @ A1, "b2": dZ2.sum(0)}
        d["W1"][3, 5] *= factor
        return {k: v.astype(np.float64) / len(X) for k, v in d.items()}

    right = jaxnn.check_gradients(mlp.loss, short, params, X, Y)
    wrong = jaxnn.check_gradients(mlp.loss, lambda *a: short(*a, factor=1.01), params, X, Y)
    assert (right.ok, right.precision) == (True, "float32")
    assert (wrong.ok, wrong.first_wrong) == (False, "dW1")


HALF = (19, 53, 29, 7)  # so many sums that the rounded 1/m of float16 shows


def in_half(change=lambda d: d, **lines):
    """A NumPy gradient that computes in float16 and answers in the dtype that it was given."""

    def gradient(params, X, Y):
        p = {k: np.asarray(v).astype(np.float16) for k, v in params.items()}
        X, Y = np.asarray(X).astype(np.float16), np.asarray(Y).astype(np.float16)
        A1 = np.tanh(X @ p["W1"].T + p["b1"])
        E = np.exp(A1 @ p["W2"].T + p["b2"])
        dZ2 = E / E.sum(axis=1, keepdims=True) - Y
        dZ1 = dZ2 @ p["W2"] * (1 - A1**2 if "slope" not in lines else lines["slope"](A1))
        k = np.float16(1 / len(X))
        d = {"W1": dZ1.T @ X * k, "b1": dZ1.sum(0) * k, "W2": dZ2.T @ A1 * k, "b2": dZ2.sum(0) * k}
        return {name: v.astype(params[name].dtype) for name, v in change(d).items()}

    return gradient


def every(factor):
    return lambda d: {name: v * np.float16(factor) for name, v in d.items()}


def tanh_loss(params, X, Y):
    return mlp.loss(params, X, Y, jaxnn.nn.activations.tanh)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize(
    ("gradient", "cause", "first"),
    [
        (in_half(), None, None),
        (in_half(every(-1)), "sign", "dZ2"),
        (in_half(every(19)), "missing_mean", "dW2"),
        (in_half(every(1.02)), "scale", "dZ2"),
        (in_half(slope=lambda A: 1), "missing_activation_derivative", "dZ1"),
        (in_half(slope=lambda A: 1 - np.tanh(A) ** 2), "derivative_at_activation", "dZ1"),
        (in_half(lambda d: {**d, "W1": 0 * d["W1"]}), "zero", "dW1"),
    ],
)
def test_mistakes_are_named_through_the_rounding_of_float16(gradient, cause, first, dtype):
    report = jaxnn.check_gradients(tanh_loss, gradient, *network(sizes=HALF, dtype=dtype))
    assert (report.ok, report.cause, report.first_wrong) == (cause is None, cause, first)


@pytest.mark.parametrize("at_zero", [-1.0, 0.0, 0.5, 1.0])
def test_any_convention_between_the_one_sided_derivatives_is_right(at_zero):
    report = jaxnn.check_gradients(
        lambda p: jnp.abs(p).sum(),
        lambda p: np.where(p == 0, at_zero, np.sign(p)),
        np.array([0.0, 1.0, -2.0]),
    )
    assert report.ok
    assert report.leaves[0].interval == (-1.0, 1.0)
    assert any("kink" in note for note in report.notes)


def test_beyond_the_one_sided_derivatives_a_kink_is_no_excuse():
    report = jaxnn.check_gradients(
        lambda p: jnp.abs(p).sum(),
        lambda p: np.where(p == 0, 9.0, np.sign(p)),
        np.array([0.0, 1.0]),
    )
    assert not report.ok


def test_a_loss_that_lies_to_autodiff_does_not_convict_a_right_gradient():
    @jax.custom_jvp
    def half(x):
        return x**2

    half.defjvp(lambda p, t: (p[0] ** 2, p[0] * t[0]))
    report = jaxnn.check_gradients(lambda p: half(p).sum(), lambda p: 2 * p, np.arange(1.0, 5.0))
    assert report.ok
    assert report.witness.status == "disputes"
    assert any("custom rule" in note for note in report.notes)


STATES, NEXT = np.random.default_rng(0).normal(size=(2, 6, 3))
REWARDS = np.arange(6.0)


def temporal_difference(w):
    target = REWARDS + 0.9 * jax.lax.stop_gradient(NEXT @ w)
    return jnp.mean((target - STATES @ w) ** 2)


def difference(w):
    return REWARDS + 0.9 * NEXT @ w - STATES @ w


def straight_through(w):
    return ((w + jax.lax.stop_gradient(jnp.round(w) - w) - 0.3) ** 2).sum()


#: (loss, the gradient with what is stopped held constant, that of the loss's values)
STOPPED = [
    (
        temporal_difference,
        lambda w: -2 * STATES.T @ difference(w) / 6,
        lambda w: 2 * (0.9 * NEXT - STATES).T @ difference(w) / 6,
    ),
    (straight_through, lambda w: 2 * (np.round(w) - 0.3), np.zeros_like),
]


@pytest.mark.parametrize(("loss", "semi", "whole"), STOPPED, ids=["TD", "straight-through"])
def test_a_semi_gradient_has_to_be_declared(loss, semi, whole):
    w = np.array([0.4, -1.2, 0.7])
    for gradient in (semi, whole):
        report = jaxnn.check_gradients(loss, gradient, w)
        assert not report.ok
        assert "stop_gradient" in report.not_judged
        assert "autodiff_only=True" in report.not_judged
    declared = jaxnn.check_gradients(loss, semi, w, autodiff_only=True)
    assert declared.ok
    assert "differences of the loss were not asked" in declared.verdict
    for wrong in (whole, lambda w: -semi(w)):
        report = jaxnn.check_gradients(loss, wrong, w, autodiff_only=True)
        assert not report.ok
        assert report.cause
    report = jaxnn.check_gradients(loss, lambda w: semi(w) + 1.0, w)
    assert not report.ok
    assert report.cause


def iterated(w):
    """cos(cos(…)) until it has converged: how often depends on w."""
    start = jnp.asarray(0), w, w + 1
    going = lambda c: jnp.abs(c[1] - c[2]).max() > 1e-3  # noqa: E731
    return jax.lax.while_loop(going, lambda c: (c[0] + 1, jnp.cos(c[1]), c[1]), start)[1].sum()


def test_a_loss_with_a_while_loop_is_differentiated_forward():
    w = np.array([0.3, 0.8])
    right = jax.jacfwd(iterated)
    assert jaxnn.check_gradients(iterated, right, w).ok
    assert not jaxnn.check_gradients(iterated, lambda w: 1.01 * right(w), w).ok


def test_a_while_loop_of_too_many_parameters_is_one_line_that_says_what_to_do():
    with pytest.raises(JaxnnError, match=r"lax\.scan") as caught:
        jaxnn.check_gradients(iterated, lambda w: w, np.zeros(5000))
    assert "\n" not in str(caught.value)


def test_a_function_that_is_another_one_when_traced():
    def under_jit(p):
        return (3 if isinstance(p, jax.core.Tracer) else 2) * p

    report = jaxnn.check_gradients(lambda p: (p**2).sum(), under_jit, jnp.arange(1.0, 4.0))
    assert (report.ok, report.cause) == (False, "differs_under_jit")


@jax.custom_batching.custom_vmap
def twice(p):
    return 2 * p


@twice.def_vmap
def wrongly_batched(size, batched, p):
    return 3 * p, True


def test_a_function_that_is_another_one_under_vmap():
    report = jaxnn.check_gradients(lambda p: (p**2).sum(), twice, jnp.arange(1.0, 4.0))
    assert (report.ok, report.cause, report.first_wrong) == (False, "differs_under_vmap", "params")


@pytest.mark.parametrize("x64", [False, True])
def test_settings_are_restored_even_if_the_gradient_raises(x64):
    def raises(p):
        raise ZeroDivisionError

    def settings():
        names = "enable_x64", "numpy_dtype_promotion", "numpy_rank_promotion"
        return [getattr(jax.config, f"jax_{name}") for name in (*names, "default_matmul_precision")]

    with jax.enable_x64(x64), jax.default_matmul_precision("bfloat16"):
        before = settings()
        assert jaxnn.check_gradients(lambda p: (p**2).sum(), lambda p: 2 * p, jnp.ones(3)).ok
        with pytest.raises(ZeroDivisionError):
            jaxnn.check_gradients(lambda p: (p**2).sum(), raises, jnp.ones(3))
        assert settings() == before


def test_what_is_known_of_a_leaf():
    params, x = point(np.float64)
    report = jaxnn.check_gradients(quadratic, edited(w=lambda v: 3 * v), params, x)
    leaf = next(leaf for leaf in report.leaves if leaf.path == "w")
    true = 2 * params["w"] * x * x
    at = leaf.worst_index
    assert (leaf.shape, leaf.ok) == ((7,), False)
    assert (leaf.given, leaf.true) == pytest.approx((3 * true[at], true[at]))
    assert (leaf.relative_error, leaf.ratio, leaf.cosine) == pytest.approx((2, 3, 1))
    assert leaf.noise > 1e6
    head = str(report).splitlines()[0].split()
    assert head == [
        "leaf",
        "shape",
        "error",
        "noise",
        "ratio",
        "cosine",
        "worst",
        "at",
        "yours",
        "true",
    ]


def test_unknown_says_where_and_what_follows():
    params, X, Y = network()

    def gradient(params, X, Y):
        d = mlp.back_propagate(params, cache := mlp.feed_forward(params, X), Y)
        dZ1 = jnp.abs(d["dA1"]) * cache["A1"]
        d |= {"dW1": dZ1.T @ X / len(X), "db1": dZ1.sum(axis=0) / len(X)}
        return {name: d[f"d{name}"] for name in params}

    report = jaxnn.check_gradients(mlp.loss, gradient, params, X, Y)
    assert (report.cause, report.first_wrong) == ("unknown", "dZ1")
    assert "what follows from it: dW1, db1" in report.explanation


def test_arguments_are_given_back_unchanged():
    params, x = point()
    before = {k: v.copy() for k, v in params.items()}

    def in_place(p, x):
        p["w"] *= x
        p["w"] *= 2 * x
        return p | {"b": np.ones((), x.dtype)}

    assert jaxnn.check_gradients(quadratic, in_place, params, x).ok
    assert all(np.array_equal(params[k], before[k]) for k in before)


def test_integers_keys_and_objects_are_passed_as_they_are():
    def loss(p, key, labels, scale):
        mask = jax.random.bernoulli(key, 0.5, p["w"].shape)
        return scale["by"] * jnp.where(mask, p["w"] ** 2, 0)[labels].sum() + 0 * p["n"]

    def gradient(p, key, labels, scale):
        mask = jax.random.bernoulli(key, 0.5, p["w"].shape)
        counts = jnp.zeros(p["w"].shape, p["w"].dtype).at[labels].add(1)
        return {"w": scale["by"] * 2 * p["w"] * mask * counts, "n": None}

    params = {"w": jnp.arange(1.0, 8.0), "n": 3}
    args = jax.random.key(1), np.array([0, 3, 3, 5]), {"by": 2, "name": "x"}
    with jax.numpy_dtype_promotion("standard"):
        assert jaxnn.check_gradients(loss, gradient, params, *args).ok


@pytest.mark.parametrize(
    ("loss", "params", "message"),
    [
        (lambda p: p, np.ones(3), "expected a loss that is one number, found shape (3,)"),
        (lambda p: (p / 0).sum(), np.ones(3), "finite"),
        (lambda p: (p > 0).sum(), np.ones(3), "expected a loss that is a real number, found int64"),
        (lambda p: (1j * p).sum(), np.ones(3), "a real number, found complex128"),
        (lambda p: np.sum(np.asarray(p)), np.ones(3), "expected a loss written with jax.numpy"),
        (lambda p: p.sum(), np.ones((0, 3)), "at least one floating array"),
        (lambda p: jnp.zeros(()), {"n": 3}, "at least one floating array"),
    ],
)
def test_what_cannot_be_checked_is_an_error_of_one_line(loss, params, message):
    with pytest.raises(JaxnnError, match=message.replace("(", r"\(").replace(")", r"\)")):
        jaxnn.check_gradients(loss, lambda p: p, params)


def test_the_report_as_dictionary_html_and_assertion():
    gradient = edited(w=lambda v: v * np.nan)
    report = jaxnn.check_gradients(quadratic, gradient, *point())
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert list(told) == [
        "ok", "first_wrong", "cause", "factor", "explanation", "not_judged", "leaves", "witness",
    ]  # fmt: skip
    assert list(told["leaves"][0]) == [
        "path", "shape", "relative_error", "ratio", "cosine", "worst_index", "ok",
    ]  # fmt: skip
    assert "<td>WRONG</td>" in report._repr_html_()
    named = jaxnn.check_gradients(lambda p: p["<b>"].sum(), lambda p: p, {"<b>": np.ones(2)})
    assert "&lt;b&gt;" in named._repr_html_()
    assert "<b>" not in named._repr_html_()
    with pytest.raises(GradientError) as caught:
        assert_gradients(quadratic, gradient, *point())
    assert str(caught.value) == str(report)
    assert assert_gradients(quadratic, quadratic_gradient, *point()).ok


NESTED = {"a": [np.ones((3, 2)), np.arange(4.0)], "inner": {"s": np.asarray(2.0)}}


def test_leaves_are_named_as_python_would_write_them():
    report = jaxnn.check_gradients(
        lambda p: (p["a"][0] ** 2).sum() + (p["a"][1] ** 2).sum() + p["inner"]["s"] ** 2,
        lambda p: jax.tree.map(lambda v: 2 * v, p),
        NESTED,
    )
    assert [leaf.path for leaf in report.leaves] == ["a[0]", "a[1]", "inner.s"]
    assert report.ok


def squares(p):
    return sum((jnp.asarray(leaf) ** 2).sum() for leaf in jax.tree.leaves(p))


TREES = {
    "an array": (np.arange(3.0), ["params"]),
    "a number": (3.0, ["params"]),
    "a tuple": ((np.ones(2), np.ones((2, 3))), ["[0]", "[1]"]),
    "a list of dicts of tuples": ([{"a": (np.ones(2), 1.5)}], ["[0].a[0]", "[0].a[1]"]),
    "an ordered dict": (OrderedDict(z=np.ones(2), a=np.ones(1)), ["a", "z"]),
    "an empty leaf": ({"a": np.ones(2), "e": np.zeros((0, 3))}, ["a", "e"]),
    "None": ({"a": np.ones(2), "n": None}, ["a"]),
    "two leaves of one name": ({"a.b": np.ones(2), "a": {"b": 1.5}}, ["['a']['b']", "['a.b']"]),
    "complex": ({"z": np.array([1 + 2j, 3])}, ["z"]),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", TREES)
def test_any_tree_of_parameters(name):
    params, paths = TREES[name]

    def loss(p):
        return jnp.real(squares(jax.tree.map(jnp.abs, p)))

    def gradient(p, c=2.0):
        return jax.tree.map(lambda v: c * np.conj(v), p)

    right = jaxnn.check_gradients(loss, gradient, params)
    wrong = jaxnn.check_gradients(loss, lambda p: gradient(p, -2.0), params)
    assert sorted(leaf.path for leaf in right.leaves) == sorted(paths)
    assert right.ok, str(right)
    assert (wrong.ok, wrong.cause) == (False, "sign")


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_network_is_recognised_in_any_layout(columns, transposed):
    params, X, Y = network(activation="relu")

    def turn(p):
        return [(p[f"W{i}"].T if transposed else p[f"W{i}"], p[f"b{i}"]) for i in (1, 2)]

    def back(layers):
        return {
            f"{kind}{i}": layer[n].T if transposed and n == 0 else layer[n]
            for i, layer in enumerate(layers, 1)
            for n, kind in enumerate("Wb")
        }

    def data(X, Y):
        return (X.T, Y.T) if columns else (X, Y)

    def loss(layers, X, Y):
        return mlp.loss(back(layers), *data(X, Y), jaxnn.nn.activations.relu)

    def gradient(layers, X, Y):
        X, Y = data(X, Y)
        cache = mlp.feed_forward(back(layers), X, jaxnn.nn.activations.relu)
        d = mlp.back_propagate(back(layers), cache, cache["A2"] * 0, jaxnn.nn.activations.relu)
        return turn({f"{kind}{i}": d[f"d{kind}{i}"] for i in (1, 2) for kind in "Wb"})

    report = jaxnn.check_gradients(loss, gradient, turn(params), *data(X, Y))
    assert (report.cause, report.first_wrong) == ("labels_not_subtracted", "dZ2")
    assert ("W1.T" in report.explanation, "A1.T" in report.explanation) == (False, False)


def test_integer_arrays_that_a_loss_closes_over_work_before_and_after():
    labels = np.array([0, 3, 3, 5])

    def loss(p):
        return (p[labels] ** 2).sum()

    def gradient(p):
        return jnp.zeros_like(p).at[labels].add(2 * p[labels])

    at = jnp.arange(1.0, 8.0)
    before = loss(at)
    assert jaxnn.check_gradients(loss, gradient, at).ok
    assert jax.jit(loss)(at) == before
    assert jax.jit(gradient)(at).shape == at.shape
