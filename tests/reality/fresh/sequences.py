"""Recurrent networks, attention and rotary embedding."""

import jax
import jax.numpy as jnp
import numpy as np

from ..case import gathers, generator, np_sigmoid, np_softmax

CASES = []
case = gathers(CASES)


def sigmoid(z):
    return 1 / (1 + jnp.exp(-z))


@case(
    kind="recurrent",
    cause="backward takes the first step's zoneout mask at every step",
    place="the derivatives by new and by the previous h",
    line="h = masks[t] * h + (1 - masks[t]) * new",
    source="lmnt-com/haste #43",
)
def zoneout_mask_of_the_first_step():
    g = generator(31)
    T, D, H = 5, 3, 4
    params = {"W": g.normal(size=(H, D)), "R": g.normal(size=(H, H)) * 0.7}
    xs, ts = g.normal(size=(T, D)), g.normal(size=(T, H))
    masks = (g.uniform(size=(T, H)) < 0.4).astype(float)

    def loss(p, xs, ts):
        h, total = jnp.zeros(H), 0.0
        for t in range(T):
            new = jnp.tanh(p["W"] @ xs[t] + p["R"] @ h)
            h = masks[t] * h + (1 - masks[t]) * new
            total = total + jnp.sum(jnp.sin(h) * ts[t])
        return total

    def gradient(own):
        def of(p, xs, ts):
            hs, news = {-1: np.zeros(H)}, {}
            for t in range(T):
                news[t] = np.tanh(p["W"] @ xs[t] + p["R"] @ hs[t - 1])
                hs[t] = masks[t] * hs[t - 1] + (1 - masks[t]) * news[t]
            d, later = {k: np.zeros_like(v) for k, v in p.items()}, np.zeros(H)
            for t in reversed(range(T)):
                mask = masks[t] if own else masks[0]
                dh = np.cos(hs[t]) * ts[t] + later
                dz = dh * (1 - mask) * (1 - news[t] ** 2)
                d["W"] += np.outer(dz, xs[t])
                d["R"] += np.outer(dz, hs[t - 1])
                later = dh * mask + p["R"].T @ dz
            return d

        return of

    return loss, gradient(False), gradient(True), params, (xs, ts)


@case(
    kind="recurrent",
    cause="the cell's gradient is set from h alone: what comes from the next step's cell, f * dc, "
    "must be added to it",
    place="dc",
    line="c = f * c + i * g",
    source="apache/mxnet #4057",
)
def lstm_cell_gradient_set_for_added():
    gen = generator(32)
    T, D, H = 5, 3, 3
    params = {"W": gen.normal(size=(4 * H, D + H)), "b": gen.normal(size=4 * H)}
    xs, ts = gen.normal(size=(T, D)), gen.normal(size=(T, H))

    def loss(p, xs, ts):
        h, c, total = jnp.zeros(H), jnp.zeros(H), 0.0
        for t in range(T):
            z = p["W"] @ jnp.concatenate([xs[t], h]) + p["b"]
            i, f, o = sigmoid(z[:H]), sigmoid(z[H : 2 * H]), sigmoid(z[2 * H : 3 * H])
            g = jnp.tanh(z[3 * H :])
            c = f * c + i * g
            h = o * jnp.tanh(c)
            total = total + jnp.sum((h - ts[t]) ** 2)
        return total

    def gradient(add):
        def of(p, xs, ts):
            h, c, kept = np.zeros(H), np.zeros(H), []
            for t in range(T):
                into = np.concatenate([xs[t], h])
                z = p["W"] @ into + p["b"]
                i, f, o = np_sigmoid(z[: 3 * H]).reshape(3, H)
                g = np.tanh(z[3 * H :])
                before, c = c, f * c + i * g
                h = o * np.tanh(c)
                kept.append((into, i, f, o, g, before, c, h))
            d = {k: np.zeros_like(v) for k, v in p.items()}
            dh_next, dc_next = np.zeros(H), np.zeros(H)
            for t in reversed(range(T)):
                into, i, f, o, g, before, c, h = kept[t]
                dh = 2 * (h - ts[t]) + dh_next
                dc = dh * o * (1 - np.tanh(c) ** 2)
                if add:
                    dc = dc + dc_next
                slopes = i * (1 - i), f * (1 - f), o * (1 - o), 1 - g * g
                outer = dc * g, dc * before, dh * np.tanh(c), dc * i
                dz = np.concatenate([a * b for a, b in zip(outer, slopes, strict=True)])
                d["W"] += np.outer(dz, into)
                d["b"] += dz
                dh_next, dc_next = p["W"][:, D:].T @ dz, dc * f
            return d

        return of

    return loss, gradient(False), gradient(True), params, (xs, ts)


