"""Many networks in one compiled program: every run of a grid, each as it would be alone.

The runs of a group have the same shapes. Their states are stacked along a new first axis, which is
spread over the devices; on each device the program goes through its runs. A CPU takes them one
after the other, each on one core: a network's 400 kB then stay in that core's cache from step to
step, and no product waits for another core. Other devices take them side by side (`jax.vmap`).

A run draws its weights, its validation set and the order of its examples from its own seed, with
the keys of `jaxnn.training.loop`: it is the run of `scripts/train.py` with the same flags, up to
rounding.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Compiled

from jaxnn.compilation import compiled
from jaxnn.data import Dataset, with_validation
from jaxnn.data.memory import free_on_host
from jaxnn.errors import SettingError, UsageError
from jaxnn.nn.activations import Activation
from jaxnn.nn.mlp import Params
from jaxnn.nn.optimisers import momentum
from jaxnn.training.config import Config
from jaxnn.training.data_parallel import cores
from jaxnn.training.evaluation import all_logits, evaluation_slices, score
from jaxnn.training.grid import best_run, groups, points
from jaxnn.training.loop import (
    Record,
    Snapshot,
    initial_state,
    state_shapes,
)
from jaxnn.training.program import Hyperparameters, Program, optimiser_of
from jaxnn.training.shuffle import permutation
from jaxnn.training.step import TrainState, train_epoch

#: The part of the free memory that a sweep takes unless it is told otherwise.
SHARE_OF_FREE_MEMORY = 0.5

RUNS = "runs"
PARTS = ("train", "validation")
MEASURES = tuple(f"{part}_{measure}" for measure in ("loss", "accuracy") for part in PARTS)


class Members(NamedTuple):
    """What the runs of a chunk are, stacked: the arguments of the program besides the images.

    `keys` are those that each epoch's key is folded from; `kept` and `held` the rows of the
    training set to train on, (runs, n), and to validate on.
    """

    keys: Array
    hyper: Hyperparameters
    kept: Array
    held: Array


class SweepState(NamedTuple):
    """What an epoch changes, stacked: the states, and the parameters with the lowest validation
    loss so far, with that loss."""

    state: TrainState
    best: Params
    best_loss: Array


class SweepStatus(NamedTuple):
    """Where a sweep stands, after an `epoch` of the `chunk` of runs that begins at number `first`.

    `done` of `total` epochs of single networks are over; this one took so many `seconds` for all of
    its runs. `histories` has the records of every run so far (as `loop.Snapshot` has them; a
    record's seconds are the run's share of the program's). A run in `diverged` ends before the
    epoch that this names. `snapshot` gives the state of a point's best run by validation loss,
    until the sweep goes on.
    """

    chunk: Sequence[Config]
    first: int
    epoch: int
    seconds: float
    done: int
    total: int
    histories: Mapping[Config, tuple[Record, ...]]
    diverged: Mapping[Config, int]
    snapshot: Callable[[Config], Snapshot]


def use_every_core(runs: int) -> None:
    """Make a device of each core of this CPU, for up to so many runs.

    Once jax is in use, or where XLA_FLAGS says how many there are, nothing changes.
    """
    if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", max(1, min(cores(), runs)))


def sweep(
    dataset: Dataset,
    configs: Sequence[Config],
    memory: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Iterator[SweepStatus]:
    """Train every run, yielding after each epoch of each chunk.

    `dataset` is whole; each of `configs`, which are distinct, says how much is held out for
    validation. `memory` in bytes bounds a chunk, half of what is free by default; `devices` are
    all by default. Raises `UsageError` where one network does not fit into the memory.
    """
    _require_plain(configs)
    devices = devices or jax.devices()
    memory = memory or _allowance(devices)
    histories: dict[Config, tuple[Record, ...]] = dict.fromkeys(configs, ())
    diverged: dict[Config, int] = {}
    kept: dict[Config, Snapshot] = {}
    total, done, first = sum(config.epochs for config in configs), 0, 0

    for group in groups(configs):
        used = devices[: len(group)]
        program: SweepProgram | None = None
        for chunk in chunks(dataset, group, memory, used):
            program = program or SweepProgram(dataset, chunk, used)
            members, trained = program.stacked(chunk)
            for epoch in range(1, chunk[0].epochs + 1):
                begun = time.perf_counter()
                trained = jax.block_until_ready(program.epoch(trained, members, np.uint32(epoch)))
                seconds = time.perf_counter() - begun
                trained, measures = program.measure(trained, members)
                _note(chunk, epoch, measures, seconds, histories, diverged)
                done += len(chunk)
                snapshot = partial(_snapshot, kept, chunk, trained, histories)
                yield SweepStatus(
                    chunk, first, epoch, seconds, done, total, histories, diverged, snapshot
                )
            _keep_best(chunk, histories, diverged, snapshot, kept)
            first += len(chunk)


def _require_plain(configs: Sequence[Config]) -> None:
    for config in configs:
        hyper = Hyperparameters.of(config)
        plain = Hyperparameters(hyper.optimiser)
        if (optimiser_of(config), hyper, config.init) != (momentum, plain, "document"):
            raise UsageError("a sweep trains the document's network: expected no further terms")
        if config.committee > 1:
            raise UsageError("a sweep trains single networks: expected no committee")


class SweepProgram:
    """The compiled epoch and measurement for a chunk of runs of this structure and number."""

    def __init__(
        self, dataset: Dataset, chunk: Sequence[Config], devices: Sequence[jax.Device]
    ) -> None:
        mesh = Mesh(np.asarray(devices), (RUNS,))
        self.dataset = dataset
        self.size = math.ceil(len(chunk) / len(devices)) * len(devices)
        self.apart = NamedSharding(mesh, PartitionSpec(RUNS))
        everywhere = NamedSharding(mesh, PartitionSpec())
        self.data = jax.device_put(
            (dataset.x_train, dataset.y_train, np.float32(dataset.scale)), everywhere
        )
        each = _each(mesh.devices.flat[0].platform)
        program = Program.of(chunk[0], dataset)
        self._epoch = self._compiled(
            mesh,
            each,
            partial(_one_epoch, program=program),
            chunk,
            jnp.uint32(0),
            spread=program.transposed,
        )
        # One after the other on every device: these products are large, and so are their results.
        self._measure = self._compiled(
            mesh, jax.lax.map, partial(_measured, activation=program.activation), chunk
        )

    def stacked(self, chunk: Sequence[Config]) -> tuple[Members, SweepState]:
        """The runs before their first epoch, filled up to the program's size with the last."""
        runs = [*chunk, *[chunk[-1]] * (self.size - len(chunk))]
        n_x, n_classes = self.dataset.n_x, self.dataset.n_classes
        states = [initial_state(config, n_x, n_classes) for config in runs]
        rows = {config.seed: _rows(self.dataset, config) for config in runs}
        kept, held = (np.stack([rows[config.seed][part] for config in runs]) for part in (0, 1))
        members = Members(
            jnp.stack([jax.random.fold_in(jax.random.key(config.seed), 1) for config in runs]),
            _stack([Hyperparameters.of(config) for config in runs]),
            jnp.asarray(kept),
            jnp.asarray(held),
        )
        state = _stack(states)
        trained = SweepState(
            state, jax.tree.map(np.copy, state.params), jnp.full(self.size, jnp.inf)
        )
        placed: tuple[Members, SweepState] = jax.device_put((members, trained), self.apart)
        return placed

    def epoch(self, trained: SweepState, members: Members, number: np.uint32) -> SweepState:
        """Every run after its next epoch. `trained` is donated."""
        result: SweepState = self._epoch(trained, members, *self.data, number)
        return result

    def measure(self, trained: SweepState, members: Members) -> tuple[SweepState, dict[str, Any]]:
        """The losses and right answers of every run, (size,), and its best parameters renewed."""
        renewed, measures = self._measure(trained, members, *self.data)
        sizes = (members.kept.shape[1], members.held.shape[1])
        figures = {name: np.asarray(value, np.float64) for name, value in measures.items()}
        for part, size in zip(PARTS, sizes, strict=True):
            figures[f"{part}_accuracy"] = figures[f"{part}_accuracy"] / size
        return renewed, figures

    def _compiled(
        self,
        mesh: Mesh,
        each: Any,
        one: Callable[..., Any],
        chunk: Sequence[Config],
        *more: Array,
        spread: bool = False,
    ) -> Compiled:
        def all_runs(trained: SweepState, members: Members, *shared: Array) -> Any:
            return each(lambda run: one(*run, *shared), (trained, members))

        split = PartitionSpec(RUNS)
        whole = (PartitionSpec(),) * (len(self.data) + len(more))
        on_devices = jax.shard_map(
            all_runs, mesh=mesh, in_specs=(split, split, *whole), out_specs=split, check_vma=False
        )
        members, trained = jax.eval_shape(partial(_shapes_of, self.dataset, chunk[0], self.size))
        placed = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.apart),
            (trained, members),
        )
        program = jax.jit(on_devices, donate_argnums=0)
        return compiled(program.lower(*placed, *self.data, *more), spread=spread)


