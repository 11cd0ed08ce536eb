"""The document's momentum, built from optax's own transformations.

An optimiser is a function of its hyperparameters that returns an `optax.GradientTransformation`.
The training step calls it inside the compiled program, so that the hyperparameters are arguments of
that program. `optax.sgd`, `optax.adam` or a function that chains several can take its place.
"""

import optax
from jax import Array


def momentum(lr: Array | float, beta: Array | float) -> optax.GradientTransformation:
    """V ← βV + (1 − β) g, then p ← p − lr·V.

    `optax.ema` without its debiasing is the first rule. `optax.sgd(lr, momentum=beta)` is another
    one: it leaves out the factor 1 − β, so its step is 1/(1 − β) times as long.
    """
    return optax.chain(optax.ema(beta, debias=False), optax.scale(-lr))
