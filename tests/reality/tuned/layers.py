"""Normalisation, convolution, pooling, recurrence, attention and residual blocks."""

import jax
import jax.numpy as jnp
import numpy as np

from ..case import gathers, generator, np_sigmoid, np_softmax, one_hot, with_rule

CASES = []
case = gathers(CASES)


def sigmoid(z):
    return 1 / (1 + jnp.exp(-z))


def batch_norm(seed):
    """A linear layer and a normalised batch; gradient(dz from all that the layer has)."""
    g = generator(seed)
    params = {"W": g.normal(size=(3, 4)), "gamma": g.uniform(0.5, 2, 4), "beta": g.normal(size=4)}
    x, t = g.normal(size=(9, 3)), g.normal(size=(9, 4))

    def loss(p, x, t):
        z = x @ p["W"]
        mean = z.mean(axis=0)
        variance = ((z - mean) ** 2).mean(axis=0)
        xhat = (z - mean) / jnp.sqrt(variance + 1e-5)
        y = p["gamma"] * xhat + p["beta"]
        return jnp.sum(jnp.sin(y) * t)

    def gradient(of_z):
        def of(p, x, t):
            z = x @ p["W"]
            ivar = 1 / np.sqrt(z.var(axis=0) + 1e-5)
            xhat = (z - z.mean(axis=0)) * ivar
            dy = np.cos(p["gamma"] * xhat + p["beta"]) * t
            dz = of_z(dy, xhat, ivar, p["gamma"])
            return {"W": x.T @ dz, "gamma": (dy * xhat).sum(axis=0), "beta": dy.sum(axis=0)}

        return of

    return loss, gradient, params, (x, t)


def whole(dy, xhat, ivar, gamma):
    d = dy * gamma
    return ivar * (d - d.mean(axis=0) - xhat * (d * xhat).mean(axis=0))


@case(
    kind="normalisation",
    cause="gamma is left out of dz: the derivative by xhat is dy * gamma",
    place="the derivative by xhat",
    source="denizyuret/Knet.jl #288",
)
def batch_norm_without_gamma():
    loss, gradient, params, args = batch_norm(131)

    def without(dy, xhat, ivar, gamma):
        return whole(dy, xhat, ivar, 1.0)

    return loss, gradient(without), gradient(whole), params, args


@case(
    kind="normalisation",
    cause="the mean and the variance are taken as constants: their parts of dz are missing",
    place="dz",
    source="chainer/chainer #798",
)
def batch_statistics_held_constant():
    loss, gradient, params, args = batch_norm(132)

    def constant(dy, xhat, ivar, gamma):
        return dy * gamma * ivar

    return loss, gradient(constant), gradient(whole), params, args


@case(
    kind="normalisation",
    cause="nothing: the numbers less their mean have the sum 0, so the variance's part of the "
    "mean's derivative may be left out",
    place="",
    tags=("right",),
    source="pjreddie/darknet #29, #1723; BVLC/caffe #3878, #4110; AlexeyAB/darknet #4605",
)
def mean_through_the_variance_left_out():
    loss, gradient, params, args = batch_norm(133)

    def short(dy, xhat, ivar, gamma):
        d, m = dy * gamma, len(dy)
        d_variance = (d * xhat / ivar * -0.5 * ivar**3).sum(axis=0)
        d_mean = -(d * ivar).sum(axis=0)
        return d * ivar + d_variance * 2 * xhat / ivar / m + d_mean / m

    return loss, gradient(short), gradient(whole), params, args


@case(
    kind="convolution",
    cause="the window of the backward pass starts at h, w and not at h * stride, w * stride",
    place="dW and the derivative by the input",
    line="Z = jax.lax.conv",
    source="Kulbear/deep-learning-coursera #34, enggen/Deep-Learning-Coursera #7",
)
def convolution_without_its_stride():
    g = generator(134)
    params = {"scale": g.normal(size=(7, 7, 1)), "W": g.normal(size=(3, 3, 1, 2))}
    x, t = g.normal(size=(2, 7, 7, 1)), g.normal(size=(2, 3, 3, 2))

    def loss(p, x, t):
        A = jnp.tanh(x * p["scale"])
        layout = ("NHWC", "HWIO", "NHWC")
        Z = jax.lax.conv_general_dilated(A, p["W"], (2, 2), "VALID", dimension_numbers=layout)
        return jnp.sum(Z * t)

    def gradient(stride):
        def of(p, x, t):
            A = np.tanh(x * p["scale"])
            dA, dW = np.zeros_like(A), np.zeros_like(p["W"])
            for n, h, w, c in np.ndindex(t.shape):
                at = n, slice(h * stride, h * stride + 3), slice(w * stride, w * stride + 3)
                dA[at] += p["W"][..., c] * t[n, h, w, c]
                dW[..., c] += A[at] * t[n, h, w, c]
            return {"scale": (dA * (1 - A**2) * x).sum(axis=0), "W": dW}

        return of

    return loss, gradient(1), gradient(2), params, (x, t)


