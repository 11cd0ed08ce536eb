"""Graphics, dynamics, matrices, signals, and a rule at a singular point."""

import jax
import jax.numpy as jnp
import numpy as np

from ..case import gathers, generator, with_rule

CASES = []
case = gathers(CASES)


@case(
    kind="graphics",
    cause="forward divides the quaternion by its norm, backward returns the derivative by the "
    "divided one",
    place="the derivative by the quaternion",
    line=('q = p["quaternion"] /', "norm = jnp.sqrt("),
    source="nerfstudio-project/gsplat #153",
)
def quaternions_norm_left_out():
    g = generator(41)
    params = {"quaternion": g.normal(size=(3, 4)) * 1.5, "mean": g.normal(size=(3, 3))}
    points, target = g.normal(size=(3, 5, 3)), g.normal(size=(3, 5, 3))

    def rotation(q, library):
        w, x, y, z = q[:, 0], q[:, 1], q[:, 2], q[:, 3]
        rows = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        return library.stack([library.stack(row, -1) for row in rows], -2)

    def loss(p, points, target):
        norm = jnp.sqrt(jnp.sum(p["quaternion"] ** 2, axis=1, keepdims=True))
        q = p["quaternion"] / norm
        R = rotation(q, jnp)
        world = points @ jnp.swapaxes(R, 1, 2) + p["mean"][:, None]
        return jnp.sum((world - target) ** 2)

    def gradient(through):
        def of(p, points, target):
            norm = np.sqrt((p["quaternion"] ** 2).sum(axis=1, keepdims=True))
            q = p["quaternion"] / norm
            R = rotation(q, np)
            d_world = 2 * (points @ R.swapaxes(1, 2) + p["mean"][:, None] - target)
            dR = np.einsum("gni,gnj->gij", d_world, points)
            w, x, y, z = q.T
            o = np.zeros_like(w)
            parts = [
                [[o, -z, y], [z, o, -x], [-y, x, o]],
                [[o, y, z], [y, -2 * x, -w], [z, w, -2 * x]],
                [[-2 * y, x, w], [x, o, z], [-w, z, -2 * y]],
                [[-2 * z, -w, x], [w, -2 * z, y], [x, y, o]],
            ]
            dq = 2 * np.einsum("gij,kijg->gk", dR, np.array(parts))
            if through:
                dq = (dq - q * (q * dq).sum(axis=1, keepdims=True)) / norm
            return {"quaternion": dq, "mean": d_world.sum(axis=1)}

        return of

    return loss, gradient(False), gradient(True), params, (points, target)


@case(
    kind="graphics",
    cause="the angle's gradient is not summed over the cameras: only the first one's is kept",
    place="the derivative by the angle",
    line=('turn(p["angle"])', "for view in views"),
    source="openvdb/fvdb-core #435",
)
def only_the_first_cameras_gradient():
    g = generator(42)
    params = {"angle": g.normal(size=()), "mean": g.normal(size=2)}
    views, points, target = g.normal(size=(3, 2, 2)), g.normal(size=(6, 2)), g.normal(size=(6, 2))

    def turn(angle):
        c, s = jnp.cos(angle), jnp.sin(angle)
        return jnp.array([[c, -s], [s, c]])

    def loss(p, views, points, target):
        total = 0.0
        for view in views:
            spread = view @ turn(p["angle"])
            seen = points @ spread.T + view @ p["mean"]
            total = total + jnp.sum(jnp.sin(seen) * target)
        return total

    def gradient(cameras):
        def of(p, views, points, target):
            c, s = np.cos(p["angle"]), np.sin(p["angle"])
            R, dR = np.array([[c, -s], [s, c]]), np.array([[-s, -c], [c, -s]])
            d_angle, d_mean = 0.0, np.zeros(2)
            for n, view in enumerate(views):
                d_seen = np.cos(points @ (view @ R).T + view @ p["mean"]) * target
                d_mean += view.T @ d_seen.sum(axis=0)
                if n < cameras:
                    d_angle += np.sum(d_seen * (points @ (view @ dR).T))
            return {"angle": np.array(d_angle), "mean": d_mean}

        return of

    return loss, gradient(1), gradient(3), params, (views, points, target)


