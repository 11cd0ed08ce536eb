"""Training on the device: one compiled step, one compiled epoch, one compiled evaluation."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxnn.activations import Activation, sigmoid
from jaxnn.losses import cross_entropy
from jaxnn.mlp import Params, depth, feed_forward, gradient
from jaxnn.optimisers import momentum
from jaxnn.shuffle import permutation

Optimiser = Callable[..., optax.GradientTransformation]
Hyper = Mapping[str, Array]

EVALUATION_ROWS = 2000


class TrainState(NamedTuple):
    """What a step changes: the parameters and the optimiser's state (momentum's V)."""

    params: Params
    opt_state: optax.OptState


class Evaluation(NamedTuple):
    """Mean cross-entropy (nats), how many rows are classified right, and the logits (n, C)."""

    loss: Array
    correct: Array
    logits: Array

    @property
    def accuracy(self) -> float:
        """The share of rows that are classified right."""
        return int(self.correct) / self.logits.shape[0]


def init_state(params: Params, hyper: Hyper, optimiser: Optimiser = momentum) -> TrainState:
    """The state before the first step."""
    return TrainState(params, optimiser(**hyper).init(params))


def unit_interval(images: Array, scale: Array) -> Array:
    """Pixels as float32 in [0, 1]: `scale` is 1 over the largest value that a pixel can have."""
    return images.astype(jnp.float32) * scale


def one_hot(labels: Array, n_classes: int) -> Array:
    """(m,) integers to (m, C) float32 rows with a single 1."""
    return jax.nn.one_hot(labels, n_classes, dtype=jnp.float32)


@partial(jax.jit, static_argnames=("optimiser", "activation"), donate_argnames="state")
def train_step(
    state: TrainState,
    X: Array,
    Y: Array,
    hyper: Hyper,
    *,
    optimiser: Optimiser = momentum,
    activation: Activation = sigmoid,
) -> TrainState:
    """Forward, backward, momentum, update: one step on a batch X (m, n_x), Y (m, C).

    `state` is donated: its buffers are reused for the result. `hyper` holds the arguments of
    `optimiser` as arrays, so that another learning rate runs the same compiled program.
    """
    return _updated(state, gradient(state.params, X, Y, activation), optimiser(**hyper))


@partial(
    jax.jit,
    static_argnames=("batch_size", "optimiser", "activation", "transposed"),
    donate_argnames="state",
)
def train_epoch(
    state: TrainState,
    images: Array,
    labels: Array,
    scale: Array,
    key: Array,
    hyper: Hyper,
    *,
    batch_size: int,
    optimiser: Optimiser = momentum,
    activation: Activation = sigmoid,
    transposed: bool = False,
) -> TrainState:
    """One pass over the data in an order drawn from `key`: every example once, in one program.

    images (n, n_x) as stored, labels (n,). Where `batch_size` does not divide n, the rest is a
    last, smaller batch: its mean is over its own examples.

    `transposed` is how the state lies in memory from step to step, no more: each matrix as W.T, so
    that X Wᵀ runs along the rows of both. It pays for small products (`fit.compiled_epoch`).
    """
    n = images.shape[0]
    order = permutation(key, n)
    whole = n - n % batch_size

    def gathered(rows: Array) -> tuple[Array, Array]:
        return (
            images.at[rows].get(mode="promise_in_bounds"),
            labels.at[rows].get(mode="promise_in_bounds"),
        )

    run = partial(
        train_batches,
        read=gathered,
        scale=scale,
        hyper=hyper,
        optimiser=optimiser,
        activation=activation,
        transposed=transposed,
    )
    state = run(state, order[:whole].reshape(-1, batch_size))
    return run(state, order[None, whole:]) if whole < n else state


def train_batches(
    state: TrainState,
    batches: Any,
    read: Callable[[Any], tuple[Array, Array]],
    scale: Array,
    hyper: Hyper,
    *,
    optimiser: Optimiser = momentum,
    activation: Activation = sigmoid,
    transposed: bool = False,
) -> TrainState:
    """One step for each of `batches`, a pytree whose leaves have the batches along axis 0.

    `read` makes of one of them its images (m, n_x) as stored and its labels (m,).
    """
    n_classes = state.params[f"b{depth(state.params)}"].shape[0]

    def step(state: TrainState, batch: Any) -> tuple[TrainState, None]:
        images, labels = read(batch)
        X, Y = unit_interval(images, scale), one_hot(labels, n_classes)
        grads = lay(gradient(lay(state.params), X, Y, activation))
        return _updated(state, grads, optimiser(**hyper)), None

    lay = _transposed if transposed else lambda tree: tree
    trained: TrainState = lay(jax.lax.scan(step, lay(state), batches)[0])
    return trained


@partial(jax.jit, static_argnames="activation")
def evaluate(
    params: Params,
    images: Array,
    labels: Array,
    scale: Array,
    *,
    activation: Activation = sigmoid,
) -> Evaluation:
    """Loss, correct answers and logits over every row, a slice at a time to bound the memory."""
    n = images.shape[0]
    last = f"Z{depth(params)}"

    def logits_of(rows: Array) -> Array:
        return feed_forward(params, unit_interval(rows, scale), activation)[last]

    whole = n - n % EVALUATION_ROWS
    slices = images[:whole].reshape(-1, EVALUATION_ROWS, images.shape[1])
    n_classes = params[f"b{depth(params)}"].shape[0]
    Z = jax.lax.map(logits_of, slices).reshape(whole, n_classes)
    if whole < n:
        Z = jnp.concatenate([Z, logits_of(images[whole:])])
    correct = (Z.argmax(axis=1) == labels).sum(dtype=jnp.int32)
    return Evaluation(cross_entropy(Z, one_hot(labels, n_classes)), correct, Z)


def _updated(
    state: TrainState, grads: Params, optimiser: optax.GradientTransformation
) -> TrainState:
    updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
    return TrainState(optax.apply_updates(state.params, updates), opt_state)


def _transposed(tree: Any) -> Any:
    """Every matrix of a pytree transposed; its own inverse."""
    return jax.tree.map(lambda leaf: leaf.T, tree)
