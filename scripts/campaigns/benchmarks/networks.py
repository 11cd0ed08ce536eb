"""Networks that differ in seed and learning rate, trained in one program or one by one.

Each holds out its own validation set, as in a sweep. Both ways return two functions: `train(e)`
trains every network's epoch e = 1, 2, …, each in the order of its own seed, and returns the seconds
of its steps; `parameters()` returns the networks' parameters in the order of `grid`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import Spec, examples
from jaxnn.data import Dataset, with_validation
from jaxnn.nn.mlp import Params
from jaxnn.training.config import Config
from jaxnn.training.loop import epoch_key_and_order, epoch_program, initial_state
from jaxnn.training.program import Hyperparameters, Program
from jaxnn.training.sweep import SweepProgram, use_every_core

Grid = Sequence[tuple[int, float]]
Ways = tuple[Callable[[int], float], Callable[[], list[Params]]]

#: The share of the examples that is held out.
VALIDATION = 1 / 12


def configurations(spec: Spec, grid: Grid) -> list[Config]:
    """The configuration of every network."""
    base = Config(
        n_h=tuple(spec.n_h), batch_size=spec.batch_size, beta=spec.beta, validation=VALIDATION
    )
    return [replace(base, seed=seed, lr=lr) for seed, lr in grid]


def in_turn(spec: Spec, grid: Grid) -> Ways:
    """One compiled epoch, called for each network; compiled once, for all learning rates."""
    dataset, configs = _dataset(spec), configurations(spec, grid)
    sets = {seed: with_validation(dataset, VALIDATION, seed) for seed, _ in grid}
    first, hypers = sets[configs[0].seed], [Hyperparameters.of(config) for config in configs]
    one_epoch = epoch_program(first, configs[0], Program.of(configs[0], first), hypers[0])
    on_device = {s: jax.device_put((d.x_train, d.y_train)) for s, d in sets.items()}
    states = [initial_state(config, dataset.n_x, dataset.n_classes) for config in configs]
    scale = jnp.float32(dataset.scale)

    def train(epoch: int) -> float:
        begun = time.perf_counter()
        for index, config in enumerate(configs):
            key, order = epoch_key_and_order(config, epoch, sets[config.seed].n_train)
            states[index] = one_epoch(
                states[index], *on_device[config.seed], scale, key, hypers[index], order
            )
            jax.block_until_ready(states[index])
        return time.perf_counter() - begun

    return train, lambda: [state.params for state in states]


def together(spec: Spec, grid: Grid) -> Ways:
    """The program of a sweep, over every core of this machine."""
    use_every_core(len(grid))
    configs = configurations(spec, grid)
    program = SweepProgram(_dataset(spec), configs, jax.devices())
    members, trained = program.stacked(configs)

    def train(epoch: int) -> float:
        nonlocal trained
        begun = time.perf_counter()
        trained = jax.block_until_ready(program.epoch(trained, members, np.uint32(epoch)))
        return time.perf_counter() - begun

    def parameters() -> list[Params]:
        params = trained.state.params
        return [jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(len(grid))]

    return train, parameters


def _dataset(spec: Spec) -> Dataset:
    images, labels, scale, n_classes = examples(spec)
    return Dataset("benchmark", "", images, labels, images[:1], labels[:1], n_classes, None, scale)