@case(
    kind="dynamics",
    cause="the running cost depends on k itself: its own derivative, dt * u @ u, is missing beside "
    "that through the state",
    place="the derivative by k",
    line='cost = cost + dt * p["k"] * (u @ u)',
    source="SciML/SciMLSensitivity.jl #302, #285",
)
def costs_own_dependence_on_a_parameter():
    g = generator(43)
    params = {"k": np.array(0.7), "drive": g.normal(size=3)}
    start, dt, steps = g.normal(size=3), 0.1, 6

    def loss(p, start):
        u, cost = start, 0.0
        for _ in range(steps):
            cost = cost + dt * p["k"] * (u @ u)
            u = u + dt * (p["drive"] - p["k"] * jnp.sin(u))
        return cost + jnp.sum(u**3)

    def gradient(direct):
        def of(p, start):
            us = [start]
            for _ in range(steps):
                us.append(us[-1] + dt * (p["drive"] - p["k"] * np.sin(us[-1])))
            adjoint, d_k, d_drive = 3 * us[-1] ** 2, 0.0, np.zeros(3)
            for u in us[-2::-1]:
                d_k -= dt * adjoint @ np.sin(u)
                d_drive += dt * adjoint
                if direct:
                    d_k += dt * u @ u
                adjoint = adjoint * (1 - dt * p["k"] * np.cos(u)) + 2 * dt * p["k"] * u
            return {"k": np.array(d_k), "drive": d_drive}

        return of

    return loss, gradient(False), gradient(True), params, (start,)


@case(
    kind="dynamics",
    cause="x is overwritten in place: backward multiplies by its last value where the value "
    "before the step belongs",
    place="the derivative by theta",
    line='x = jnp.cos(p["theta"]) * x',
    source="taichi-dev/taichi #2505",
)
def state_overwritten_in_place():
    g = generator(44)
    params = {"theta": np.array(0.6), "start": g.normal(size=4)}
    target, steps = g.normal(size=4), 4

    def loss(p, target):
        x = p["start"]
        for _ in range(steps):
            x = jnp.cos(p["theta"]) * x
        return jnp.sum((x - target) ** 2)

    def gradient(kept):
        def of(p, target):
            xs = [p["start"] * np.cos(p["theta"]) ** n for n in range(steps + 1)]
            dx, d_theta = 2 * (xs[-1] - target), 0.0
            for n in reversed(range(steps)):
                d_theta -= np.sin(p["theta"]) * dx @ (xs[n] if kept else xs[-1])
                dx = np.cos(p["theta"]) * dx
            return {"theta": np.array(d_theta), "start": dx}

        return of

    return loss, gradient(False), gradient(True), params, (target,)


@case(
    kind="matrix",
    cause="rho is the exponential of its parameter: the factor rho is missing (right only for 1)",
    place="the derivative by log_rho",
    line='rho = jnp.exp(p["log_rho"])',
    source="alan-turing-institute/stat-fem #35",
)
def posterior_without_the_factor_of_the_log_scale():
    g = generator(45)
    params = {"log_rho": np.array(0.4), "log_sigma": np.array(-0.3)}
    A, mean, y = g.normal(size=(5, 5)), g.normal(size=5), g.normal(size=5)
    C = A @ A.T / 5

    def loss(p, C, mean, y):
        rho = jnp.exp(p["log_rho"])
        sigma = jnp.exp(p["log_sigma"])
        K = rho**2 * C + sigma**2 * jnp.eye(5)
        r = y - rho * mean
        L = jnp.linalg.cholesky(K)
        white = jax.scipy.linalg.solve_triangular(L, r, lower=True)
        return 0.5 * white @ white + jnp.sum(jnp.log(jnp.diag(L)))

    def gradient(chained):
        def of(p, C, mean, y):
            rho, sigma = np.exp(p["log_rho"]), np.exp(p["log_sigma"])
            inverse = np.linalg.inv(rho**2 * C + sigma**2 * np.eye(5))
            alpha = inverse @ (y - rho * mean)
            dK = 0.5 * (inverse - np.outer(alpha, alpha))
            d_rho = np.sum(dK * 2 * rho * C) - alpha @ mean
            d_sigma = 2 * sigma * np.trace(dK)
            return {
                "log_rho": np.array(d_rho * rho if chained else d_rho),
                "log_sigma": np.array(d_sigma * sigma),
            }

        return of

    return loss, gradient(False), gradient(True), params, (C, mean, y)


