"""The document's momentum, written out; Nesterov's, Adam and AdamW, which are optax's; schedules.

The schedules are our own: optax's want the number of steps as a Python number, so that runs of
other lengths would be compiled anew.

An optimiser is a function of its hyperparameters that returns an `optax.GradientTransformation`.
The training step calls it inside the compiled program, so that the hyperparameters are arguments of
that program. `optax.sgd`, `optax.adam` or a function that chains several can take its place.

`lr` is a number, an array, or what `scheduled` makes of one. g is the gradient, p the parameter;
V, M and S are 0 at the beginning.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

Schedule = Callable[[Array], Array]
LearningRate = Array | float | Schedule

#: The part of a `one_cycle` in which the step grows, and where it begins.
RISE, BEGINNING = 0.2, 0.1


def momentum(lr: LearningRate, beta: Array | float) -> optax.GradientTransformation:
    """V ← βV + (1 − β) g, then p ← p − lr·V.

    `optax.sgd(lr, momentum=beta)` is another rule: it leaves out the factor 1 − β, so its step is
    1/(1 − β) times as long.

    >>> rule = jaxnn.momentum(lr=0.5, beta=0.9)
    >>> V = rule.init(jnp.zeros(2))
    >>> step, V = rule.update(jnp.array([1.0, -2.0]), V)
    >>> np.round(step, 3).tolist() == np.float32([-0.05, 0.1]).tolist()
    True
    """
    return optax.chain(velocity(beta), optax.scale_by_learning_rate(lr))


def velocity(beta: Array | float) -> optax.GradientTransformation:
    """V ← βV + (1 − β) g, and V takes the gradient's place. The state counts the steps as well."""

    def init(params: Any) -> optax.EmaState:
        return optax.EmaState(jnp.zeros([], jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(g: Any, state: Any, params: Any = None) -> tuple[Any, optax.EmaState]:
        # In this order, which decides which product a fused multiply-add rounds.
        V = jax.tree.map(lambda V, g: (1 - beta) * g + beta * V, state.ema, g)
        return V, optax.EmaState(optax.safe_increment(state.count), V)

    return optax.GradientTransformation(init, update)


def nesterov(lr: LearningRate, beta: Array | float) -> optax.GradientTransformation:
    """V ← βV + (1 − β) g, then p ← p − lr·(βV + (1 − β) g).

    The document's momentum, one step ahead: the same gradient counts again, as it will in the next
    V. The form of Sutskever et al. (ICML 2013), with the factor 1 − β.
    """
    ahead = optax.chain(optax.scale(1 - beta), optax.trace(beta, nesterov=True))
    return optax.chain(ahead, optax.scale_by_learning_rate(lr))


def adam(
    lr: LearningRate,
    beta: Array | float = 0.9,
    beta2: Array | float = 0.999,
    eps: Array | float = 1e-8,
) -> optax.GradientTransformation:
    """M ← βM + (1 − β) g, S ← β₂S + (1 − β₂) g², then p ← p − lr·M̂ / (√Ŝ + ε).

    In step t, M̂ = M/(1 − βᵗ) and Ŝ = S/(1 − β₂ᵗ) (Kingma and Ba, arXiv:1412.6980).
    """
    return _promoting(optax.adam(lr, beta, beta2, eps))


def adamw(
    lr: LearningRate,
    beta: Array | float = 0.9,
    beta2: Array | float = 0.999,
    eps: Array | float = 1e-8,
    weight_decay: Array | float = 0.01,
) -> optax.GradientTransformation:
    """Adam with p ← p − lr·(M̂ / (√Ŝ + ε) + λp) for weights; biases do not decay.

    λ, the `weight_decay`, is not the λ of a penalty in the loss: it is not divided by √Ŝ
    (Loshchilov and Hutter, arXiv:1711.05101).
    """
    rule = optax.adamw(lr, beta, beta2, eps, weight_decay=weight_decay, mask=_matrices)
    return _promoting(rule)


OPTIMISERS = {rule.__name__: rule for rule in (momentum, nesterov, adam, adamw)}


def constant(s: Array) -> Array:
    """1."""
    return jnp.ones_like(s)


def linear(s: Array) -> Array:
    """1 − s: from 1 to 0."""
    return 1 - s


def cosine(s: Array) -> Array:
    """(1 + cos πs) / 2: from 1 to 0 (Loshchilov and Hutter, arXiv:1608.03983)."""
    return (1 + jnp.cos(jnp.pi * s)) / 2


def one_cycle(s: Array) -> Array:
    """From BEGINNING in a line to 1 at s = RISE, then in a line to 0.

    A large step in the middle, a small one at both ends (Smith and Topin, arXiv:1708.07120).
    """
    rising = BEGINNING + (1 - BEGINNING) * s / RISE
    return jnp.minimum(rising, (1 - s) / (1 - RISE))


#: Each a function of the progress s of a training run, 0 at its beginning and 1 at its end, that
#: gives the factor on the learning rate.
SCHEDULES: dict[str, Schedule] = {f.__name__: f for f in (constant, linear, cosine, one_cycle)}


def scheduled(lr: Array | float, schedule: Schedule, steps: Array | int) -> Schedule:
    """lr · schedule(t / steps) in step t = 0, 1, …, and the schedule's end from t = `steps` on.

    An optimiser that takes it as its `lr` counts the steps in its state.
    """

    def at(count: Array) -> Array:
        length = jnp.asarray(lr)
        done, whole = (jnp.asarray(n).astype(length.dtype) for n in (count, steps))
        return length * schedule(jnp.minimum(done / whole, 1))

    return at


def _promoting(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """optax's Adam raises β to a count of steps, a float to an integer: the result is a float by
    the standard rules, an error by the strict ones."""

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return rule.update(updates, state, params)

    return optax.GradientTransformation(rule.init, update)


def _matrices(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim == 2, params)
