"""Several networks of one shape as one pytree, and what they say together.

The parameters of an ensemble have the shapes of one network's, with a first axis for its members.
Whatever answers for a network answers for an ensemble as well.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn.nn.activations import Activation, sigmoid
from jaxnn.nn.losses import log_softmax, soften
from jaxnn.nn.mlp import Params, depth, feed_forward


def is_ensemble(params: Params) -> bool:
    """Whether the parameters have an axis of members."""
    return params["b1"].ndim == 2


def logits(params: Params, X: Array, activation: Activation = sigmoid) -> Array:
    """Z_L (m, C) of a network; of an ensemble, the logarithm of the mean of its members' A_L.

    Both are logits of what is answered: log softmax(log p) = log p.
    """
    if not is_ensemble(params):
        return feed_forward(params, X, activation)[f"Z{depth(params)}"]
    members = jax.vmap(lambda member: log_softmax(logits(member, X, activation)))(params)
    return jax.nn.logsumexp(members, axis=0) - jnp.log(jnp.float32(members.shape[0]))


def soft_answer(params: Params, X: Array, activation: Activation, T: Array) -> Array:
    """softmax(Z_L / T), (m, C); of an ensemble, the mean over its members."""
    if not is_ensemble(params):
        return soften(logits(params, X, activation), T)
    return jax.vmap(lambda member: soft_answer(member, X, activation, T))(params).mean(axis=0)