def chunks(
    dataset: Dataset, group: Sequence[Config], memory: int, devices: Sequence[jax.Device]
) -> list[list[Config]]:
    """The runs of a group in as few parts as fit into the memory, all of about the same size.

    Raises `UsageError` where not even one run for each device fits.
    """
    fixed, each = memory_needed(dataset, group[0], len(devices), devices[0].platform)
    room = int((memory - fixed) // each) // len(devices) * len(devices)
    if room < 1:
        least = math.ceil((fixed + len(devices) * each) / 2**20)
        raise SettingError(
            f"`memory`: expected at least {least} MiB for a network of hidden layers "
            f"{'-'.join(map(str, group[0].n_h))} on each of {len(devices)} devices, found "
            f"{memory / 2**20:.0f}"
        )
    size = math.ceil(len(group) / math.ceil(len(group) / room))
    return [list(group[first : first + size]) for first in range(0, len(group), size)]


def require_memory(dataset: Dataset, configs: Sequence[Config], memory: int | None = None) -> None:
    """Raises `UsageError` where one network of some group does not fit: before any is trained."""
    devices = jax.devices()
    for group in groups(configs):
        chunks(dataset, group, memory or _allowance(devices), devices[: len(group)])


def _allowance(devices: Sequence[jax.Device]) -> int:
    return int(SHARE_OF_FREE_MEMORY * free_memory(devices))


def memory_needed(dataset: Dataset, config: Config, devices: int, platform: str) -> tuple[int, int]:
    """Bytes of device memory that a chunk takes: those for any number of runs, and for each one.

    The images are on every device. A run has its state and its best parameters, twice: before and
    after an epoch, and the numbers of its rows. Whichever run a device is at has the order of its
    examples, the activations of a batch and their derivatives, and in the evaluation the images
    again, in slices, with the activations of one of these.
    """
    state = state_shapes(config, dataset.n_x, dataset.n_classes)
    changed = _bytes(state) + _bytes(state.params)
    images = dataset.x_train.nbytes + dataset.y_train.nbytes
    widths = dataset.n_x + 2 * (sum(config.n_h) + dataset.n_classes)
    rows = len(evaluation_slices(dataset.n_train, dataset.n_x)[0])
    slices = 4 * rows * widths + 4 * 4 * dataset.n_train * dataset.n_classes
    batch = 2 * 4 * config.batch_size * widths + _bytes(state.params)
    order = 4 * 4 * dataset.n_train
    epoch, each = order + batch, 2 * changed + 4 * dataset.n_train
    if platform == "cpu":
        return devices * (images + max(epoch, images + slices)), each
    return devices * (images + images + slices), each + epoch


def free_memory(devices: Sequence[jax.Device]) -> int:
    """Bytes that are free: on all of the devices together, or on this machine where they are its
    CPU's."""
    found = [device.memory_stats() for device in devices]
    if all(found):
        return int(len(found) * min(f["bytes_limit"] - f["bytes_in_use"] for f in found))
    return free_on_host()


def _each(platform: str) -> Callable[..., Any]:
    """How a device goes through its runs: in turn on a core, side by side elsewhere."""
    return jax.lax.map if platform == "cpu" else lambda one, runs: jax.vmap(one)(runs)


def _one_epoch(
    trained: SweepState,
    members: Members,
    images: Array,
    labels: Array,
    scale: Array,
    number: Array,
    *,
    program: Program,
) -> SweepState:
    key = jax.random.fold_in(members.keys, number)
    order = members.kept[permutation(key, len(members.kept))]
    state = train_epoch(
        trained.state, images, labels, scale, key, members.hyper, order, program=program
    )
    return trained._replace(state=state)


def _measured(
    trained: SweepState,
    members: Members,
    images: Array,
    labels: Array,
    scale: Array,
    *,
    activation: Activation,
) -> tuple[SweepState, dict[str, Array]]:
    params = trained.state.params
    Z = all_logits(params, images, scale, activation)
    train, held = (score(Z[rows], labels[rows]) for rows in (members.kept, members.held))
    better = held.loss < trained.best_loss
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), params, trained.best)
    best_loss = jnp.where(better, held.loss, trained.best_loss)
    return SweepState(trained.state, best, best_loss), {
        "train_loss": train.loss,
        "validation_loss": held.loss,
        "train_accuracy": train.correct,
        "validation_accuracy": held.correct,
    }


