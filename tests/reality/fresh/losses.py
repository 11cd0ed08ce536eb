"""Losses: margins, focal loss, triplets, ranking, CTC, Huber, variational autoencoders."""

import jax
import jax.numpy as jnp
import numpy as np

from ..case import gathers, generator, np_sigmoid, np_softmax, with_rule

CASES = []
case = gathers(CASES)


def sigmoid(z):
    return 1 / (1 + jnp.exp(-z))


@case(
    kind="loss",
    cause="the true class's own margin is counted with the violations: its score receives "
    "-(count + 1) where -count belongs (X_mask[y] = -count, with y itself in the count, for -=)",
    place="the derivative by the true class's score",
    line=("correct = scores", "margins = "),
    source="bruceoutdoors/CS231n #5",
)
def svm_true_class_counted():
    g = generator(11)
    params = {"W": g.normal(size=(6, 4)) * 0.3}
    X, y = g.normal(size=(11, 6)), g.integers(0, 4, 11)

    def loss(p, X, y):
        n = jnp.arange(len(y))
        scores = X @ p["W"]
        correct = scores[n, y]
        margins = jnp.maximum(0, scores - correct[:, None] + 1)
        return jnp.sum(margins.at[n, y].set(0)) / len(y)

    def gradient(subtract):
        def of(p, X, y):
            n = np.arange(len(y))
            scores = X @ p["W"]
            mask = (scores - scores[n, y][:, None] + 1 > 0).astype(float)
            counts = mask.sum(axis=1)
            if subtract:
                mask[n, y] -= counts
            else:
                mask[n, y] = -counts
            return {"W": X.T @ mask / len(y)}

        return of

    return loss, gradient(False), gradient(True), params, (X, y)


@case(
    kind="loss",
    cause="the derivative by the probability is returned for that by the raw score: "
    "dp/da = p * (1 - p) is missing",
    place="the derivative by a",
    line="p = sigmoid(a)",
    source="rahowa/catboost_focal_loss #2",
)
def focal_loss_without_the_sigmoids_slope():
    g = generator(12)
    params = {"w": g.normal(size=5), "b": np.array(0.2)}
    X, y, gamma = g.normal(size=(10, 5)), g.integers(0, 2, 10).astype(float), 2.0

    def loss(params, X, y):
        a = X @ params["w"] + params["b"]
        p = sigmoid(a)
        positive = y * (1 - p) ** gamma * jnp.log(p)
        negative = (1 - y) * p**gamma * jnp.log(1 - p)
        return -jnp.sum(positive + negative)

    def gradient(slope):
        def of(params, X, y):
            p = np_sigmoid(X @ params["w"] + params["b"])
            dp = -y * ((1 - p) ** gamma / p - gamma * (1 - p) ** (gamma - 1) * np.log(p))
            dp -= (1 - y) * (gamma * p ** (gamma - 1) * np.log(1 - p) - p**gamma / (1 - p))
            da = dp * p * (1 - p) if slope else dp
            return {"w": X.T @ da, "b": da.sum()}

        return of

    return loss, gradient(False), gradient(True), params, (X, y)


@case(
    kind="loss",
    cause="only the anchor moves: the derivatives by the positive and by the negative are missing",
    place="the derivatives by the embedded positive and negative",
    line=("positive = ", "negative = ", "near = ", "far = "),
    source="jhjin/triplet-criterion #2",
)
def triplet_moves_only_the_anchor():
    g = generator(13)
    params = {"W": g.normal(size=(5, 3))}
    xa, xp, xn = (g.normal(size=(6, 5)) for _ in range(3))

    def loss(p, xa, xp, xn):
        anchor = jnp.tanh(xa @ p["W"])
        positive = jnp.tanh(xp @ p["W"])
        negative = jnp.tanh(xn @ p["W"])
        near = jnp.sum((anchor - positive) ** 2, axis=1)
        far = jnp.sum((anchor - negative) ** 2, axis=1)
        return jnp.mean(jnp.maximum(0, near - far + 4.0))

    def gradient(all_three):
        def of(p, xa, xp, xn):
            a, b, c = (np.tanh(x @ p["W"]) for x in (xa, xp, xn))
            active = ((a - b) ** 2).sum(1) - ((a - c) ** 2).sum(1) + 4.0 > 0
            scale = 2 * active[:, None] / len(xa)
            dW = xa.T @ (scale * (c - b) * (1 - a * a))
            if all_three:
                dW += xp.T @ (scale * (b - a) * (1 - b * b))
                dW += xn.T @ (scale * (a - c) * (1 - c * c))
            return {"W": dW}

        return of

    return loss, gradient(False), gradient(True), params, (xa, xp, xn)


@case(
    kind="loss",
    cause="the derivative by the label is returned: -(score_1 - score_2) stands where -y belongs",
    place="the derivative by score_1 - score_2",
    line="violation = -y * (score_1 - score_2)",
    source="mlpack/mlpack #3167",
)
def ranking_loss_by_its_labels():
    g = generator(14)
    params = {"w": g.normal(size=5)}
    X1, X2, y = g.normal(size=(8, 5)), g.normal(size=(8, 5)), np.where(np.arange(8) % 2, 1.0, -1.0)

    def loss(p, X1, X2, y):
        score_1 = X1 @ p["w"]
        score_2 = X2 @ p["w"]
        violation = -y * (score_1 - score_2) + 1.0
        return jnp.mean(jnp.maximum(0, violation))

    def gradient(by_label):
        def of(p, X1, X2, y):
            difference = (X1 - X2) @ p["w"]
            active = (-y * difference + 1.0 > 0) / len(y)
            d = -difference * active if by_label else -y * active
            return {"w": X1.T @ d - X2.T @ d}

        return of

    return loss, gradient(True), gradient(False), params, (X1, X2, y)


