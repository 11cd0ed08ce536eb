"""Training on the device: one compiled step, one compiled epoch, one compiled evaluation."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.typing import NDArray

from jaxnn.data.augmentation import Distortion, distort
from jaxnn.nn.activations import Activation, sigmoid
from jaxnn.nn.ensemble import logits, soft_answer
from jaxnn.nn.losses import (
    Distilled,
    Loss,
    cross_entropy,
    distillation,
    smooth,
    softmax_cross_entropy,
)
from jaxnn.nn.mlp import Params, depth, gradient
from jaxnn.nn.optimisers import momentum
from jaxnn.nn.regularisation import dropout_mask, max_norm
from jaxnn.training.shuffle import permutation

Optimiser = Callable[..., optax.GradientTransformation]
Hyper = Mapping[str, Array]

#: Rows that are evaluated at a time, and inputs of them, at most: they bound the memory.
EVALUATION_ROWS, EVALUATION_INPUTS = 2000, 2**21


class Lesson(NamedTuple):
    """What there is to learn from another network: its parameters, perhaps a committee's; the
    temperature at which its answers are taken; and their weight, the labels having the rest."""

    teacher: Params
    temperature: Array
    weight: Array


class Terms(NamedTuple):
    """What goes beyond the document, as arrays; a term that is None is not in the program.

    l2: λ of λ/2 Σ_l ‖W_l‖². dropout, input_dropout: shares of the hidden units and of the inputs
    that are dropped. max_norm: longest row of a W_l. label_smoothing: ε. average: what the running
    mean of the parameters keeps at each step. distortion: of the images. lesson: of a teacher.
    """

    l2: Array | None = None
    dropout: Array | None = None
    input_dropout: Array | None = None
    max_norm: Array | None = None
    label_smoothing: Array | None = None
    average: Array | None = None
    distortion: Distortion | None = None
    lesson: Lesson | None = None


NO_TERMS = Terms()


class TrainState(NamedTuple):
    """What a step changes: the parameters and the optimiser's state (momentum's V).

    `average` is the running mean of the parameters, where one is kept.
    """

    params: Params
    opt_state: optax.OptState
    average: Params | None = None

    @property
    def chosen(self) -> Params:
        """The parameters that the state stands for: their average, where one is kept."""
        return self.params if self.average is None else self.average


class Evaluation(NamedTuple):
    """Mean cross-entropy (nats), how many rows are classified right, and the logits (n, C)."""

    loss: Array
    correct: Array
    logits: Array

    @property
    def accuracy(self) -> float:
        """The share of rows that are classified right."""
        return int(self.correct) / self.logits.shape[0]


def init_state(
    params: Params, hyper: Hyper, optimiser: Optimiser = momentum, *, averaged: bool = False
) -> TrainState:
    """The state before the first step. `averaged` keeps a running mean of the parameters."""
    average = jax.tree.map(jnp.copy, params) if averaged else None
    return TrainState(params, optimiser(**hyper).init(params), average)


def unit_interval(images: Array, scale: Array) -> Array:
    """Pixels as float32 in [0, 1]: `scale` is 1 over the largest value that a pixel can have."""
    return images.astype(jnp.float32) * scale


def one_hot(labels: Array, n_classes: int) -> Array:
    """(m,) integers to (m, C) float32 rows with a single 1."""
    return jax.nn.one_hot(labels, n_classes, dtype=jnp.float32)


def step(
    state: TrainState,
    X: Array,
    Y: Array,
    hyper: Hyper,
    terms: Terms = NO_TERMS,
    key: Array | None = None,
    *,
    optimiser: Optimiser = momentum,
    activation: Activation = sigmoid,
    image_shape: tuple[int, int] | None = None,
    teacher_activation: Activation = sigmoid,
    lay: Callable[[Any], Any] = lambda tree: tree,
) -> TrainState:
    """Forward, backward, momentum, update: one step on a batch X (m, n_x), Y (m, C).

    `hyper` holds the arguments of `optimiser` as arrays, so that another learning rate runs the
    same compiled program. `terms` holds what goes beyond the document (`Terms`), and `key` is what
    distortions and dropout draw from: in an epoch, `step_key`. Distortions take a row for an image
    of `image_shape`; a teacher, whose hidden layers have `teacher_activation`, sees the distorted
    images. Raises ValueError where a term lacks its key or its shape.

    `lay` turns the matrices of a pytree to how the state lies in memory, and back (`train_epoch`).
    """
    distorting, dropping = (None, None) if key is None else jax.random.split(key)
    if terms.distortion is not None:
        if distorting is None or image_shape is None:
            raise ValueError("distortions draw from a key and need image_shape: expected both")
        X = distort(distorting, X, image_shape, terms.distortion)
    targets = targets_of(terms, X, Y, teacher_activation)
    grads = lay(_gradient(lay(state.params), X, targets, terms, dropping, activation))
    return _updated(state, grads, terms, optimiser(**hyper), lay)


#: `step` as a program. The state is donated: its buffers are reused for the result.
train_step = jax.jit(
    step,
    static_argnames=("optimiser", "activation", "image_shape", "teacher_activation", "lay"),
    donate_argnames="state",
)


def step_key(key: Array, place: Array | int) -> Array:
    """What the batch at `place` (0, 1, …) draws from, in an epoch whose key is `key`."""
    return jax.random.fold_in(jax.random.fold_in(key, 1), place)


@partial(
    jax.jit,
    static_argnames=(
        "batch_size",
        "optimiser",
        "activation",
        "transposed",
        "image_shape",
        "teacher_activation",
    ),
    donate_argnames="state",
)
def train_epoch(
    state: TrainState,
    images: Array,
    labels: Array,
    scale: Array,
    key: Array,
    hyper: Hyper,
    terms: Terms = NO_TERMS,
    order: Array | None = None,
    *,
    batch_size: int,
    optimiser: Optimiser = momentum,
    activation: Activation = sigmoid,
    transposed: bool = False,
    image_shape: tuple[int, int] | None = None,
    teacher_activation: Activation = sigmoid,
) -> TrainState:
    """One pass over the data in an order drawn from `key`: every example once, in one program.

    images (n, n_x) as stored, labels (n,). `order` has the numbers of the examples in the order of
    their turns; by default it is `permutation(key, n)`. Where `batch_size` does not divide their
    number, the rest is a last, smaller batch: its mean is over its own examples. Each batch is a
    `step`, the public `train_step`, with its `step_key`.

    `transposed` is how the state lies in memory from step to step, no more: each matrix as W.T, so
    that X Wᵀ runs along the rows of both. It pays for small products (`fit.compiled_epoch`).
    """
    order = permutation(key, len(images)) if order is None else order
    n = len(order)
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
        key=key,
        hyper=hyper,
        terms=terms,
        optimiser=optimiser,
        activation=activation,
        transposed=transposed,
        image_shape=image_shape,
        teacher_activation=teacher_activation,
    )
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
    scale: Array,
    key: Array,
    hyper: Hyper,
    terms: Terms = NO_TERMS,
    optimiser: Optimiser = momentum,
    activation: Activation = sigmoid,
    transposed: bool = False,
    image_shape: tuple[int, int] | None = None,
    teacher_activation: Activation = sigmoid,
) -> TrainState:
    """One `step` for each of `batches`, a pytree whose leaves have the batches along axis 0.

    `read` makes of one of them its images (m, n_x) as stored and its labels (m,). Distortions and
    dropout are drawn from the epoch's `key` and the place of the batch in it, `first` and on.
    """
    n_classes = state.params[f"b{depth(state.params)}"].shape[0]
    lay = _transposed if transposed else lambda tree: tree

    def one(state: TrainState, at: tuple[Array, Any]) -> tuple[TrainState, None]:
        place, batch = at
        images, labels = read(batch)
        X, Y = unit_interval(images, scale), one_hot(labels, n_classes)
        state = step(
            state,
            X,
            Y,
            hyper,
            terms,
            step_key(key, place),
            optimiser=optimiser,
            activation=activation,
            image_shape=image_shape,
            teacher_activation=teacher_activation,
            lay=lay,
        )
        return state, None

    count = len(jax.tree.leaves(batches)[0])
    places = first + jnp.arange(count, dtype=jnp.uint32)
    trained: TrainState = lay(jax.lax.scan(one, lay(state), (places, batches))[0])
    return trained


def evaluate(
    params: Params,
    images: Array | NDArray[Any],
    labels: Array | NDArray[Any],
    scale: Array | np.float32,
    *,
    activation: Activation = sigmoid,
) -> Evaluation:
    """Loss, correct answers and logits over every row, images (n, n_x) as stored, labels (n,).

    A slice of `evaluation_slices` at a time, each by the same compiled program, and one loss of all
    logits. Wherever the slices are computed, on one device or on several, from images on a device
    or on the host, of which two slices are shipped at most: the result has the same bits.
    """
    params = jax.device_put(params)
    parts: list[Any] = []
    for rows in evaluation_slices(*images.shape):
        if isinstance(images, Array):
            part = rows_of(images, np.int32(rows.start), len(rows))
        else:
            part = images[rows.start : rows.stop]
        parts.append(slice_logits(params, part, scale, activation=activation))
        if len(parts) > 1:
            parts[-2] = np.asarray(parts[-2])  # no more than two slices are under way
    found: Evaluation = score(joined(parts, len(images)), labels)
    return found


def evaluation_slices(n: int, n_x: int) -> list[range]:
    """The rows that are evaluated at a time: equally many in each, as the shape of the data alone
    decides. The last slice begins within the one before where they do not divide n.

    A product's last bits may depend on how many rows it has: equal slices give equal bits.
    """
    most = min(EVALUATION_ROWS, max(1, EVALUATION_INPUTS // n_x))
    size = -(-n // -(-n // most))
    return [range(first, first + size) for first in (min(at, n - size) for at in range(0, n, size))]


@partial(jax.jit, static_argnames="activation")
def slice_logits(
    params: Params, images: Array, scale: Array, *, activation: Activation = sigmoid
) -> Array:
    """The logits (m, C) of images (m, n_x) as stored; of a committee, those of its answer."""
    return logits(params, unit_interval(images, scale), activation)


def all_logits(
    params: Params, images: Array, scale: Array, activation: Activation = sigmoid
) -> Array:
    """Inside a program: the logits (n, C) of all images (n, n_x), slice by slice."""
    slices = evaluation_slices(*images.shape)

    def one(first: Array) -> Array:
        rows = rows_of(images, first, len(slices[0]))
        Z: Array = slice_logits(params, rows, scale, activation=activation)
        return Z

    Z = jax.lax.map(one, jnp.array([rows.start for rows in slices], jnp.int32))
    together: Array = joined(list(Z), len(images), jnp)
    return together


def joined(parts: Sequence[Any], n: int, numpy: Any = np) -> Any:
    """The logits (n, C) from those of each of `evaluation_slices`: on the host, by NumPy."""
    *whole, last = parts
    new = n - sum(len(part) for part in whole)
    return numpy.concatenate([*whole, last[len(last) - new :]])


@jax.jit
def score(Z: Array, labels: Array) -> Evaluation:
    """The evaluation that logits Z (n, C) amount to, where labels (n,) are true."""
    correct = (Z.argmax(axis=1) == labels).sum(dtype=jnp.int32)
    return Evaluation(cross_entropy(Z, one_hot(labels, Z.shape[1])), correct, Z)


@partial(jax.jit, static_argnames="size")
def rows_of(images: Array, first: Array, size: int) -> Array:
    """`size` rows from `first` on."""
    return jax.lax.dynamic_slice_in_dim(images, first, size)


def _gradient(
    params: Params, X: Array, Y: Any, terms: Terms, key: Array | None, activation: Activation
) -> Params:
    masks = masks_of(params, X, terms, key)
    return gradient(params, X, Y, activation, masks=masks, l2=terms.l2, loss=loss_of(terms))


def targets_of(terms: Terms, X: Array, Y: Array, teacher_activation: Activation) -> Any:
    """What the loss is given: the labels Y (m, C), smoothed or with a teacher's answers beside."""
    if terms.label_smoothing is not None:
        Y = smooth(Y, terms.label_smoothing)
    if terms.lesson is None:
        return Y
    teacher, T, _ = terms.lesson
    return Distilled(Y, soft_answer(teacher, X, teacher_activation, T))


