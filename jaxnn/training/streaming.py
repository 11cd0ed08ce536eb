"""Training on data that stay on the host: an epoch's batches are shipped as their turn comes.

They may lie in the host's memory or, mapped, on its disk (`jaxnn.data.scratch`).

The host draws the order that `train_epoch` would draw, gathers the rows of a chunk of batches, and
sends each device its share of every batch, while the chunk before is trained on. A device holds two
chunks at most, and a process gathers for its own devices alone. The batches are the same, and so
is the result: bit for bit on one device, but for the order of sums on several. An evaluation has
the same bits on any number of them.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jax.stages import Compiled
from numpy.typing import NDArray

from jaxnn.compilation import compiled
from jaxnn.data import Dataset
from jaxnn.data.memory import MEBIBYTE, free_on_host
from jaxnn.data.scratch import read_at_random
from jaxnn.errors import SettingError
from jaxnn.nn.activations import Activation
from jaxnn.nn.mlp import Params, depth
from jaxnn.training.config import Config
from jaxnn.training.data_parallel import naming_lost_peers, replicated, shard, sharded
from jaxnn.training.evaluation import (
    Evaluation,
    evaluation_slices,
    joined,
    score,
    slice_logits,
)
from jaxnn.training.loop import Engine, state_shapes
from jaxnn.training.objective import unit_interval
from jaxnn.training.program import Hyperparameters, Program, Teacher
from jaxnn.training.step import TrainState, train_batches

T = TypeVar("T")
S = TypeVar("S")
Values = NDArray[Any]

#: Bytes in a chunk on one device where no limit asks for less: two of them overlap well enough.
CHUNK = 16 * MEBIBYTE


class Chunk(NamedTuple):
    """`batches` of `size` examples each, from place `first` of the epoch's order."""

    first: int
    batches: int
    size: int


