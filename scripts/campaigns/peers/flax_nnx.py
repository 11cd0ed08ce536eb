"""Flax NNX with optax: a module, `nnx.Optimizer`, and a jitted step in a Python loop.

The document's momentum is that of `optax.sgd` at the learning rate lr (1 − β).
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx


class Network(nnx.Module):
    def __init__(self, n_x, n_h, n_y, rngs):
        self.hidden = nnx.Linear(n_x, n_h, rngs=rngs)
        self.output = nnx.Linear(n_h, n_y, rngs=rngs)

    def __call__(self, x):
        return self.output(nnx.sigmoid(self.hidden(x)))


def cross_entropy(model, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()


@nnx.jit
def step(model, optimiser, x, y):
    grads = nnx.grad(cross_entropy)(model, x, y)
    optimiser.update(model, grads)


def prepare(problem):
    X, y = problem.X, problem.labels
    (n_h,), lr, beta = problem.spec.n_h, problem.spec.lr, problem.spec.beta
    model = Network(X.shape[1], n_h, problem.n_classes, nnx.Rngs(0))
    layers = [model.hidden, model.output]
    for number, layer in enumerate(layers, start=1):
        layer.kernel[...] = jnp.asarray(problem.params[f"W{number}"].T)
        layer.bias[...] = jnp.asarray(problem.params[f"b{number}"])
    optimiser = nnx.Optimizer(model, optax.sgd(lr * (1 - beta), momentum=beta), wrt=nnx.Param)

    def train(epoch):
        for rows in problem.batches(epoch):
            step(model, optimiser, X[rows], y[rows])
        jax.block_until_ready(nnx.state(model))

    def parameters():
        params = {f"W{n}": layer.kernel[...].T for n, layer in enumerate(layers, start=1)}
        return params | {f"b{n}": layer.bias[...] for n, layer in enumerate(layers, start=1)}

    return train, parameters
