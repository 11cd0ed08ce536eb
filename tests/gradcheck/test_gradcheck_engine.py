"""The doctor for any loss: the mistake, at the line of the loss, and nothing that is not proved."""

import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import check_gradients
from jaxnn.gradcheck import search
from jaxnn.gradcheck.backward import Backward
from jaxnn.gradcheck.engine import told
from jaxnn.gradcheck.reference import float64_rules
from jaxnn.gradcheck.tape import write_loss
from jaxnn.gradcheck.tree import Tree

rng = np.random.default_rng(0)


def sigmoid(z):
    return 1 / (1 + jnp.exp(-z))


def gradient_of(loss, params, *args):
    """jax.grad in float64."""
    with float64_rules():
        return {k: np.asarray(v) for k, v in jax.grad(loss)(params, *args).items()}


def findings(loss, given, params, *args):
    """What is said of the numbers `given`."""
    with float64_rules():
        tape = write_loss(loss, Tree.of(params), params, args)
    truth = Backward(tape, [np.ones(())]).gradient()
    floor = 1e-13 * max(np.abs(v).max() for v in truth.values())
    return told(tape, [np.ones(())], given, dict.fromkeys(truth, floor))


def line_of(function, text):
    """The line of a piece of a function's source in this file."""
    lines, first = inspect.getsourcelines(function)
    return first + next(i for i, line in enumerate(lines) if text in line)


# -- The tape -------------------------------------------------------------------------------------


def scanned(p, x):
    def step(h, row):
        h = jnp.tanh(p["W"] @ h + row)
        return h, h

    last, all_of_them = jax.lax.scan(step, jnp.zeros(3), x)
    return last @ last + jnp.sum(jnp.cumsum(all_of_them, 0) * x)


def branched(p, x):
    chosen = jax.lax.cond(x[0, 0] > 100, jnp.sin, jnp.cos, p["W"])
    return jax.lax.while_loop(
        lambda s: s[0] < 2, lambda s: (s[0] + 1, s[1] * 2), (0, chosen.sum())
    )[1]


def indexed(p, x):
    W = p["W"].at[jnp.array([0, 2])].mul(3.0)
    picked = W[jnp.array([0, 1, 1])][:, ::-1]
    return jnp.sum(jax.nn.log_softmax(picked) * x[:3]) + jnp.max(W) + jnp.sort(W[0])[1] + W.prod()