@case(
    kind="matrix",
    cause="a triangular solve reads one triangle: the derivative above the diagonal must be masked "
    "to 0",
    place="dL, above the diagonal",
    line="x = jax.scipy.linalg.solve_triangular(",
    source="ekzhang/jax-js #84",
)
def triangular_solve_not_masked():
    g = generator(46)
    params = {"L": np.tril(g.normal(size=(4, 4))) + 3 * np.eye(4), "b": g.normal(size=4)}
    t = g.normal(size=4)

    def loss(p, t):
        x = jax.scipy.linalg.solve_triangular(p["L"], p["b"], lower=True)
        return jnp.sum(jnp.sin(x) * t)

    def gradient(masked):
        def of(p, t):
            x = np.linalg.solve(p["L"], p["b"])
            db = np.linalg.solve(p["L"].T, np.cos(x) * t)
            dL = -np.outer(db, x)
            return {"L": np.tril(dL) if masked else dL, "b": db}

        return of

    return loss, gradient(False), gradient(True), params, (t,)


@case(
    kind="signal",
    cause="an odd length has no Nyquist bin: the last bin is mirrored as the others are, so it "
    "counts twice and its imaginary part has a derivative",
    place="the derivatives by the last bin",
    line="signal = jnp.fft.irfft(",
    source="ooples/AiDotNet.Tensors #911, #1021 (reviews)",
)
def odd_spectrum_with_a_nyquist_bin():
    g = generator(47)
    params = {"real": g.normal(size=4), "imaginary": g.normal(size=4)}
    t, n = g.normal(size=7), 7

    def loss(p, t):
        spectrum = p["real"] + 1j * p["imaginary"]
        signal = jnp.fft.irfft(spectrum, n)
        return jnp.sum(jnp.sin(signal) * t)

    def gradient(odd):
        def of(p, t):
            signal = np.fft.irfft(p["real"] + 1j * p["imaginary"], n)
            back = np.fft.rfft(np.cos(signal) * t)
            times = np.array([1.0, 2.0, 2.0, 2.0 if odd else 1.0]) / n
            d_imaginary = times * back.imag
            if not odd:
                d_imaginary[-1] = 0.0
            return {"real": times * back.real, "imaginary": d_imaginary}

        return of

    return loss, gradient(False), gradient(True), params, (t,)


@case(
    kind="custom rule",
    vjp=True,
    cause="the product up to each place is divided by the entry: at an entry of 0 that is 0/0, and "
    "the 0 put in its place is wrong, as the products without the entry are not 0",
    place="the derivative by the entry that is 0",
    source="tensorflow/tensorflow #119430",
)
def cumulative_product_at_a_zero():
    x = jnp.asarray([0.7, 1.3, 0.0, -2.0, 0.4])

    def products(x):
        return jnp.cumprod(x)

    def divided(x, y, cotangent):
        sums = jnp.cumsum((cotangent * y)[::-1])[::-1]
        return (jnp.where(x == 0, 0.0, sums / jnp.where(x == 0, 1.0, x)),)

    def multiplied(x, y, cotangent):
        place = np.arange(5)
        rows = [jnp.cumprod(jnp.where(place == n, 1.0, x)) * (place >= n) for n in place]
        return (jnp.stack(rows) @ cotangent,)

    return with_rule(products, divided), with_rule(products, multiplied), (x,), products
