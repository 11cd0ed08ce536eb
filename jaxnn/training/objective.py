"""The objective: what a step makes smaller. Inputs and targets, dropout's masks, the loss."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxnn.nn.activations import Activation
from jaxnn.nn.ensemble import soft_answer
from jaxnn.nn.losses import Distilled, Loss, distillation, smooth, softmax_cross_entropy
from jaxnn.nn.mlp import Params, depth, gradient
from jaxnn.nn.regularisation import dropout_mask
from jaxnn.training.program import Hyperparameters


def unit_interval(images: Array, scale: Array | np.float32) -> Array:
    """Pixels as float32 in [0, 1]: `scale` is 1 over the largest value that a pixel can have."""
    return images.astype(jnp.float32) * scale


def one_hot(labels: Array, n_classes: int) -> Array:
    """(m,) integers to (m, C) float32 rows with a single 1."""
    return jax.nn.one_hot(labels, n_classes, dtype=jnp.float32)


def objective_gradient(
    params: Params,
    X: Array,
    targets: Any,
    hyper: Hyperparameters,
    key: Array | None,
    activation: Activation,
) -> Params:
    """The hand-written gradient of the objective, with dropout drawn from `key`."""
    masks = dropout_masks(params, X, hyper, key)
    return gradient(params, X, targets, activation, masks=masks, l2=hyper.l2, loss=loss_of(hyper))


def targets_of(hyper: Hyperparameters, X: Array, Y: Array, teacher_activation: Activation) -> Any:
    """What the loss is given: the labels Y (m, C), smoothed or with a teacher's answers beside."""
    if hyper.label_smoothing is not None:
        Y = smooth(Y, hyper.label_smoothing)
    if hyper.distillation is None:
        return Y
    teacher, T, _ = hyper.distillation
    return Distilled(Y, soft_answer(teacher, X, teacher_activation, T))


def loss_of(hyper: Hyperparameters) -> Loss:
    """The document's loss, or distillation's."""
    if hyper.distillation is None:
        return softmax_cross_entropy
    return distillation(hyper.distillation.temperature, hyper.distillation.weight)


def dropout_masks(
    params: Params, X: Array, hyper: Hyperparameters, key: Array | None
) -> dict[str, Array]:
    """One for the inputs and one for each hidden layer, as far as they have a rate."""
    widths = [X.shape[1], *(len(params[f"b{layer}"]) for layer in range(1, depth(params)))]
    rates = [hyper.input_dropout, *[hyper.dropout] * (len(widths) - 1)]
    masks = {}
    for layer, (width, rate) in enumerate(zip(widths, rates, strict=True)):
        if rate is not None:
            if key is None:
                raise ValueError("dropout draws from a key: expected one, found None")
            masks[f"D{layer}"] = dropout_mask(jax.random.fold_in(key, layer), rate, (len(X), width))
    return masks