def folded(p, x):
    image = jnp.reshape(
        jnp.concatenate([p["W"].T, p["W"] ** 3, jnp.pad(p["W"], ((0, 3), (0, 0)))]), (1, 4, 9, 1)
    )
    kernel = jnp.reshape(p["W"][:2, :2], (2, 2, 1, 1))
    out = jax.lax.conv_general_dilated(
        image, kernel, (2, 1), [(1, 0), (0, 2)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    pooled = jax.lax.reduce_window(out, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 1, 2, 1), "VALID")
    return jnp.sum(jax.nn.gelu(pooled) * jax.nn.relu(pooled - 0.1)) + jax.nn.logsumexp(p["W"])


@pytest.mark.sampled(1)
@pytest.mark.parametrize("loss", [scanned, indexed, folded])
def test_the_tapes_backward_pass_is_that_of_jax(loss):
    params, x = {"W": rng.normal(size=(3, 3))}, rng.normal(size=(4, 3))
    with float64_rules():
        tape = write_loss(loss, Tree.of(params), params, (x,))
    found = Backward(tape, [np.ones(())]).gradient()["W"]
    np.testing.assert_allclose(found, gradient_of(loss, params, x)["W"], rtol=1e-12, atol=1e-13)


def test_branches_and_loops_are_followed_as_they_are_taken():
    params, x = {"W": rng.normal(size=(3, 3))}, rng.normal(size=(4, 3))
    with float64_rules():
        tape = write_loss(branched, Tree.of(params), params, (x,))
    found = Backward(tape, [np.ones(())]).gradient()["W"]
    np.testing.assert_allclose(found, -4 * np.sin(params["W"]), rtol=1e-14)


# -- Recurrent networks ---------------------------------------------------------------------------


def rnn(p, x):
    h, total = jnp.zeros(4), 0.0
    for row in x:
        h = jnp.tanh(p["U"] @ row + p["R"] @ h)
        total = total + jnp.sum(jnp.sin(p["V"] @ h))
    return total


def rnn_by_scan(p, x):
    def step(h, row):
        h = jnp.tanh(p["U"] @ row + p["R"] @ h)
        return h, jnp.sum(jnp.sin(p["V"] @ h))

    return jax.lax.scan(step, jnp.zeros(4), x)[1].sum()


def rnn_backward(p, x, back=lambda p, dz: p["R"].T @ dz, before=lambda hs, t: hs[t - 1]):
    hs = {-1: np.zeros(4)}
    for t, row in enumerate(x):
        hs[t] = np.tanh(p["U"] @ row + p["R"] @ hs[t - 1])
    d, later = {k: np.zeros_like(v) for k, v in p.items()}, np.zeros(4)
    for t in reversed(range(len(x))):
        dy = np.cos(p["V"] @ hs[t])
        dz = (1 - hs[t] ** 2) * (p["V"].T @ dy + later)
        d["V"] += np.outer(dy, hs[t])
        d["U"] += np.outer(dz, x[t])
        d["R"] += np.outer(dz, before(hs, t))
        later = back(p, dz)
    return d


RNN = (
    {
        "U": rng.normal(size=(4, 3)),
        "R": rng.normal(size=(4, 4)) * 0.7,
        "V": rng.normal(size=(2, 4)),
    },
    rng.normal(size=(5, 3)),
)


@pytest.mark.parametrize("loss", [rnn, rnn_by_scan])
def test_the_state_that_is_not_passed_back_is_named_in_any_loop(loss):
    params, x = RNN
    wrong = rnn_backward(params, x, back=lambda p, dz: np.zeros(4))
    (finding,) = findings(loss, wrong, params, x)
    line = line_of(loss, "@ h)")
    assert finding.code == "path_missing"
    assert (
        f'the derivative along `h` in `p["R"] @ h` (line {line}) is missing, in all 5 steps.'
        in finding.sentence
    )
    assert "Right up to there: V." in finding.sentence
    assert finding.sentence.startswith(Path(__file__).name)


def test_a_matrix_the_wrong_way_round_and_a_step_too_late_are_named():
    params, x = RNN
    turned = rnn_backward(params, x, back=lambda p, dz: p["R"] @ dz)
    late = rnn_backward(params, x, before=lambda hs, t: hs[t])
    assert [f.code for f in findings(rnn, turned, params, x)] == ["weights_not_transposed"]
    (finding,) = findings(rnn, late, params, x)
    assert (finding.code, finding.equation) == ("wrong_time_step", "R")


def gru(p, x):
    h = jnp.zeros(3)
    for row in x:
        z, r = (sigmoid(p[k] @ row + p["R" + k] @ h) for k in "zr")
        h = (1 - z) * h + z * jnp.tanh(p["n"] @ row + r * h)
    return jnp.sum(jnp.sin(h))


def test_one_of_several_gates_of_one_line_is_told_from_the_others():
    params = {k: rng.normal(size=(3, 3)) for k in ("z", "r", "n", "Rz", "Rr")}
    x = rng.normal(size=(4, 3))

    def with_slope(p, of):
        @jax.custom_jvp
        def gate(z):
            return sigmoid(z)

        gate.defjvp(lambda v, t: (sigmoid(v[0]), of(v[0]) * t[0]))

        def other(p):
            h = jnp.zeros(3)
            for row in x:
                z = sigmoid(p["z"] @ row + p["Rz"] @ h)
                r = gate(p["r"] @ row + p["Rr"] @ h)
                h = (1 - z) * h + z * jnp.tanh(p["n"] @ row + r * h)
            return jnp.sum(jnp.sin(h))

        return gradient_of(other, p)

    wrong = with_slope(params, lambda z: jnp.ones_like(z))
    (finding,) = findings(gru, wrong, params, x)
    assert finding.code == "missing_activation_derivative"
    assert "for `Rr` and `r`" in finding.sentence
    assert f"(line {line_of(gru, 'sigmoid(p[k]')})" in finding.sentence


# -- Layers that nobody told it of ----------------------------------------------------------------


def normalised(p, x):
    z = x @ p["W"]
    hat = (z - z.mean(0)) / jnp.sqrt(z.var(0) + 1e-3)
    return jnp.sum(jnp.sin(p["g"] * hat + p["b"]))


def test_batch_normalisation_without_its_scale_or_with_constant_statistics():
    p = {"W": rng.normal(size=(3, 4)), "g": rng.uniform(0.5, 2, 4), "b": rng.normal(size=4)}
    x = rng.normal(size=(7, 3))
    z = x @ p["W"]
    r = 1 / np.sqrt(z.var(0) + 1e-3)
    hat = (z - z.mean(0)) * r
    dout = np.cos(p["g"] * hat + p["b"])

    def wrong(dhat, dz):
        return {"W": x.T @ dz(dhat), "g": (dout * hat).sum(0), "b": dout.sum(0)}

    def full(d):
        return r * (d - d.mean(0) - hat * (d * hat).mean(0))

    (scale,) = findings(normalised, wrong(dout, full), p, x)
    (constant,) = findings(normalised, wrong(dout * p["g"], lambda d: d * r), p, x)
    assert scale.code == "missing_factor"
    assert '`p["g"] * hat`' in scale.sentence
    assert constant.code == "path_missing"
    assert "z.var(0)" in constant.sentence
    assert "z.mean(0)" in constant.sentence or "z - z.mean(0)" in constant.sentence


def attention(p, x):
    q, k, v = x @ p["Q"], x @ p["K"], x @ p["V"]
    a = jax.nn.softmax(q @ k.T / np.sqrt(4))
    out = x + a @ v
    return jnp.sum(jnp.sin(out))


def attention_backward(p, x, scale=0.5, full=True):
    q, k, v = x @ p["Q"], x @ p["K"], x @ p["V"]
    a = np.exp(q @ k.T / 2)
    a /= a.sum(1, keepdims=True)
    dout = np.cos(x + a @ v)
    da = dout @ v.T
    ds = a * (da - (a * da).sum(1, keepdims=True)) if full else a * (1 - a) * da
    return {"Q": x.T @ ds @ k * scale, "K": x.T @ ds.T @ q * scale, "V": x.T @ a.T @ dout}


def test_attention_without_its_scale_and_a_softmax_by_its_diagonal():
    p, x = {k: rng.normal(size=(4, 4)) for k in "QKV"}, rng.normal(size=(5, 4))
    (scale,) = findings(attention, attention_backward(p, x, scale=1.0), p, x)
    (diagonal,) = findings(attention, attention_backward(p, x, full=False), p, x)
    assert scale.code == "missing_factor"
    assert "`q @ k.T`" in scale.sentence
    assert diagonal.code == "jacobian_diagonal"
    assert f"(line {line_of(attention, 'softmax')})" in diagonal.sentence


def embedded(p, ids):
    e = p["E"][ids]
    return jnp.sum(jnp.tanh(e @ p["W"]))


def test_rows_that_are_overwritten_and_a_mean_that_is_left_out():
    p, ids = {"E": rng.normal(size=(5, 3)), "W": rng.normal(size=(3, 2))}, np.array([1, 4, 1, 0])
    d = 1 - np.tanh(p["E"][ids] @ p["W"]) ** 2
    dE = np.zeros((5, 3))
    dE[ids] += d @ p["W"].T
    (finding,) = findings(embedded, {"E": dE, "W": p["E"][ids].T @ d}, p, ids)
    assert finding.code == "duplicates_overwritten"
    assert '`p["E"][ids]`' in finding.sentence


# -- Mistakes that concern a leaf as a whole ------------------------------------------------------


def chain(p, x, t):
    h = sigmoid(x @ p["W1"] + p["b1"])
    out = sigmoid(h @ p["W2"] + p["b2"])
    return jnp.mean((out - t) ** 2) + 0.05 * (jnp.sum(p["W1"] ** 2) + jnp.sum(p["W2"] ** 2))


CHAIN = {
    "W1": rng.normal(size=(3, 4)), "b1": rng.normal(size=4),
    "W2": rng.normal(size=(4, 4)), "b2": rng.normal(size=4),
}  # fmt: skip
DATA = rng.normal(size=(6, 3)), rng.uniform(0.1, 0.9, (6, 4))


def chain_backward(p, x, t, slope=True, back=None, penalty=0.1, leave=()):
    h = 1 / (1 + np.exp(-(x @ p["W1"] + p["b1"])))
    out = 1 / (1 + np.exp(-(h @ p["W2"] + p["b2"])))
    d2 = 2 * (out - t) / t.size * (out * (1 - out) if slope else 1)
    d1 = (d2 @ (p["W2"].T if back is None else back)) * h * (1 - h)
    return {
        "W1": x.T @ d1 + penalty * p["W1"], "b1": d1.sum(0),
        "W2": h.T @ d2 + penalty * p["W2"], "b2": d2.sum(0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "codes", "text"),
    [
        ({"slope": False}, ["missing_activation_derivative"], 'sigmoid(h @ p["W2"] + p["b2"])'),
        ({"penalty": -0.1}, ["sign"], "jnp.sum"),
        ({"back": CHAIN["W2"]}, ["weights_not_transposed"], 'h @ p["W2"]'),
    ],
)
def test_a_network_that_is_no_softmax_classifier(change, codes, text):
    found = findings(chain, chain_backward(CHAIN, *DATA, **change), CHAIN, *DATA)
    assert [f.code for f in found] == codes
    assert text in found[0].sentence


def test_two_mistakes_are_two_findings():
    given = chain_backward(CHAIN, *DATA, slope=False)
    given["b1"] = given["b1"] * 3.0
    found = findings(chain, given, CHAIN, *DATA)
    assert [f.code for f in found] == ["missing_activation_derivative", "scale"]
    assert found[1].equation == "b1"


def test_swapped_transposed_and_unreduced_leaves():
    right = chain_backward(CHAIN, *DATA)
    swapped = {**right, "b1": right["b2"], "b2": right["b1"]}
    assert {f.code for f in findings(chain, swapped, CHAIN, *DATA)} == {"swapped_leaves"}
    turned = findings(chain, {**right, "W1": right["W1"].T}, CHAIN, *DATA)
    assert [(f.code, f.equation) for f in turned] == [("transpose", "W1")]


def test_a_right_gradient_has_no_findings():
    assert findings(chain, chain_backward(CHAIN, *DATA), CHAIN, *DATA) == []


# -- What is not known ----------------------------------------------------------------------------


def test_numbers_from_nowhere_have_no_cause_but_a_proved_place():
    params, x = RNN
    noise = np.random.default_rng(1)
    given = rnn_backward(params, x)
    given["R"] = given["R"] + noise.normal(size=(4, 4))
    (finding,) = findings(rnn, given, params, x)
    assert (finding.code, finding.equation) == ("unknown", "R")
    assert "No known mistake gives these numbers" in finding.sentence


@pytest.mark.parametrize("seed", range(3))
def test_no_cause_is_found_in_noise(seed):
    noise = np.random.default_rng(seed)
    given = {k: noise.normal(size=v.shape) for k, v in CHAIN.items()}
    assert {f.code for f in findings(chain, given, CHAIN, *DATA)} == {"unknown"}


def test_a_step_whose_scalar_is_converted_is_no_obstacle():
    """A carried number that is given a row's dtype: an operation with one operand, and linear."""

    def loss(p):
        return jax.lax.scan(lambda c, x: (jnp.tanh(c + x), c), 0.0, p)[0]

    report = check_gradients(
        loss, lambda p: 1.1 * jax.grad(loss)(p), rng.normal(size=5).astype(np.float32)
    )
    assert (report.ok, report.cause, report.factor) == (False, "scale", pytest.approx(1.1))


def test_a_search_that_fails_costs_the_cause_and_not_the_verdict(monkeypatch):
    def fails(*args):
        raise ZeroDivisionError("of a loss that nobody has thought of")

    monkeypatch.setattr(search, "explain", fails)
    params, x = {"W": rng.normal(size=(3, 3))}, rng.normal(size=(4, 3))
    with pytest.warns(RuntimeWarning, match="nobody has thought of"):
        report = check_gradients(scanned, lambda p, x: {"W": -p["W"]}, params, x)
    assert (report.ok, report.cause) == (False, "unknown")


def test_braces_in_the_users_line_are_the_users():
    """`p[f"W{i}"]` is quoted as it stands, in the place of a step that was fitted too."""
    params = {"W1": rng.normal(size=(3, 4)), "W2": rng.normal(size=(4, 2))}
    x = rng.normal(size=(5, 3))

    def loss(p, x):
        h = x
        for i in (1, 2):
            h = jnp.sin(h @ p[f"W{i}"])
        return jnp.sum(h)

    h = np.sin(x @ params["W1"])
    d2 = np.cos(h @ params["W2"])
    dW2 = h.T @ d2
    d1 = d2 @ (params["W2"] - 0.1 * dW2).T * np.cos(x @ params["W1"])
    (finding,) = findings(loss, {"W1": x.T @ d1, "W2": dW2}, params, x)
    assert finding.code == "stale_weights"
    assert 'p[f"W{i}"]' in finding.sentence or "p[f'W{i}']" in finding.sentence
    assert "with step 0.1" in finding.sentence


def test_an_infinite_entry_is_no_licence_for_the_others():
    right = chain_backward(CHAIN, *DATA)
    given = {**right, "b1": right["b1"] + np.inf, "b2": 2 * right["b2"]}
    found = findings(chain, given, CHAIN, *DATA)
    assert {(f.code, f.places) for f in found} == {("non_finite", ("b1",)), ("scale", ("b2",))}