@case(
    kind="attention",
    cause="query head h reads key and value head h % 2, but the backward pass for keys and values "
    "divides by the number of query heads that share one (3): gradients go to other heads, and "
    "those of two heads are lost",
    place="dk, dv",
    line=("k[:, h % KV]", "v[:, h % KV]", "weights @"),
    source="XunhaoLai/native-sparse-attention-triton #27",
    note="the original reads and writes outside the buffer there; here these heads are dropped",
)
def shared_heads_counted_by_the_other_number():
    g = generator(33)
    T, D, HEADS, KV, d = 5, 4, 6, 2, 3
    params = {
        "Wq": g.normal(size=(D, HEADS * d)),
        "Wk": g.normal(size=(D, KV * d)),
        "Wv": g.normal(size=(D, KV * d)),
    }
    x, target = g.normal(size=(T, D)), g.normal(size=(HEADS, T, d))

    def loss(p, x, target):
        q = (x @ p["Wq"]).reshape(T, HEADS, d)
        k = (x @ p["Wk"]).reshape(T, KV, d)
        v = (x @ p["Wv"]).reshape(T, KV, d)
        total = 0.0
        for h in range(HEADS):
            scores = q[:, h] @ k[:, h % KV].T / np.sqrt(d)
            weights = jax.nn.softmax(scores)
            out = weights @ v[:, h % KV]
            total = total + jnp.sum(out * target[h])
        return total

    def gradient(head_of):
        def of(p, x, target):
            q = (x @ p["Wq"]).reshape(T, HEADS, d)
            k = (x @ p["Wk"]).reshape(T, KV, d)
            v = (x @ p["Wv"]).reshape(T, KV, d)
            dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
            for h in range(HEADS):
                weights = np_softmax(q[:, h] @ k[:, h % KV].T / np.sqrt(d))
                dw = target[h] @ v[:, h % KV].T
                ds = weights * (dw - (weights * dw).sum(axis=1, keepdims=True)) / np.sqrt(d)
                dq[:, h] = ds @ k[:, h % KV]
                if head_of(h) < KV:
                    dk[:, head_of(h)] += ds.T @ q[:, h]
                    dv[:, head_of(h)] += weights.T @ target[h]
            return {
                name: x.T @ grad.reshape(T, -1)
                for name, grad in {"Wq": dq, "Wk": dk, "Wv": dv}.items()
            }

        return of

    return loss, gradient(lambda h: h % 3), gradient(lambda h: h % 2), params, (x, target)


@case(
    kind="attention",
    cause="backward rotates by the same angle as forward; it must rotate back: sin with the other "
    "sign",
    place="the derivatives by q and k before the rotation",
    line="return jnp.concatenate",
    source="ngxson/llama.cpp #59 (review)",
)
def rotary_embedding_turned_the_same_way():
    g = generator(34)
    T, D, d = 5, 3, 4
    params = {"Wq": g.normal(size=(D, d)), "Wk": g.normal(size=(D, d))}
    x, target = g.normal(size=(T, D)), g.normal(size=(T, T))
    angles = np.arange(T)[:, None] * np.array([1.0, 0.3])
    cos, sin = np.cos(angles), np.sin(angles)

    def rotate(z):
        first, second = z[:, :2], z[:, 2:]
        return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=1)

    def loss(p, x, target):
        q = rotate(x @ p["Wq"])
        k = rotate(x @ p["Wk"])
        return jnp.sum(jnp.tanh(q @ k.T) * target)

    def turned(z, sin):
        first, second = z[:, :2], z[:, 2:]
        return np.concatenate([first * cos - second * sin, first * sin + second * cos], axis=1)

    def gradient(sign):
        def of(p, x, target):
            q, k = (turned(x @ p[name], sin) for name in ("Wq", "Wk"))
            ds = (1 - np.tanh(q @ k.T) ** 2) * target
            return {
                "Wq": x.T @ turned(ds @ k, sign * sin),
                "Wk": x.T @ turned(ds.T @ q, sign * sin),
            }

        return of

    return loss, gradient(1), gradient(-1), params, (x, target)
