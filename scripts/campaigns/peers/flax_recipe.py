"""The recipe `fast` in Flax NNX with optax: a ReLU network, SGD with momentum, a one-cycle rate."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from flax.nnx.nn.initializers import variance_scaling

sys.path.insert(0, str(Path(__file__).parents[3]))

from fast_recipe import RECIPE, flags, one_cycle
from jaxnn import data  # the same bytes as every contender


class Network(nnx.Module):
    def __init__(self, n_x, n_h, n_y, rngs):
        init = variance_scaling(2.0, "fan_in", "normal")
        sizes = zip((n_x, *n_h), (*n_h, n_y), strict=True)
        self.layers = nnx.List(
            nnx.Linear(n_in, n_out, kernel_init=init, rngs=rngs) for n_in, n_out in sizes
        )

    def __call__(self, x):
        *hidden, output = self.layers
        for layer in hidden:
            x = nnx.relu(layer(x))
        return output(x)


def cross_entropy(model, x, y):
    logits = model(x)
    targets = optax.smooth_labels(jax.nn.one_hot(y, logits.shape[1]), RECIPE["label_smoothing"])
    return optax.softmax_cross_entropy(logits, targets).mean()


@nnx.jit
def step(model, optimiser, x, y):
    optimiser.update(model, nnx.grad(cross_entropy)(model, x, y))


@nnx.jit
def accuracy(model, x, y):
    return (model(x).argmax(axis=1) == y).mean()


def main():
    args = flags(__doc__)
    dataset = data.load(args.data)
    scale = np.float32(dataset.scale)
    X, X_test = (x.astype(np.float32) * scale for x in (dataset.x_train, dataset.x_test))
    n, size = len(X), RECIPE["batch_size"]
    steps = -(-n // size) * RECIPE["epochs"]
    factors = jnp.array([one_cycle(step / steps) for step in range(steps)], jnp.float32)
    lr, beta = RECIPE["lr"] * (1 - RECIPE["beta"]), RECIPE["beta"]
    model = Network(dataset.n_x, RECIPE["n_h"], dataset.n_classes, nnx.Rngs(args.seed))
    rule = optax.sgd(lambda step: lr * factors[step], momentum=beta)
    optimiser = nnx.Optimizer(model, rule, wrt=nnx.Param)
    rng = np.random.default_rng(args.seed)
    for epoch in range(1, RECIPE["epochs"] + 1):
        order = rng.permutation(n)
        for begin in range(0, n, size):
            rows = order[begin : begin + size]
            step(model, optimiser, X[rows], dataset.y_train[rows])
        correct = float(accuracy(model, X_test, dataset.y_test))
        print(f"epoch {epoch}: test accuracy {correct:.2%}", flush=True)


if __name__ == "__main__":
    main()
