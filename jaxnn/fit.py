"""A whole training run, epoch by epoch, as far as it has come."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.stages import Compiled

from jaxnn.activations import ACTIVATIONS
from jaxnn.compilation import QUICKLY, compiled
from jaxnn.config import Config
from jaxnn.data import Dataset
from jaxnn.errors import TrainingDivergedError
from jaxnn.mlp import Params, init_params
from jaxnn.training import Hyper, TrainState, evaluate, init_state, train_epoch

Record = dict[str, Any]

#: Multiplications in a batch's first product, from and to, where a network counts as small: one
#: thread computes such a product in 10 to 40 µs, so that a second one is worth its while only if it
#: is ready at once.
SMALL = (2**20, 2**22)


class Progress(NamedTuple):
    """Where a run stands: all that is needed to go on, as NumPy arrays.

    `history` has a record for every epoch: epoch, train_loss, test_loss, train_accuracy,
    test_accuracy (or validation_… where a part is held out for validation) and seconds, those of
    the training steps alone. `best` holds the parameters with the lowest validation loss so far.
    """

    state: TrainState
    history: tuple[Record, ...] = ()
    best: Params | None = None

    @property
    def chosen(self) -> Params:
        """The parameters that the run stands for: the best by validation, else the latest."""
        return self.best or self.state.params


class Engine(NamedTuple):
    """What computes a run.

    `put` brings (state, training set, held-out set) to where they are needed. `one_epoch` takes
    (state, images, labels, scale, key, hyper), and `evaluate` is as in `training`: its result has a
    loss and an accuracy. No more than `rows` examples at a time are put on a device, if that is
    said. The default is one device that holds all data; `feeding` has another.
    """

    one_epoch: Callable[..., TrainState]
    put: Callable[[Any], Any] = jax.device_put
    evaluate: Callable[..., Any] = evaluate
    rows: int | None = None


def hyperparameters(config: Config) -> Hyper:
    """The arguments of `optimisers.momentum`, as arrays: other values run the same program."""
    return {"lr": jnp.float32(config.lr), "beta": jnp.float32(config.beta)}


def initial_state(config: Config, n_x: int, n_classes: int) -> TrainState:
    """Parameters drawn from the seed, and momentum at rest."""
    state: TrainState = _drawn_at_once(*_origin(config, n_x, n_classes))
    return state


def state_shapes(config: Config, n_x: int, n_classes: int) -> TrainState:
    """The structure of every state of a run: `jax.ShapeDtypeStruct` in place of arrays."""
    key, hyper, sizes = _origin(config, n_x, n_classes)
    shapes: TrainState = jax.eval_shape(lambda: _drawn(key, hyper, sizes))
    return shapes


def _origin(config: Config, n_x: int, n_classes: int) -> tuple[Array, Hyper, tuple[int, ...]]:
    return jax.random.key(config.seed), hyperparameters(config), (n_x, *config.n_h, n_classes)


def _drawn(key: Array, hyper: Hyper, sizes: tuple[int, ...]) -> TrainState:
    return init_state(init_params(jax.random.fold_in(key, 0), sizes), hyper)


#: Compiled as one program: operation by operation, it would take a second to compile.
_drawn_at_once = jax.jit(_drawn, static_argnames="sizes", compiler_options=QUICKLY)


def start(config: Config, n_x: int, n_classes: int) -> Progress:
    """Before the first epoch."""
    return Progress(_on_host(initial_state(config, n_x, n_classes)))


def compiled_epoch(dataset: Dataset, config: Config) -> Compiled:
    """`train_epoch` for this data and configuration, compiled as is fastest for their sizes.

    Called with (state, images, labels, scale, key, hyper).
    """
    state = state_shapes(config, dataset.n_x, dataset.n_classes)
    hyper, scale, key = jax.eval_shape(
        lambda: (hyperparameters(config), jnp.float32(0), jax.random.key(0))
    )
    small = has_small_products(dataset, config)
    lowered = train_epoch.lower(
        state,
        *_shapes(dataset.x_train, dataset.y_train),
        scale,
        key,
        hyper,
        batch_size=config.batch_size,
        activation=ACTIVATIONS[config.activation],
        transposed=small,
    )
    return compiled(lowered, spread=small)


def has_small_products(dataset: Dataset, config: Config) -> bool:
    """Whether one thread is as fast as two that are not ready at once (`SMALL`)."""
    return SMALL[0] <= config.batch_size * dataset.n_x * config.n_h[0] <= SMALL[1]


def compile_evaluation(dataset: Dataset, config: Config) -> None:
    """Compile `evaluate` for both splits, which later calls then find compiled."""
    params = state_shapes(config, dataset.n_x, dataset.n_classes).params
    scale = jax.ShapeDtypeStruct((), jnp.float32)
    activation = ACTIVATIONS[config.activation]
    for x, y in ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test)):
        evaluate.lower(params, *_shapes(x, y), scale, activation=activation).compile()


def fit(
    dataset: Dataset,
    config: Config,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> Iterator[Progress]:
    """Train for the epochs that are left, yielding after each.

    `engine` computes; without one, `compiled_epoch` is compiled first.

    Epoch e is shuffled by a key that depends on the seed and on e alone: a run that goes on from
    any `progress` repeats the uninterrupted run bit for bit, on the same machine and versions.

    Raises `TrainingDivergedError` in the epoch after which a loss is not finite.
    """
    state, history, best = progress or start(config, dataset.n_x, dataset.n_classes)
    activation = ACTIVATIONS[config.activation]
    hyper, scale = hyperparameters(config), jnp.float32(dataset.scale)
    keys = jax.random.fold_in(jax.random.key(config.seed), 1)
    engine = engine or Engine(compiled_epoch(dataset, config))
    state, train, held_out = engine.put(
        (state, (dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test))
    )
    held_out_name = "validation" if config.validation else "test"

    def measured(params: Params) -> Record:
        return _measures(
            **{
                name: engine.evaluate(params, *split, scale, activation=activation)
                for name, split in (("train", train), (held_out_name, held_out))
            }
        )

    while len(history) < config.epochs and not out_of_patience(history, config.patience):
        key = jax.random.fold_in(keys, len(history) + 1)
        begun = time.perf_counter()
        state = jax.block_until_ready(engine.one_epoch(state, *train, scale, key, hyper))
        seconds = time.perf_counter() - begun
        record = {"epoch": len(history) + 1, **measured(state.params), "seconds": seconds}
        _require_finite(record, config)
        history = (*history, record)
        if config.validation and best_epoch(history) == len(history):
            best = _on_host(state.params)
        yield Progress(_on_host(state), history, best)


def _shapes(*arrays: Any) -> tuple[jax.ShapeDtypeStruct, ...]:
    return tuple(jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays)


def best_epoch(history: Sequence[Record]) -> int:
    """The first epoch with the lowest validation loss, counted from 1."""
    losses = [record["validation_loss"] for record in history]
    return losses.index(min(losses)) + 1


def out_of_patience(history: Sequence[Record], patience: int | None) -> bool:
    """Whether the last `patience` epochs brought no lower validation loss."""
    return bool(history) and patience is not None and len(history) - best_epoch(history) >= patience


def _measures(**evaluations: Any) -> Record:
    losses = {f"{name}_loss": float(e.loss) for name, e in evaluations.items()}
    return losses | {f"{name}_accuracy": e.accuracy for name, e in evaluations.items()}


def _require_finite(record: Record, config: Config) -> None:
    if not all(math.isfinite(value) for value in record.values()):
        raise TrainingDivergedError(
            f"the loss is no longer finite in epoch {record['epoch']}: --lr {config.lr:g} is too "
            f"large a step here; try a smaller one, such as --lr {config.lr / 10:g}"
        )


def _on_host(tree: Any) -> Any:
    """A copy that no later step can overwrite."""
    return jax.tree.map(np.array, tree)
