"""Normalisation, convolution and resampling."""

import jax.numpy as jnp
import numpy as np

from ..case import gathers, generator

CASES = []
case = gathers(CASES)


@case(
    kind="normalisation",
    cause="the term of the mean square is multiplied by the gain twice: it is already in the sum",
    place="dz, its second term",
    line=("r = 1 / jnp.sqrt", "y = z * r", "mean_square = "),
    source="NVIDIA/Megatron-LM #6859",
)
def rms_norm_gain_twice():
    g = generator(21)
    params = {"W": g.normal(size=(4, 6)), "gain": g.uniform(0.5, 2, 6)}
    x, t = g.normal(size=(5, 4)), g.normal(size=(5, 6))

    def loss(p, x, t):
        z = x @ p["W"]
        mean_square = jnp.mean(z * z, axis=1, keepdims=True)
        r = 1 / jnp.sqrt(mean_square + 1e-5)
        y = z * r * p["gain"]
        return jnp.sum(jnp.sin(y) * t)

    def gradient(twice):
        def of(p, x, t):
            z = x @ p["W"]
            r = 1 / np.sqrt((z * z).mean(axis=1, keepdims=True) + 1e-5)
            dy = np.cos(z * r * p["gain"]) * t
            s = (dy * z * p["gain"]).sum(axis=1, keepdims=True)
            second = r**3 * z * s / z.shape[1]
            if twice:
                second = second * p["gain"]
            return {"W": x.T @ (dy * p["gain"] * r - second), "gain": (dy * z * r).sum(axis=0)}

        return of

    return loss, gradient(True), gradient(False), params, (x, t)


@case(
    kind="normalisation",
    cause="z is divided by norm + eps, but the norm's own derivative is z / norm: backward has "
    "norm + eps in that place too",
    place="the derivative of the norm",
    line="norm = jnp.sqrt(",
    source="chainer/chainer #4190",
)
def l2_norm_with_eps_in_its_own_derivative():
    g = generator(22)
    params = {"W": g.normal(size=(4, 5))}
    x, t, eps = g.normal(size=(6, 4)), g.normal(size=(6, 5)), 0.1

    def loss(p, x, t):
        z = x @ p["W"]
        norm = jnp.sqrt(jnp.sum(z**2, axis=1, keepdims=True))
        y = z / (norm + eps)
        return jnp.sum(jnp.sin(y) * t)

    def gradient(exact):
        def of(p, x, t):
            z = x @ p["W"]
            norm = np.sqrt((z**2).sum(axis=1, keepdims=True))
            below = norm + eps
            dy = np.cos(z / below) * t
            inner = (dy * z).sum(axis=1, keepdims=True)
            dz = dy / below - inner / below**2 * z / (norm if exact else below)
            return {"W": x.T @ dz}

        return of

    return loss, gradient(False), gradient(True), params, (x, t)


@case(
    kind="normalisation",
    cause="the last axis is taken for all positions of a channel: only the first row of each image "
    "is summed for gamma and beta",
    place="dgamma, dbeta",
    line='y = p["gamma"]',
    source="linkedin/Liger-Kernel #1375, #1376",
)
def group_norm_sums_the_first_row_only():
    g = generator(23)
    params = {"gamma": g.uniform(0.5, 2, 4), "beta": g.normal(size=4)}
    x, t = g.normal(size=(2, 4, 3, 5)), g.normal(size=(2, 4, 3, 5))

    def normalised(x, library):
        groups = x.reshape(2, 2, -1)
        centred = groups - groups.mean(axis=-1, keepdims=True)
        deviation = library.sqrt(groups.var(axis=-1, keepdims=True) + 1e-5)
        return (centred / deviation).reshape(x.shape)

    def loss(p, x, t):
        h = normalised(jnp.asarray(x), jnp)
        y = p["gamma"][:, None, None] * h + p["beta"][:, None, None]
        return jnp.sum(jnp.sin(y) * t)

    def gradient(rows):
        def of(p, x, t):
            h = normalised(x, np)
            dy = np.cos(p["gamma"][:, None, None] * h + p["beta"][:, None, None]) * t
            dy, h = dy[:, :, :rows], h[:, :, :rows]
            return {"gamma": (dy * h).sum((0, 2, 3)), "beta": dy.sum((0, 2, 3))}

        return of

    return loss, gradient(1), gradient(3), params, (x, t)


@case(
    kind="convolution",
    cause="the derivative by the input is written at the depth of the output, m, where that of the "
    "window, m + t, belongs",
    place="dA",
    line="Z = Z + A[t : t + M",
    source="NervanaSystems/neon #111",
)
def convolution_in_depth_without_the_windows_offset():
    g = generator(24)
    params = {"scale": g.normal(size=(6, 1)), "K": g.normal(size=(2, 3))}
    x, target, M, N = g.normal(size=(6, 7)), g.normal(size=(5, 5)), 5, 5

    def loss(p, x, target):
        A = jnp.tanh(x * p["scale"])
        Z = jnp.zeros((M, N))
        for t in range(2):
            for j in range(3):
                Z = Z + A[t : t + M, j : j + N] * p["K"][t, j]
        return jnp.sum((Z - target) ** 2)

    def gradient(offset):
        def of(p, x, target):
            A = np.tanh(x * p["scale"])
            windows = {(t, j): A[t : t + M, j : j + N] for t in range(2) for j in range(3)}
            dZ = 2 * (sum(w * p["K"][at] for at, w in windows.items()) - target)
            dA, dK = np.zeros_like(A), np.zeros_like(p["K"])
            for (t, j), window in windows.items():
                dK[t, j] = (dZ * window).sum()
                top = t if offset else 0
                dA[top : top + M, j : j + N] += dZ * p["K"][t, j]
            return {"scale": (dA * (1 - A**2) * x).sum(axis=1, keepdims=True), "K": dK}

        return of

    return loss, gradient(False), gradient(True), params, (x, target)


@case(
    kind="convolution",
    cause="forward takes the top left pixel of each block, backward sends the gradient to the "
    "bottom right one",
    place="the derivative by a",
    line="small = a[:, ::2, ::2]",
    source="pytorch/pytorch #38985",
)
def nearest_pixel_of_the_other_corner():
    g = generator(25)
    params = {"W": g.normal(size=(2, 3)), "b": g.normal(size=3)}
    x, t = g.normal(size=(2, 6, 6, 2)), g.normal(size=(2, 3, 3, 3))

    def loss(p, x, t):
        a = jnp.tanh(x @ p["W"] + p["b"])
        small = a[:, ::2, ::2]
        return jnp.sum(jnp.sin(small) * t)

    def gradient(corner):
        def of(p, x, t):
            a = np.tanh(x @ p["W"] + p["b"])
            da = np.zeros_like(a)
            da[:, corner::2, corner::2] = np.cos(a[:, ::2, ::2]) * t
            dz = da * (1 - a**2)
            return {"W": np.einsum("nhwi,nhwo->io", x, dz), "b": dz.sum((0, 1, 2))}

        return of

    return loss, gradient(1), gradient(0), params, (x, t)