@case(
    kind="convolution",
    cause="windows overlap, and a shared maximum's gradient is overwritten where it must be added",
    place="the derivative by the pooled values",
    line="pooled = jax.lax.reduce_window",
    source="FluxML/Flux.jl #1197",
)
def overlapping_maxima_overwritten():
    g = generator(135)
    params = {"w": g.normal(size=2)}
    x, t = g.normal(size=(7, 7, 2)), g.normal(size=(3, 3))

    def loss(p, x, t):
        a = jnp.tanh(x @ p["w"])
        pooled = jax.lax.reduce_window(a, -jnp.inf, jax.lax.max, (3, 3), (2, 2), "VALID")
        return jnp.sum(pooled * t)

    def gradient(adds):
        def of(p, x, t):
            a = np.tanh(x @ p["w"])
            da = np.zeros_like(a)
            for i, j in np.ndindex(t.shape):
                window = a[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
                h, w = np.unravel_index(window.argmax(), window.shape)
                before = da[2 * i + h, 2 * j + w] if adds else 0
                da[2 * i + h, 2 * j + w] = before + t[i, j]
            return {"w": np.einsum("hwc,hw->c", x, da * (1 - a**2))}

        return of

    return loss, gradient(False), gradient(True), params, (x, t)


@case(
    kind="recurrent",
    cause="the gradient of h is not passed on to the step before",
    place="dh, in all steps but the last",
    line="h = jnp.tanh(",
    source="qixianbiao/RNN #2",
)
def state_not_passed_back():
    g = generator(136)
    params = {
        "Wx": g.normal(size=(4, 3)),
        "Wh": g.normal(size=(4, 4)) * 0.6,
        "Wy": g.normal(size=(3, 4)),
    }
    xs, ys = one_hot(g.integers(0, 3, 5), 3), one_hot(g.integers(0, 3, 5), 3)

    def loss(p, xs, ys):
        h, total = jnp.zeros(4), 0.0
        for x, y in zip(xs, ys, strict=True):
            h = jnp.tanh(p["Wx"] @ x + p["Wh"] @ h)
            total = total - y @ jax.nn.log_softmax(p["Wy"] @ h)
        return total

    def gradient(passes):
        def of(p, xs, ys):
            hs = [np.zeros(4)]
            for x in xs:
                hs.append(np.tanh(p["Wx"] @ x + p["Wh"] @ hs[-1]))
            d, later = {k: np.zeros_like(v) for k, v in p.items()}, np.zeros(4)
            for n in reversed(range(len(xs))):
                dy = np_softmax(p["Wy"] @ hs[n + 1]) - ys[n]
                dz = (1 - hs[n + 1] ** 2) * (p["Wy"].T @ dy + later)
                d["Wy"] += np.outer(dy, hs[n + 1])
                d["Wx"] += np.outer(dz, xs[n])
                d["Wh"] += np.outer(dz, hs[n])
                later = p["Wh"].T @ dz * passes
            return d

        return of

    return loss, gradient(0), gradient(1), params, (xs, ys)


def lstm(seed):
    """An LSTM with a matrix for each gate; gradient(the forget gate's slope)."""
    g = generator(seed)
    params = {name: g.normal(size=(3, 5)) for name in ("Wf", "Wi", "Wo", "Wg")}
    xs, ts = g.normal(size=(4, 2)), g.normal(size=(4, 3))

    def loss(p, xs, ts):
        h, c, total = jnp.zeros(3), jnp.zeros(3), 0.0
        for x, t in zip(xs, ts, strict=True):
            z = jnp.concatenate([h, x])
            f = sigmoid(p["Wf"] @ z)
            i = sigmoid(p["Wi"] @ z)
            o = sigmoid(p["Wo"] @ z)
            c = f * c + i * jnp.tanh(p["Wg"] @ z)
            h = o * jnp.tanh(c)
            total = total + h @ t
        return total

    def gradient(slope):
        def of(p, xs, ts):
            h, c, kept = np.zeros(3), np.zeros(3), []
            for x in xs:
                z = np.concatenate([h, x])
                f, i, o = (np_sigmoid(p[name] @ z) for name in ("Wf", "Wi", "Wo"))
                candidate, before = np.tanh(p["Wg"] @ z), c
                c = f * c + i * candidate
                h = o * np.tanh(c)
                kept.append((z, f, i, o, candidate, before, c))
            d, dh_later, dc_later = {k: np.zeros_like(v) for k, v in p.items()}, 0, 0
            for n in reversed(range(len(xs))):
                z, f, i, o, candidate, before, c = kept[n]
                dh = ts[n] + dh_later
                dc = dh * o * (1 - np.tanh(c) ** 2) + dc_later
                raw = {
                    "Wf": dc * before * slope(f),
                    "Wi": dc * candidate * i * (1 - i),
                    "Wo": dh * np.tanh(c) * o * (1 - o),
                    "Wg": dc * i * (1 - candidate**2),
                }
                for name, value in raw.items():
                    d[name] += np.outer(value, z)
                dh_later = sum(p[name].T @ value for name, value in raw.items())[:3]
                dc_later = dc * f
            return d

        return of

    return loss, gradient, params, (xs, ts)


@case(
    kind="recurrent",
    cause="the forget gate is multiplied by its sigmoid where its derivative f * (1 - f) belongs",
    place="the derivative by the forget gate's sum",
    source="CaptainE/RNN-LSTM-in-numpy #1, #2",
)
def forget_gate_for_its_slope():
    loss, gradient, params, args = lstm(137)
    return loss, gradient(np_sigmoid), gradient(lambda f: f * (1 - f)), params, args


@case(
    kind="recurrent",
    cause="h keeps (1 - z) of what it was, so that share goes back directly, not z of it",
    place="the derivative by the previous h",
    line="h = (1 - z) * h + z * new",
    source="ooples/AiDotNet #722 (review)",
)
def update_gate_for_one_minus_it():
    g = generator(138)
    params = {name: g.normal(size=(3, 5)) for name in ("Wz", "Wn")}
    xs, ts = g.normal(size=(5, 2)), g.normal(size=(5, 3))

    def loss(p, xs, ts):
        h, total = jnp.zeros(3), 0.0
        for x, t in zip(xs, ts, strict=True):
            into = jnp.concatenate([h, x])
            z = sigmoid(p["Wz"] @ into)
            new = jnp.tanh(p["Wn"] @ into)
            h = (1 - z) * h + z * new
            total = total + h @ t
        return total

    def gradient(kept_share):
        def of(p, xs, ts):
            h, steps = np.zeros(3), []
            for x in xs:
                into = np.concatenate([h, x])
                z, new = np_sigmoid(p["Wz"] @ into), np.tanh(p["Wn"] @ into)
                steps.append((into, z, new, h))
                h = (1 - z) * h + z * new
            d, later = {k: np.zeros_like(v) for k, v in p.items()}, 0
            for n in reversed(range(len(xs))):
                into, z, new, before = steps[n]
                dh = ts[n] + later
                dz = dh * (new - before) * z * (1 - z)
                dn = dh * z * (1 - new**2)
                d["Wz"] += np.outer(dz, into)
                d["Wn"] += np.outer(dn, into)
                later = dh * kept_share(z) + (p["Wz"].T @ dz + p["Wn"].T @ dn)[:3]
            return d

        return of

    return loss, gradient(lambda z: z), gradient(lambda z: 1 - z), params, (xs, ts)


@case(
    kind="attention",
    cause="the identity path of the residual is missing: what is below the block also receives the "
    "gradient of its output as it is",
    place="the derivative by the block's input",
    line="return jnp.sum((below + above)",
    source="paiml/entrenar #313",
)
def residual_without_its_identity():
    g = generator(139)
    params = {"A": g.normal(size=(3, 3)), "B": g.normal(size=(3, 3))}
    x, t = g.normal(size=(6, 3)), g.normal(size=(6, 3))

    def loss(p, x, t):
        below = jnp.tanh(x @ p["A"])
        above = jnp.tanh(below @ p["B"])
        return jnp.sum((below + above) * t)

    def gradient(identity):
        def of(p, x, t):
            below = np.tanh(x @ p["A"])
            above = np.tanh(below @ p["B"])
            d_above = t * (1 - above**2)
            d_below = d_above @ p["B"].T + identity * t
            return {"A": x.T @ (d_below * (1 - below**2)), "B": below.T @ d_above}

        return of

    return loss, gradient(0), gradient(1), params, (x, t)


def attention(q, k, v):
    return jax.nn.softmax(q @ k.T / 2.0) @ v


@case(
    kind="attention",
    vjp=True,
    cause="the backward pass applies the causal mask although the forward pass has none",
    place="the weights in the backward pass",
    source="triton-lang/triton #4541, #5660",
)
def causal_mask_in_the_backward_pass_alone():
    g = generator(140)
    args = tuple(jnp.asarray(g.normal(size=(5, 4))) for _ in range(3))

    def rule(mask):
        def backward(q, k, v, y, g):
            scores = q @ k.T / 2.0
            weights = jax.nn.softmax(scores) * mask
            d = weights * (g @ v.T - jnp.sum(g * y, axis=1, keepdims=True)) / 2.0
            return d @ k, d.T @ q, weights.T @ g

        return with_rule(attention, backward)

    return rule(np.tri(5)), rule(np.ones((5, 5))), args, attention
