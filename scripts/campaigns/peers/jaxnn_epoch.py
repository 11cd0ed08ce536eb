"""jaxnn: the compiled epoch that scripts/train.py runs."""

import jax
import jax.numpy as jnp

from jaxnn.data import Dataset
from jaxnn.training.config import Config
from jaxnn.training.loop import epoch_program
from jaxnn.training.program import Hyperparameters, Program
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
    hyper, scale = Hyperparameters.of(config), jnp.float32(problem.scale)
    one_epoch = epoch_program(dataset, config, Program.of(config, dataset), hyper)
    images, labels = jax.device_put(train_set)
    orders = problem.orders.astype("uint32")
    keys = jax.random.fold_in(jax.random.key(spec.seed), 1)
    state = jax.tree.map(jnp.array, init_state(problem.params, hyper))

    def train(epoch):
        nonlocal state
        key, order = jax.random.fold_in(keys, epoch), jnp.asarray(orders[epoch - 1])
        state = jax.block_until_ready(one_epoch(state, images, labels, scale, key, hyper, order))

    return train, lambda: state.params