def _rows(dataset: Dataset, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the training set that a run trains on, and those held out, as `with_validation`
    has them."""
    assert config.validation is not None
    numbers = replace(dataset, x_train=np.arange(dataset.n_train, dtype=np.int32))
    split = with_validation(numbers, config.validation, config.seed)
    return split.x_train, split.x_test


def _shapes_of(dataset: Dataset, config: Config, size: int) -> tuple[Members, SweepState]:
    """Zeros in the shapes of `SweepProgram.stacked`."""
    state = state_shapes(config, dataset.n_x, dataset.n_classes)
    zeros = jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape), leaf.dtype), state)
    hyper = jax.tree.map(lambda _: jnp.zeros((size,), jnp.float32), Hyperparameters.of(config))
    kept, held = (jnp.zeros((size, len(rows)), jnp.int32) for rows in _rows(dataset, config))
    members = Members(jax.random.split(jax.random.key(0), size), hyper, kept, held)
    return members, SweepState(zeros, zeros.params, jnp.zeros((size,), jnp.float32))


def _note(
    chunk: Sequence[Config],
    epoch: int,
    measures: Mapping[str, Any],
    seconds: float,
    histories: dict[Config, tuple[Record, ...]],
    diverged: dict[Config, int],
) -> None:
    """Add the epoch's record to each history that has not ended."""
    for index, config in enumerate(chunk):
        record = {name: float(measures[name][index]) for name in MEASURES}
        if config not in diverged and not all(map(math.isfinite, record.values())):
            diverged[config] = epoch
        if config not in diverged:
            record = {"epoch": epoch, **record, "seconds": seconds / len(chunk)}
            histories[config] = (*histories[config], record)


def _keep_best(
    chunk: Sequence[Config],
    histories: Mapping[Config, Sequence[Record]],
    diverged: Mapping[Config, int],
    snapshot: Callable[[Config], Snapshot],
    kept: dict[Config, Snapshot],
) -> None:
    """Copy the best run of each point to the host, before the chunk's memory is used again."""
    for point in points(histories, diverged):
        if not point.runs:
            continue
        best = best_run(point)
        if best in chunk:
            kept[best] = snapshot(best)
        for config in point.runs:
            if config != best:
                kept.pop(config, None)


def _snapshot(
    kept: Mapping[Config, Snapshot],
    chunk: Sequence[Config],
    trained: SweepState,
    histories: Mapping[Config, tuple[Record, ...]],
    config: Config,
) -> Snapshot:
    """The state of a run on the host: kept there, or copied from the device."""
    if config in kept:
        return kept[config]
    place = chunk.index(config)
    state, best = jax.tree.map(lambda leaf: np.array(leaf[place]), (trained.state, trained.best))
    return Snapshot(state, histories[config], best)


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