@case(
    kind="loss",
    cause="the loss takes log-probabilities, and their derivative is minus the posterior; exp of "
    "them was added, which belongs to the logits before a log-softmax",
    place="the derivative by the log-probabilities",
    line="probabilities = jnp.exp(",
    source="pytorch/pytorch #52241",
)
def ctc_gradient_of_the_logits():
    g = generator(15)
    T, K = 5, 4
    extended = np.array([0, 1, 0, 2, 0])
    raw = g.normal(size=(T, K))
    params = {"log_p": raw - np.log(np.exp(raw).sum(1, keepdims=True))}
    skips = np.array([0.0, 0.0, 0.0, 1.0, 0.0])

    def loss(p, extended):
        probabilities = jnp.exp(p["log_p"])
        emitted = probabilities[:, extended]
        alpha = jnp.where(jnp.arange(5) < 2, emitted[0], 0.0)
        for t in range(1, T):
            one_back = jnp.concatenate([jnp.zeros(1), alpha[:-1]])
            two_back = jnp.concatenate([jnp.zeros(2), alpha[:-2]])
            alpha = (alpha + one_back + skips * two_back) * emitted[t]
        return -jnp.log(alpha[-1] + alpha[-2])

    def gradient(of_logits):
        def of(p, extended):
            emitted = np.exp(p["log_p"])[:, extended]
            alphas = [np.where(np.arange(5) < 2, emitted[0], 0.0)]
            for t in range(1, T):
                a = alphas[-1]
                one_back, two_back = np.r_[0, a[:-1]], np.r_[0, 0, a[:-2]]
                alphas.append((a + one_back + skips * two_back) * emitted[t])
            total = alphas[-1][-1] + alphas[-1][-2]
            beta = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
            d = np.zeros_like(p["log_p"])
            for t in reversed(range(T)):
                np.add.at(d[t], extended, -alphas[t] * beta / total)
                b = beta * emitted[t]
                beta = b + np.r_[b[1:], 0] + np.r_[(skips * b)[2:], 0, 0]
            if of_logits:
                d += np.exp(p["log_p"])
            return {"log_p": d}

        return of

    return loss, gradient(True), gradient(False), params, (extended,)


def huber(x0, x1):
    difference = x0 - x1
    small = jnp.abs(difference) <= 1.0
    each = jnp.where(small, 0.5 * difference**2, jnp.abs(difference) - 0.5)
    return each.sum(axis=1)


@case(
    kind="loss",
    vjp=True,
    cause="the cotangent is ignored: right only where it is 1, so the result must be multiplied by "
    "it",
    place="both derivatives",
    source="chainer/chainer #1175, #1178",
)
def huber_ignores_its_cotangent():
    g = generator(16)
    args = jnp.asarray(g.normal(size=(4, 5)) * 1.5), jnp.asarray(g.normal(size=(4, 5)))

    def rule(use):
        def backward(x0, x1, y, cotangent):
            d = jnp.clip(x0 - x1, -1.0, 1.0) * (cotangent[:, None] if use else 1.0)
            return d, -d

        return with_rule(huber, backward)

    return rule(False), rule(True), args, huber


@case(
    kind="variational",
    cause="half the log-variance is in the loss, so its derivative has 1/2; it has 1/4",
    place="the derivative by log_variance",
    line="spread = 0.5 * (LOG_2_PI + log_variance)",
    source="y0ast/VAE-Torch #5",
)
def gaussian_log_variance_quartered():
    g = generator(17)
    params = {"mean": g.normal(size=(3, 4)), "variance": g.normal(size=(3, 4)) * 0.5}
    z, x = g.normal(size=(7, 3)), g.normal(size=(7, 4))
    LOG_2_PI = float(np.log(2 * np.pi))

    def loss(p, z, x):
        mean = z @ p["mean"]
        log_variance = z @ p["variance"]
        spread = 0.5 * (LOG_2_PI + log_variance)
        misfit = 0.5 * (x - mean) ** 2 / jnp.exp(log_variance)
        return jnp.sum(spread + misfit)

    def gradient(half):
        def of(p, z, x):
            mean, log_variance = z @ p["mean"], z @ p["variance"]
            misfit = 0.5 * (x - mean) ** 2 / np.exp(log_variance)
            return {
                "mean": z.T @ ((mean - x) / np.exp(log_variance)),
                "variance": z.T @ (half - misfit),
            }

        return of

    return loss, gradient(0.25), gradient(0.5), params, (z, x)


@case(
    kind="variational",
    cause="the gradient of the divergence has the wrong sign: it drives q away from the prior",
    place="the derivative of the divergence by the logits",
    line=("divergence = ", "return reconstruction + divergence"),
    source="Kaixhin/Autoencoders #9",
)
def categorical_divergence_reversed():
    g = generator(18)
    params = {"W": g.normal(size=(5, 4)), "V": g.normal(size=(4, 5))}
    x = g.normal(size=(8, 5))

    def loss(p, x):
        log_q = jax.nn.log_softmax(x @ p["W"])
        q = jnp.exp(log_q)
        reconstruction = jnp.sum((q @ p["V"] - x) ** 2)
        divergence = jnp.sum(q * (log_q - jnp.log(1 / 4)))
        return reconstruction + divergence

    def gradient(sign):
        def of(p, x):
            q = np_softmax(x @ p["W"])
            d_out = 2 * (q @ p["V"] - x)
            dq = d_out @ p["V"].T + sign * (np.log(q) + np.log(4) + 1)
            d_logits = q * (dq - (q * dq).sum(axis=1, keepdims=True))
            return {"W": x.T @ d_logits, "V": q.T @ d_out}

        return of

    return loss, gradient(-1), gradient(1), params, (x,)
