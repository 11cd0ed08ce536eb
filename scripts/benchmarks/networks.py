"""Networks that differ in seed and learning rate, trained in one program or one by one.

Both ways return two functions: `train(e)` trains every network's epoch e = 1, 2, …, each in the
order of its own seed, and returns the seconds of its steps; `parameters()` returns the networks'
parameters in the order of `grid`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.problem import Spec, examples
from jaxnn.config import Config
from jaxnn.data import Dataset
from jaxnn.fit import compiled_epoch, hyperparameters, initial_state
from jaxnn.mlp import Params
from jaxnn.training import train_epoch

Grid = Sequence[tuple[int, float]]
Ways = tuple[Callable[[int], float], Callable[[], list[Params]]]


def configurations(spec: Spec, grid: Grid) -> list[Config]:
    """The configuration of every network."""
    base = Config(n_h=tuple(spec.n_h), batch_size=spec.batch_size, beta=spec.beta)
    return [replace(base, seed=seed, lr=lr) for seed, lr in grid]


def in_turn(spec: Spec, grid: Grid) -> Ways:
    """One compiled epoch, called for each network; compiled once, for all learning rates."""
    images, labels, scale, n_classes = examples(spec)
    split = images, labels
    configs = configurations(spec, grid)
    dataset = Dataset("benchmark", "", *split, *split, n_classes, None, scale)
    one_epoch = compiled_epoch(dataset, configs[0])
    on_device = *jax.device_put(split), jnp.float32(scale)
    states = [initial_state(config, images.shape[1], n_classes) for config in configs]

    def train(epoch: int) -> float:
        begun = time.perf_counter()
        for index, config in enumerate(configs):
            key = jax.random.fold_in(_keys(config), epoch)
            states[index] = one_epoch(states[index], *on_device, key, hyper=hyperparameters(config))
            jax.block_until_ready(states[index])
        return time.perf_counter() - begun

    return train, lambda: [state.params for state in states]


def together(spec: Spec, grid: Grid) -> Ways:
    """`train_epoch`, vmapped over state, order and learning rate."""
    images, labels, scale, n_classes = examples(spec)
    configs = configurations(spec, grid)
    on_device = *jax.device_put((images, labels)), jnp.float32(scale)
    states = _stacked([initial_state(config, images.shape[1], n_classes) for config in configs])
    hyper = _stacked([hyperparameters(config) for config in configs])
    keys = jnp.stack([_keys(config) for config in configs])

    one_epoch = partial(train_epoch, batch_size=spec.batch_size)
    epoch_of_all = jax.jit(
        jax.vmap(one_epoch, in_axes=(0, None, None, None, 0, 0)), donate_argnums=0
    )

    def train(epoch: int) -> float:
        nonlocal states
        begun = time.perf_counter()
        epoch_keys = jax.vmap(lambda key: jax.random.fold_in(key, epoch))(keys)
        states = jax.block_until_ready(epoch_of_all(states, *on_device, epoch_keys, hyper))
        return time.perf_counter() - begun

    def parameters() -> list[Params]:
        return [jax.tree.map(lambda leaf, i=i: leaf[i], states.params) for i in range(len(grid))]

    return train, parameters


def _keys(config: Config) -> jax.Array:
    return jax.random.fold_in(jax.random.key(config.seed), 1)


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
