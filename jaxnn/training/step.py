"""Training on the device: one compiled step, one compiled epoch."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxnn.data.augmentation import distort
from jaxnn.nn.mlp import Params, depth
from jaxnn.nn.optimisers import momentum
from jaxnn.nn.regularisation import max_norm
from jaxnn.training.objective import objective_gradient, one_hot, targets_of, unit_interval
from jaxnn.training.program import Hyperparameters, Optimiser, Program
from jaxnn.training.shuffle import permutation

#: The document's: sigmoid, its momentum, batches of 64.
DOCUMENT = Program()


class TrainState(NamedTuple):
    """What a step changes: the parameters and the optimiser's state (momentum's V).

    `average` is the running mean of the parameters, where one is kept.
    """

    params: Params
    opt_state: optax.OptState
    average: Params | None = None

    @property
    def eval_params(self) -> Params:
        """The parameters to evaluate: their average, where one is kept."""
        return self.params if self.average is None else self.average


def init_state(
    params: Params, hyper: Hyperparameters, optimiser: Optimiser = momentum
) -> TrainState:
    """The state before the first step. With `hyper.average`, it has a running mean.

    >>> hyper = jaxnn.Hyperparameters.of(jaxnn.Config(lr=0.5, beta=0.9))
    >>> state = jaxnn.init_state(jaxnn.init_params(jax.random.key(0), (784, 64, 10)), hyper)
    """
    average = None if hyper.average is None else jax.tree.map(jnp.copy, params)
    return TrainState(params, optimiser(**hyper.optimiser).init(params), average)


@partial(jax.jit, static_argnames="program", donate_argnames="state")
def train_step(
    state: TrainState,
    X: Array,
    Y: Array,
    hyper: Hyperparameters,
    key: Array | None = None,
    *,
    program: Program = DOCUMENT,
) -> TrainState:
    """Forward, backward, momentum, update: one step on a batch X (m, n_x), Y (m, C).

    `key` is what distortions and dropout draw from: in an epoch, `step_key`. A teacher sees the
    distorted images. The state is donated: its buffers are reused for the result. Raises ValueError
    where a term of `hyper` lacks its key or its `image_shape`.

    >>> hyper = jaxnn.Hyperparameters.of(jaxnn.Config(lr=0.5, beta=0.9))
    >>> state = jaxnn.init_state(jaxnn.init_params(jax.random.key(0), (784, 64, 10)), hyper)
    >>> before = float(jaxnn.loss(state.params, X, Y))
    >>> for _ in range(3):
    ...     state = jaxnn.train_step(state, X, Y, hyper)
    >>> float(jaxnn.loss(state.params, X, Y)) < before
    True
    """
    lay = program.in_memory
    stepped: TrainState = lay(_step(lay(state), X, Y, hyper, key, program))
    return stepped


def step_key(key: Array, place: Array | int) -> Array:
    """What the batch at `place` (0, 1, …) draws from, in an epoch whose key is `key`."""
    return jax.random.fold_in(jax.random.fold_in(key, 1), place)


@partial(jax.jit, static_argnames="program", donate_argnames="state")
def train_epoch(
    state: TrainState,
    images: Array,
    labels: Array,
    scale: Array,
    key: Array,
    hyper: Hyperparameters,
    order: Array | None = None,
    *,
    program: Program = DOCUMENT,
) -> TrainState:
    """One pass over the data in an order drawn from `key`: every example once, in one program.

    images (n, n_x) as stored, labels (n,). `order` has the numbers of the examples in the order of
    their turns; by default it is `permutation(key, n)`. Where `program.batch_size` does not divide
    their number, the rest is a last, smaller batch: its mean is over its own examples. Each batch
    is a `train_step` with its `step_key`. The state is donated.

    >>> digits = jaxnn.load_data("digits")
    >>> hyper = jaxnn.Hyperparameters.of(jaxnn.Config())
    >>> state = jaxnn.init_state(jaxnn.init_params(jax.random.key(0), (64, 24, 10)), hyper)
    >>> images, labels = jnp.asarray(digits.x_train), jnp.asarray(digits.y_train)
    >>> key = jax.random.key(1)
    >>> state = jaxnn.train_epoch(state, images, labels, jnp.float32(digits.scale), key, hyper)
    """
    order = permutation(key, len(images)) if order is None else order
    n, batch_size = len(order), program.batch_size
    whole = n - n % batch_size

    def read(rows: Array) -> tuple[Array, Array]:
        return (
            unit_interval(images.at[rows].get(mode="promise_in_bounds"), scale),
            labels.at[rows].get(mode="promise_in_bounds"),
        )

    run = partial(train_batches, read=read, key=key, hyper=hyper, program=program)
    state = run(state, order[:whole].reshape(-1, batch_size), first=jnp.uint32(0))
    if whole < n:
        state = run(state, order[None, whole:], first=jnp.uint32(whole // batch_size))
    return state


def train_batches(
    state: TrainState,
    batches: Any,
    *,
    first: Array,
    read: Callable[[Any], tuple[Array, Array]],
    key: Array,
    hyper: Hyperparameters,
    program: Program,
) -> TrainState:
    """One step for each of `batches`, a pytree whose leaves have the batches along axis 0.

    `read` makes of one of them X (m, n_x) and its labels (m,). Distortions and dropout are drawn
    from the epoch's `key` and the place of the batch in it, `first` and on.
    """
    n_classes = state.params[f"b{depth(state.params)}"].shape[0]

    def one(state: TrainState, at: tuple[Array, Any]) -> tuple[TrainState, None]:
        place, batch = at
        X, labels = read(batch)
        Y = one_hot(labels, n_classes)
        return _step(state, X, Y, hyper, step_key(key, place), program), None

    count = len(jax.tree.leaves(batches)[0])
    places = first + jnp.arange(count, dtype=jnp.uint32)
    lay = program.in_memory
    trained: TrainState = lay(jax.lax.scan(one, lay(state), (places, batches))[0])
    return trained


def _step(
    state: TrainState,
    X: Array,
    Y: Array,
    hyper: Hyperparameters,
    key: Array | None,
    program: Program,
) -> TrainState:
    """`train_step` on a state as it lies in memory."""
    lay = program.in_memory
    distorting, dropping = (None, None) if key is None else jax.random.split(key)
    if hyper.distortion is not None:
        if distorting is None or program.image_shape is None:
            raise ValueError("distortions draw from a key and need image_shape: expected both")
        X = distort(distorting, X, program.image_shape, hyper.distortion, program.paper)
    targets = targets_of(hyper, X, Y, program.teacher_activation)
    params = lay(state.params)
    grads = lay(objective_gradient(params, X, targets, hyper, dropping, program.activation))

    optimiser = program.optimiser(**hyper.optimiser)
    updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    if hyper.max_norm is not None:
        params = lay(max_norm(lay(params), hyper.max_norm))
    average = state.average
    if average is not None and hyper.average is not None:
        average = optax.incremental_update(params, average, 1 - hyper.average)
    return TrainState(params, opt_state, average)
