"""`jax.grad` in a jitted step, called from a Python loop; the batch is gathered inside the step."""

from functools import partial

import jax
import jax.numpy as jnp


def cross_entropy(params, x, y):
    A1 = jax.nn.sigmoid(x @ params["W1"].T + params["b1"][None, :])
    logits = A1 @ params["W2"].T + params["b2"][None, :]
    return -(jax.nn.log_softmax(logits) * y).sum(axis=1).mean()


@partial(jax.jit, donate_argnums=(0, 1))
def step(params, V, X, Y, rows, lr, beta):
    grads = jax.grad(cross_entropy)(params, X[rows], Y[rows])
    V = jax.tree.map(lambda v, g: beta * v + (1 - beta) * g, V, grads)
    return jax.tree.map(lambda p, v: p - lr * v, params, V), V


def prepare(problem):
    X, Y = jnp.asarray(problem.X), jnp.asarray(problem.Y)
    lr, beta = jnp.float32(problem.spec.lr), jnp.float32(problem.spec.beta)
    params = jax.tree.map(jnp.array, problem.params)
    V = jax.tree.map(jnp.zeros_like, params)

    def train(epoch):
        nonlocal params, V
        for rows in problem.batches(epoch):
            params, V = step(params, V, X, Y, rows, lr, beta)
        jax.block_until_ready(params)

    return train, lambda: params