def loss_of(terms: Terms) -> Loss:
    """The document's loss, or a lesson's."""
    if terms.lesson is None:
        return softmax_cross_entropy
    return distillation(terms.lesson.temperature, terms.lesson.weight)


def masks_of(params: Params, X: Array, terms: Terms, key: Array | None) -> dict[str, Array]:
    """Dropout's: one for the inputs and one for each hidden layer, as far as they have a rate."""
    widths = [X.shape[1], *(len(params[f"b{layer}"]) for layer in range(1, depth(params)))]
    rates = [terms.input_dropout, *[terms.dropout] * (len(widths) - 1)]
    masks = {}
    for layer, (width, rate) in enumerate(zip(widths, rates, strict=True)):
        if rate is not None:
            if key is None:
                raise ValueError("dropout draws from a key: expected one, found None")
            masks[f"D{layer}"] = dropout_mask(jax.random.fold_in(key, layer), rate, (len(X), width))
    return masks


def _updated(
    state: TrainState,
    grads: Params,
    terms: Terms,
    optimiser: optax.GradientTransformation,
    lay: Callable[[Any], Any] = lambda tree: tree,
) -> TrainState:
    updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    if terms.max_norm is not None:
        params = lay(max_norm(lay(params), terms.max_norm))
    average = state.average
    if average is not None and terms.average is not None:
        average = optax.incremental_update(params, average, 1 - terms.average)
    return TrainState(params, opt_state, average)


def _transposed(tree: Any) -> Any:
    """Every matrix of a pytree transposed; its own inverse."""
    return jax.tree.map(lambda leaf: leaf.T, tree)