class Streaming(NamedTuple):
    """Where batches go: to the devices of `mesh`, two chunks of so many bytes on each."""

    mesh: Mesh
    chunk: int

    def batches(self, images: Values, batch_size: int) -> int:
        """How many batches make a chunk. Raises `SettingError` where not even one does."""
        rows = -(-batch_size // self.mesh.size)
        count = self.chunk // (rows * _row_bytes(images))
        if count == 0:
            needed = -(-2 * rows * _row_bytes(images) // MEBIBYTE)
            raise SettingError(
                f"`device_memory`: expected at least {needed} MiB, room for two batches of "
                f"{batch_size}; a smaller `batch_size` or more `devices` need less on each"
            )
        return count

    def require_slices(self, images: Values) -> None:
        """Raises `SettingError` where a chunk is less than what is evaluated at a time."""
        rows = len(evaluation_slices(*images.shape)[0])
        if rows * _row_bytes(images) > self.chunk:
            needed = -(-2 * rows * _row_bytes(images) // MEBIBYTE)
            raise SettingError(
                f"`device_memory`: expected at least {needed} MiB, room for twice the {rows} "
                "examples that are evaluated at a time"
            )


def streaming_for(
    mesh: Mesh, dataset: Dataset, config: Config, memory: int | None
) -> Streaming | None:
    """How to stream to the devices, `memory` MiB of data on each, or None where there is no need:
    a single device that holds all data at once. Raises `SettingError` where that is too little."""
    limit = memory * MEBIBYTE if memory else _device_memory(mesh)
    size = sum(a.nbytes for a in (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test))
    if mesh.size == 1 and size <= limit:
        return None
    if config.committee > 1:
        raise SettingError(
            f"`committee` {config.committee}: expected 1 on several devices and with data that "
            "do not fit on one"
        )
    to = Streaming(mesh, min(CHUNK, limit // 2))
    to.batches(dataset.x_train, config.batch_size)
    to.require_slices(dataset.x_train)
    to.require_slices(dataset.x_test)
    return to


def streamed(
    dataset: Dataset, config: Config, to: Streaming, teacher: Teacher | None = None
) -> Engine:
    """An engine for `train_epochs` that trains and evaluates on data that stay on the host."""
    program = Program.of(config, dataset, teacher)
    hyper = Hyperparameters.of(config, dataset.n_train, teacher)
    scale = np.float32(dataset.scale)
    parts = chunks(
        dataset.n_train, config.batch_size, to.batches(dataset.x_train, config.batch_size)
    )
    programs = {
        shape: _compiled(to.mesh, dataset, config, program, hyper, *shape)
        for shape in _shapes(parts)
    }
    replicate = partial(jax.device_put, device=replicated(to.mesh))

    def put(tree: Any) -> Any:
        state, *data = tree
        return replicate(state), *data

    def one_epoch(
        state: TrainState, images: Values, labels: Values, key: Array, order: Array, done: float
    ) -> TrainState:
        now = hyper.annealed(config, done)
        numbers = replicate((scale, jax.random.key_data(key), now))
        ship = partial(_sharded, to.mesh, images, labels, np.asarray(order))
        with read_at_random(images):
            for chunk, batches in prefetched(ship, parts):
                train = programs[chunk.batches, chunk.size]
                first = replicate(jnp.uint32(chunk.first // config.batch_size))
                state = jax.block_until_ready(train(state, batches, first, *numbers))
                del batches
        return state

    evaluation = partial(_evaluated, to, scale=scale, activation=program.activation)
    return Engine(naming_lost_peers(one_epoch), put, naming_lost_peers(evaluation))


def chunks(n: int, batch_size: int, most: int) -> list[Chunk]:
    """The batches of an epoch over n examples, at most so many to a chunk; the rest is the last."""
    whole = n // batch_size
    plan = [
        Chunk(first * batch_size, min(most, whole - first), batch_size)
        for first in range(0, whole, most)
    ]
    rest = Chunk(whole * batch_size, 1, n % batch_size)
    return [*plan, rest] if rest.size else plan


def prefetched(function: Callable[[S], T], arguments: Sequence[S]) -> Iterator[tuple[S, T]]:
    """Each argument with the function's value there, the next of which is under way meanwhile.

    There are two values at a time if the caller lets go of each before asking for the next.
    """
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(function, arguments[0])
        for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
            value = coming.result()
            if following is not None:
                coming = worker.submit(function, following)
            yield argument, value
            del value


def _shapes(plan: Sequence[Chunk]) -> set[tuple[int, int]]:
    return {(chunk.batches, chunk.size) for chunk in plan}


def _compiled(
    mesh: Mesh,
    dataset: Dataset,
    config: Config,
    program: Program,
    hyper: Hyperparameters,
    count: int,
    size: int,
) -> Compiled:
    """`train_batches` for chunks of that shape.

    Called with (state, batches, first, scale, key, hyper)."""

    def train(
        state: TrainState,
        batches: Any,
        first: Array,
        scale: Array,
        key: Array,
        hyper: Hyperparameters,
    ) -> TrainState:
        def read(batch: Any) -> tuple[Array, Array]:
            images, labels = shard(mesh, jax.tree.map(lambda a: a[:size], batch))
            return unit_interval(images, scale), labels

        key = jax.random.wrap_key_data(key)
        return train_batches(
            state, batches, first=first, read=read, key=key, hyper=hyper, program=program
        )

    state = state_shapes(config, dataset.n_x, dataset.n_classes)
    numbers = jax.eval_shape(
        lambda: (jnp.uint32(0), jnp.float32(0), jax.random.key_data(jax.random.key(0)), hyper)
    )
    state, numbers = _laid((state, numbers), replicated(mesh))
    rows = (count, _padded(size, mesh))
    batches = _laid(
        (
            jax.ShapeDtypeStruct((*rows, dataset.n_x), dataset.x_train.dtype),
            jax.ShapeDtypeStruct(rows, dataset.y_train.dtype),
        ),
        sharded(mesh, 1),
    )
    lowered = jax.jit(train, out_shardings=replicated(mesh), donate_argnums=0).lower(
        state, batches, *numbers
    )
    return compiled(lowered, spread=program.transposed)


def _laid(shapes: Any, sharding: Any) -> Any:
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), shapes)


def _padded(size: int, mesh: Mesh) -> int:
    """The size of a batch with as many rows on each device."""
    return -(-size // mesh.size) * mesh.size


def _sharded(
    mesh: Mesh, images: Values, labels: Values, order: Values, chunk: Chunk
) -> tuple[Array, Array]:
    """The chunk's images (count, padded size, n_x) and labels, each device's share gathered for it.

    The padding repeats an example; the program cuts it off."""
    rows = order[chunk.first :][: chunk.batches * chunk.size].reshape(chunk.batches, chunk.size)
    rows = np.pad(rows, ((0, 0), (0, _padded(chunk.size, mesh) - chunk.size)), mode="edge")

    def shipped(source: Values) -> Array:
        def share(at: Any) -> Values:
            gathered: Values = source.take(rows[at[:2]], axis=0)
            return gathered

        shape = (*rows.shape, *source.shape[1:])
        return jax.make_array_from_callback(shape, sharded(mesh, 1), share)

    return shipped(images), shipped(labels)


def _evaluated(
    to: Streaming,
    params: Params,
    images: Values,
    labels: Values,
    *,
    scale: np.float32,
    activation: Activation,
) -> Evaluation:
    """`evaluate`, its slices shared out among the devices: whole slices by the same program, so
    that the result has the same bits."""
    devices = to.mesh.local_devices
    params = jax.device_put(params, replicated(to.mesh))
    copies = [jax.tree.map(partial(_copy_on, device), params) for device in devices]
    slices = evaluation_slices(*images.shape)
    turns = slices[jax.process_index() :: jax.process_count()]
    rounds = [turns[at : at + len(devices)] for at in range(0, len(turns), len(devices))]

    def ship(turn: Sequence[range]) -> list[Any]:
        return [
            jax.device_put(images[rows.start : rows.stop], device)
            for rows, device in zip(turn, devices, strict=False)
        ]

    parts: list[Values] = []
    for _, shipped in prefetched(ship, rounds) if rounds else ():
        under_way = [
            slice_logits(copy, part, scale, activation=activation)
            for copy, part in zip(copies, shipped, strict=False)
        ]
        parts += map(np.asarray, under_way)
        del shipped
    shape = len(slices[0]), params[f"b{depth(params)}"].shape[0]
    Z = joined(_from_everyone(parts, len(slices), shape), len(images))
    found: Evaluation = score(Z, labels)
    return found


def _copy_on(device: jax.Device, leaf: Array) -> Array:
    shards: dict[jax.Device, Array] = {s.device: s.data for s in leaf.addressable_shards}
    return shards[device]


def _from_everyone(parts: Sequence[Values], count: int, shape: tuple[int, int]) -> Sequence[Values]:
    """All slices' logits in their order, each of this shape; a process has every P-th."""
    processes = jax.process_count()
    if processes == 1:
        return parts
    from jax.experimental.multihost_utils import process_allgather

    mine = np.zeros((-(-count // processes), *shape), np.float32)
    mine[: len(parts)] = np.reshape(parts, (-1, *shape))
    everybodys = process_allgather(mine)
    return [everybodys[at % processes, at // processes] for at in range(count)]


def _row_bytes(images: Values) -> int:
    """Bytes of an example and its label."""
    return int(images[0].nbytes + np.int32().nbytes)


def _device_memory(mesh: Mesh) -> int:
    """Bytes for data on a device: half of what it has, the rest being for work. A CPU has what is
    free on the host."""
    stats = mesh.local_devices[0].memory_stats() or {}
    return int(stats.get("bytes_limit") or free_on_host()) // 2
