"""A whole training run, epoch by epoch, as far as it has come."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.stages import Compiled

from jaxnn.compilation import LIGHTLY, QUICKLY, compiled
from jaxnn.data import Dataset
from jaxnn.errors import TrainingDivergedError
from jaxnn.nn.activations import ACTIVATIONS
from jaxnn.nn.initialisation import INITIALISERS, Initialiser
from jaxnn.nn.mlp import Params, init_params
from jaxnn.training.config import Config
from jaxnn.training.evaluation import (
    Evaluation,
    evaluate,
    evaluation_slices,
    rows_of,
    score,
    slice_logits,
)
from jaxnn.training.program import Hyperparameters, Optimiser, Program, Teacher, optimiser_of
from jaxnn.training.shuffle import permutation
from jaxnn.training.step import TrainState, init_state, train_epoch

Record = dict[str, Any]

SCALAR = jax.ShapeDtypeStruct((), jnp.float32)


class Snapshot(NamedTuple):
    """Where a run stands: all that is needed to go on, as NumPy arrays.

    `history` has a record for every epoch: epoch, train_loss, test_loss, train_accuracy,
    test_accuracy (or validation_… where a part is held out for validation, and neither where there
    is no test set) and seconds, those of the training steps alone. `best` holds the parameters with
    the lowest validation loss so far.
    """

    state: TrainState
    history: tuple[Record, ...] = ()
    best: Params | None = None

    @property
    def eval_params(self) -> Params:
        """The parameters that the run stands for: the best by validation, else the latest."""
        return self.best or self.state.eval_params


class Engine(NamedTuple):
    """What computes a run.

    `put` brings (state, training set, held-out set) to where they are needed. `one_epoch` takes
    (state, images, labels, key, order, done): what `epoch_key_and_order` draws, and the share of
    the epochs that are over. `evaluate` takes (parameters, images, labels), and its result has the
    bits of `evaluation.evaluate`. `resident` is one device that holds all data; `streaming` has
    another.
    """

    one_epoch: Callable[..., TrainState]
    put: Callable[[Any], Any]
    evaluate: Callable[..., Evaluation]


def initial_state(config: Config, n_x: int, n_classes: int) -> TrainState:
    """Parameters drawn from the seed, and the optimiser at rest.

    Those of an ensemble have a first axis for its members, whose seeds are `config.seed` and those
    after it.
    """
    state: TrainState = _drawn_at_once(*_drawn_from(config, n_x, n_classes))
    return state


def state_shapes(config: Config, n_x: int, n_classes: int) -> TrainState:
    """The structure of every state of a run: `jax.ShapeDtypeStruct` in place of arrays."""
    shapes: TrainState = jax.eval_shape(lambda: _drawn(*_drawn_from(config, n_x, n_classes)))
    return shapes


def start(config: Config, n_x: int, n_classes: int) -> Snapshot:
    """Before the first epoch."""
    return Snapshot(_on_host(initial_state(config, n_x, n_classes)))


def _seeds(config: Config) -> Any:
    """One, or one for each member of an ensemble."""
    first = np.uint32(config.seed)
    members = first + np.arange(config.committee, dtype=np.uint32)
    return first if config.committee == 1 else members


def _drawn_from(
    config: Config, n_x: int, n_classes: int
) -> tuple[Any, Hyperparameters, tuple[int, ...], Initialiser, Optimiser]:
    """What of a configuration decides how a state is drawn: the arguments of `_drawn`."""
    sizes = (n_x, *config.n_h, n_classes)
    hyper = Hyperparameters.of(config)
    return _seeds(config), hyper, sizes, INITIALISERS[config.init], optimiser_of(config)


def _drawn(
    seeds: Array,
    hyper: Hyperparameters,
    sizes: tuple[int, ...],
    initialiser: Initialiser,
    optimiser: Optimiser,
) -> TrainState:
    if seeds.ndim:
        return jax.vmap(lambda seed: _drawn(seed, hyper, sizes, initialiser, optimiser))(seeds)
    key = jax.random.fold_in(jax.random.key(seeds, impl="threefry2x32"), 0)
    return init_state(init_params(key, sizes, initialiser), hyper, optimiser)


#: Compiled as one program: operation by operation, it would take a second to compile.
_drawn_at_once = jax.jit(
    _drawn, static_argnames=("sizes", "initialiser", "optimiser"), compiler_options=QUICKLY
)


def epoch_key_and_order(config: Config, epoch: int, n: int) -> tuple[Array, Array]:
    """The key of an epoch, from the seed and its number, and the order of its n examples.

    Of an ensemble, one for each member.
    """
    drawn: tuple[Array, Array] = _drawn_key_and_order(_seeds(config), epoch, n)
    return drawn


def _key_and_order(seeds: Array, epoch: int, n: int) -> tuple[Array, Array]:
    if seeds.ndim:
        several: tuple[Array, Array] = jax.vmap(lambda seed: _key_and_order(seed, epoch, n))(seeds)
        return several
    key = jax.random.fold_in(
        jax.random.fold_in(jax.random.key(seeds, impl="threefry2x32"), 1), epoch
    )
    return key, permutation(key, n)


_drawn_key_and_order = jax.jit(_key_and_order, static_argnums=2, compiler_options=LIGHTLY)


def resident(dataset: Dataset, config: Config, teacher: Teacher | None = None) -> Engine:
    """All data on one device."""
    program = Program.of(config, dataset, teacher)
    hyper = Hyperparameters.of(config, dataset.n_train, teacher)
    compiled_epoch = epoch_program(dataset, config, program, hyper)
    scale = np.float32(dataset.scale)

    def one_epoch(
        state: TrainState, images: Array, labels: Array, key: Array, order: Array, done: float
    ) -> TrainState:
        now = hyper.annealed(config, done)
        trained: TrainState = compiled_epoch(state, images, labels, scale, key, now, order)
        return trained

    evaluation = partial(evaluate, scale=scale, activation=program.activation)
    return Engine(one_epoch, jax.device_put, evaluation)


def epoch_program(
    dataset: Dataset, config: Config, program: Program, hyper: Hyperparameters
) -> Compiled:
    """`train_epoch` for this data and configuration, compiled as their sizes want it.

    Called with (state, images, labels, scale, key, hyper, order): `epoch_key_and_order` draws
    key and order.
    """
    epoch = partial(train_epoch, program=program)
    if config.committee > 1:
        epoch = jax.vmap(epoch, in_axes=(0, None, None, None, 0, None, 0))
    state = state_shapes(config, dataset.n_x, dataset.n_classes)
    key, order = jax.eval_shape(lambda: _key_and_order(_seeds(config), 0, dataset.n_train))
    images, labels = _shapes(dataset.x_train, dataset.y_train)
    lowered = jax.jit(epoch, donate_argnums=0).lower(
        state, images, labels, SCALAR, key, hyper, order
    )
    return compiled(lowered, spread=program.transposed)


def compile_evaluation(dataset: Dataset, config: Config) -> None:
    """Compile what `evaluate` runs for both splits, which later calls then find compiled."""
    params = state_shapes(config, dataset.n_x, dataset.n_classes).params
    activation, compiled_for = ACTIVATIONS[config.activation], set()
    for x, y in ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test)):
        size = len(evaluation_slices(*x.shape)[0])
        rows_of.lower(*_shapes(x), jax.ShapeDtypeStruct((), jnp.int32), size).compile()
        if size not in compiled_for:
            rows = jax.ShapeDtypeStruct((size, dataset.n_x), x.dtype)
            slice_logits.lower(params, rows, SCALAR, activation=activation).compile()
        compiled_for.add(size)
        logits = jax.ShapeDtypeStruct((len(x), dataset.n_classes), jnp.float32)
        score.lower(logits, *_shapes(y)).compile()


def train_epochs(
    dataset: Dataset,
    config: Config,
    snapshot: Snapshot | None = None,
    engine: Engine | None = None,
) -> Iterator[Snapshot]:
    """Train for the epochs that are left, yielding after each.

    The default `engine` is `resident`, which is compiled first.

    Epoch e is shuffled by a key that depends on the seed and on e alone: a run that goes on from
    any `snapshot` repeats the uninterrupted run bit for bit, on the same machine and versions.

    Raises `TrainingDivergedError` in the epoch after which a loss is not finite.

    >>> digits = jaxnn.load_data("digits")
    >>> config = jaxnn.Config(n_h=(24,), epochs=2, batch_size=16)
    >>> for snapshot in jaxnn.train_epochs(digits, config):
    ...     record = snapshot.history[-1]
    ...     print(record["epoch"], record["test_accuracy"] > 0.1)
    1 True
    2 True
    """
    state, history, best = snapshot or start(config, dataset.n_x, dataset.n_classes)
    engine = engine or resident(dataset, config)
    state, train, held_out = engine.put(
        (state, (dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test))
    )
    splits = {"train": train}
    if dataset.n_test:
        splits["validation" if config.validation else "test"] = held_out

    def measured(params: Params) -> Record:
        return _measures(**{n: engine.evaluate(params, *split) for n, split in splits.items()})

    following = epoch_key_and_order(config, len(history) + 1, dataset.n_train)
    while len(history) < config.epochs and not out_of_patience(history, config.patience):
        drawn, done = following, len(history) / config.epochs
        begun = time.perf_counter()
        state = engine.one_epoch(state, *train, *drawn, done)
        # While the epoch is under way:
        following = epoch_key_and_order(config, len(history) + 2, dataset.n_train)
        state = jax.block_until_ready(state)
        seconds = time.perf_counter() - begun
        record = {"epoch": len(history) + 1, **measured(state.eval_params), "seconds": seconds}
        _require_finite(record, config)
        history = (*history, record)
        if config.validation and best_epoch(history) == len(history):
            best = _on_host(state.eval_params)
        yield Snapshot(_on_host(state), history, best)


def _shapes(*arrays: Any) -> tuple[jax.ShapeDtypeStruct, ...]:
    return tuple(jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays)


def best_epoch(history: Sequence[Record]) -> int:
    """The first epoch with the lowest validation loss, counted from 1."""
    losses = [record["validation_loss"] for record in history]
    return losses.index(min(losses)) + 1


def out_of_patience(history: Sequence[Record], patience: int | None) -> bool:
    """Whether the last `patience` epochs brought no lower validation loss."""
    return bool(history) and patience is not None and len(history) - best_epoch(history) >= patience


def _measures(**evaluations: Evaluation) -> Record:
    losses = {f"{name}_loss": float(e.loss) for name, e in evaluations.items()}
    return losses | {f"{name}_accuracy": e.accuracy for name, e in evaluations.items()}


def _require_finite(record: Record, config: Config) -> None:
    if not all(math.isfinite(value) for value in record.values()):
        raise TrainingDivergedError(
            f"the loss is no longer finite in epoch {record['epoch']}: `lr` {config.lr:g} is too "
            f"large a step here; try a smaller one, such as `lr` {config.lr / 10:g}"
        )


def _on_host(tree: Any) -> Any:
    """A copy that no later step can overwrite."""
    return jax.tree.map(np.array, tree)
