"""jaxnn: the compiled epoch that scripts/train.py runs."""

import jax
import jax.numpy as jnp

from jaxnn.data import Dataset
from jaxnn.training.config import Config
from jaxnn.training.loop import compiled_epoch, hyperparameters
from jaxnn.training.step import init_state


def prepare(problem):
    spec = problem.spec
    config = Config(
        lr=spec.lr, beta=spec.beta, batch_size=spec.batch_size, n_h=tuple(spec.n_h), seed=spec.seed
    )
    train_set = problem.images, problem.labels
    dataset = Dataset(
        "benchmark", "", *train_set, *train_set, problem.n_classes, None, problem.scale
    )
    one_epoch = compiled_epoch(dataset, config)
    hyper, scale = hyperparameters(config), jnp.float32(problem.scale)
    images, labels = jax.device_put(train_set)
    orders = problem.orders.astype("uint32")
    keys = jax.random.fold_in(jax.random.key(spec.seed), 1)
    state = jax.tree.map(jnp.array, init_state(problem.params, hyper))

    def train(epoch):
        nonlocal state
        key, order = jax.random.fold_in(keys, epoch), jnp.asarray(orders[epoch - 1])
        state = jax.block_until_ready(one_epoch(state, images, labels, scale, key, order))

    return train, lambda: state.params
