"""Losses and backward passes."""

import jax
import jax.numpy as jnp
import numpy as np

from ..case import gathers, generator, np_softmax, with_rule

CASES = []
case = gathers(CASES)


def softmax(x):
    return jax.nn.softmax(x, axis=-1)


@case(
    kind="loss",
    vjp=True,
    cause="only the diagonal y * (1 - y) of the Jacobian is there: the other outputs are missing",
    place="dx",
    source="deeplearning4j/libnd4j #440",
)
def softmax_by_its_diagonal():
    x = jnp.asarray(generator(121).normal(size=(3, 6)))

    def diagonal(x, y, g):
        return (y * (1 - y) * g,)

    def whole(x, y, g):
        return (y * (g - jnp.sum(y * g, axis=-1, keepdims=True)),)

    return with_rule(softmax, diagonal), with_rule(softmax, whole), (x,), softmax


@case(
    kind="loss",
    vjp=True,
    cause="the cotangent is multiplied in twice, once with the mask and once more at the end",
    place="dx",
    source="elixir-nx/nx #1779",
)
def clip_with_the_cotangent_squared():
    x = jnp.asarray(generator(122).normal(size=(3, 5)) * 2)

    def clipped(x):
        return jnp.clip(x, -1.0, 1.0)

    def squared(x, y, g):
        return (jnp.where(jnp.abs(x) < 1, g, 0.0) * g,)

    def once(x, y, g):
        return (jnp.where(jnp.abs(x) < 1, g, 0.0),)

    return with_rule(clipped, squared), with_rule(clipped, once), (x,), clipped


@case(
    kind="loss",
    cause="examples whose label is ignored have no loss, but still pull: their rows must be 0",
    place="the derivative by the scores, in the rows of the ignored examples",
    line=("ignored = ", "each = jnp.where("),
    source="PaddlePaddle/Paddle #28622",
)
def ignored_labels_pull():
    g = generator(123)
    params = {"W": g.normal(size=(4, 5)), "b": g.normal(size=5)}
    X, y = g.normal(size=(9, 4)), g.integers(0, 4, 9)
    y[[2, 6]] = 4

    def loss(p, X, y):
        log_p = jax.nn.log_softmax(X @ p["W"] + p["b"])
        ignored = y == 4
        each = jnp.where(ignored, 0.0, log_p[jnp.arange(len(y)), y])
        return -jnp.sum(each) / len(y)

    def gradient(masked):
        def of(p, X, y):
            d = np_softmax(X @ p["W"] + p["b"])
            d[np.arange(len(y)), y] -= 1
            if masked:
                d[y == 4] = 0
            d /= len(y)
            return {"W": X.T @ d, "b": d.sum(axis=0)}

        return of

    return loss, gradient(False), gradient(True), params, (X, y)


@case(
    kind="custom rule",
    vjp=True,
    cause="the derivative by y has the wrong sign: that of sin(x) * y is sin(x)",
    place="the derivative by the second argument",
    source="jax-ml/jax #3213, #13048",
)
def sign_of_the_second_argument():
    g = generator(124)
    args = jnp.asarray(g.normal(size=5)), jnp.asarray(g.normal(size=5))

    def product(x, y):
        return jnp.sin(x) * y

    def rule(sign):
        def backward(x, y, out, g):
            return jnp.cos(x) * y * g, sign * jnp.sin(x) * g

        return with_rule(product, backward)

    return rule(-1), rule(1), args, product


@case(
    kind="custom rule",
    cause="0 * inf: where the length is 0 its derivative divides by 0, though the branch is not "
    "taken",
    place="the rows that are 0",
    source="ml-explore/mlx #3692, #3733; jax-ml/jax #5798",
)
def length_of_a_zero_row():
    g = generator(125)
    rows = g.normal(size=(6, 3))
    rows[[1, 4]] = 0
    params, t = {"rows": rows}, g.normal(size=6)

    def loss(p, t):
        squared = jnp.sum(p["rows"] ** 2, axis=1)
        positive = squared > 0
        length = jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)
        return jnp.sum(length * t)

    def gradient(safe):
        def of(p, t):
            squared = np.sum(p["rows"] ** 2, axis=1)
            g = np.where(squared > 0, t, 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                slope = g / np.sqrt(np.where(squared > 0, squared, 1.0) if safe else squared)
            return {"rows": slope[:, None] * p["rows"]}

        return of

    return loss, gradient(False), gradient(True), params, (t,)
