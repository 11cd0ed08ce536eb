"""What the symbols of docs/derivation.md stand for: the values that the code computes, in float64.

Sizes are distinct primes, so that no axis can pass for another. A symbol may mean something else
under one equation than under the others, as on paper: `symbols(number)` has those of an equation.
"""

import re
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from math import ceil, pi
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy.special import erfc
from scipy.stats import norm as normal

from jaxnn.nn import initialisation, losses, mlp, optimisers, regularisation
from jaxnn.nn.activations import ACTIVATIONS, Activation
from jaxnn.runs.metrics import classification_report
from jaxnn.training.program import Hyperparameters, Program
from jaxnn.training.step import init_state, train_epoch, train_step

from .formula import Off

Names = dict[str, Any]

N, L, M = (11, 7, 5, 3), 3, 13
RNG = np.random.default_rng(0)
X = RNG.normal(size=(M, N[0]))
PARAMS = {
    name: value
    for layer, (n_in, n_out) in enumerate(pairwise(N), start=1)
    for name, value in (
        (f"W{layer}", RNG.normal(size=(n_out, n_in)) * n_in**-0.5),
        (f"b{layer}", RNG.normal(size=n_out)),
    )
}
WEIGHTS = np.exp(RNG.normal(size=(M, N[-1])))
Y = WEIGHTS / WEIGHTS.sum(axis=1, keepdims=True)
SPREAD = RNG.normal(size=(M, N[-1])) * 3 + np.arange(-6, 7)[:, None] * 300
GRID = [-30.0, -7.0, -1.5, -0.25, 0.0, 0.25, 1.5, 7.0, 30.0]

#: How many draws stand for a distribution: a variance is then off by √(2/DRAWS) of itself, and
#: five of these are allowed.
DRAWS = 5_000


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """One program, compiled fast: these run once."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": "0"})


def named(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of jax as one of NumPy."""

    def in_numpy(z: Any) -> Any:
        with jax.enable_x64(True):
            return np.asarray(function(jnp.asarray(z, "float64")))

    return in_numpy


def derivative(g: Activation) -> Callable[[Any], Any]:
    return named(lambda Z: g.derivative(Z, g.function(Z)))


def layered(values: Any) -> Names:
    """{"Z1": …, "dW2": …} as {"Z": {1: …}, "dW": {2: …}}."""
    found: Names = {}
    for name, value in values.items():
        letter, layer = re.fullmatch(r"([A-Za-z]+)(\d+)", name).groups()  # type: ignore[union-attr]
        found.setdefault(letter, {})[int(layer)] = np.asarray(value)
    return found


def network(
    activation: str = "sigmoid",
    targets: Any = Y,
    masks: Any = mlp.NO_MASKS,
    loss: Any = losses.softmax_cross_entropy,
    **l2: float,
) -> Names:
    """The cache and every derivative of one network on one batch."""
    g = ACTIVATIONS[activation]

    @compiled
    def program(params: Any, X: Any, targets: Any, masks: Any) -> Any:
        cache = mlp.feed_forward(params, X, g, masks=masks)
        d = mlp.back_propagate(params, cache, targets, g, loss=loss, **l2)
        return cache | d, mlp.loss(params, X, targets, g, masks=masks, loss=loss, **l2)

    values, mean_loss = program(PARAMS, X, targets, dict(masks))
    functions = {"g": named(g.function), "g_prime": derivative(g)}
    return layered(PARAMS | values) | {"mean_loss": np.asarray(mean_loss)} | functions


def constants() -> Names:
    """The symbols that mean the same throughout, and NumPy's functions by their usual names."""
    sigmoid, tanh, relu = (ACTIVATIONS[name] for name in ("sigmoid", "tanh", "relu"))
    return {
        "m": M, "n": N, "L": L, "C": N[-1], "Y": Y, "δ": np.eye(N[-1]), "π": pi, "I": np.eye,
        "DOMAIN": {"l": range(1, L + 1), "z": GRID},
        "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "cos": np.cos, "tanh": np.tanh,
        "norm": np.linalg.norm, "dot": np.dot, "ceil": ceil, "O": Off, "erfc": erfc,
        "Mean": lambda x: np.mean(x, axis=-1), "Var": lambda x: np.var(x, axis=-1),
        "σ": named(sigmoid.function), "σ_prime": derivative(sigmoid),
        "tanh_prime": derivative(tanh), "ReLU": named(relu.function),
        "ReLU_prime": derivative(relu), "softmax": named(losses.softmax),
        "log_A": {L: np.asarray(losses.log_softmax(jnp.asarray(plain()["Z"][L])))},
    }  # fmt: skip


@cache
def plain() -> Names:
    return network()


# ------------------------------------------------------- where a symbol means something of its own


@cache
def drawn(initialiser: initialisation.Initialiser, activation: str = "sigmoid") -> Names:
    """Many networks that training may start from: their last axis counts them. Z_l is that of one
    A_{l−1}, dA_{l−1} that of one dZ_l."""
    draw = jax.vmap(lambda key: mlp.init_params(key, N, initialiser, jnp.float64))
    draws = compiled(lambda key: draw(jax.random.split(key, DRAWS)))(jax.random.key(0))
    start = layered({name: np.moveaxis(np.asarray(v), 0, -1) for name, v in draws.items()})
    one = network(activation)
    Z = {k: np.einsum("ik,jks->ijs", one["A"][k - 1], W) for k, W in start["W"].items()}
    dA = {k - 1: np.einsum("ij,jks->iks", one["dZ"][k], W) for k, W in start["W"].items()}
    sure = {"A": one["A"], "dZ": one["dZ"], "RTOL": 5 * (2 / DRAWS) ** 0.5}
    return start | sure | {"Z": Z, "dA": dA, "ATOL": 5 * DRAWS**-0.5}


def far_apart() -> Names:
    """Logits whose exponentials overflow, and rows that are far from each other."""
    return {"Z": SPREAD, "M": SPREAD.max(axis=1)}


def single() -> Names:
    """The loss of each example by itself."""
    each = jax.vmap(lambda Z, Y: losses.cross_entropy(Z[None, :], Y[None, :]))
    return {"loss": np.asarray(compiled(each)(plain()["Z"][L], Y))}


@cache
def jacobian() -> Names:
    """By autodiff; of the softmax, and of each example's loss where rows of Y do not sum to 1."""
    Z, any_Y = jnp.asarray(plain()["Z"][L]), Y * np.arange(1, M + 1)[:, None]
    of_softmax = compiled(jax.jacobian(losses.softmax))(Z)
    of_loss = M * compiled(jax.grad(losses.cross_entropy))(Z, any_Y)
    rows = np.arange(M)
    return {"dA_dZ": np.asarray(of_softmax)[rows, :, rows], "Y": any_Y, "dloss_dZ": of_loss}


def in_order() -> Names:
    """The derivatives of a network of two layers, in the order in which they are found."""
    two = {name: PARAMS[name] for name in ("W1", "b1", "W2", "b2")}
    order: list[str] = []
    back = lambda: order.extend(mlp.back_propagate(two, mlp.feed_forward(two, X), Y[:, :1]))  # noqa: E731
    jax.eval_shape(back)
    return {"L": 2, "order": order}


@compiled
def by_hand(params: Any, X: Any, Y: Any) -> Any:
    return mlp.gradient(params, X, Y)


def trained(optimiser: Any, **hyper: float) -> Names:
    """p, its gradient and the optimiser's own arrays after each of five steps; p is W_2."""
    arrays = Hyperparameters({name: jnp.float64(value) for name, value in hyper.items()})
    program = Program(optimiser=optimiser)
    state = init_state(jax.tree.map(jnp.array, PARAMS), arrays, optimiser)
    p, g, kept = [], [None], []
    for step in range(6):
        p.append(np.asarray(state.params["W2"]))
        leaves = jax.tree.leaves(state.opt_state)
        kept.append([np.asarray(leaf) for leaf in leaves if leaf.shape == p[0].shape])
        if step < 5:
            g.append(np.asarray(by_hand(state.params, X, Y)["W2"]))
            state = train_step(state, jnp.asarray(X), Y, arrays, program=program)
    written = {"beta": "β", "beta2": "β2", "eps": "ε", "weight_decay": "λ"}
    constant = {written.get(name, name): value for name, value in hyper.items()}
    names = "MS" if len(kept[0]) == 2 else "V"
    running = {
        name: list(arrays) for name, arrays in zip(names, zip(*kept, strict=True), strict=True)
    }
    return {"DOMAIN": {"t": range(1, 6)}, "p": p, "W": p, "g": g} | constant | running


@cache
def with_momentum() -> Names:
    return trained(optimisers.momentum, lr=0.5, beta=0.8)


def as_sgd() -> Names:
    """Another rule that takes the same steps has another V."""
    other = trained(lambda lr, beta: optax.sgd(lr * (1 - beta), momentum=beta), lr=0.5, beta=0.8)
    return with_momentum() | {"U": other["V"]}


def moved() -> Names:
    """The loss where a Z_l or an A_l is replaced, and jax.grad of it."""

    def mean_loss(**places: dict[int, Any]) -> Any:
        ((letter, values),) = places.items()
        given = {f"{letter}{layer}": value for layer, value in values.items()}
        tap = lambda name, value: given.get(name, value)  # noqa: E731
        return losses.cross_entropy(mlp.feed_forward(PARAMS, X, tap=tap)[f"Z{L}"], Y)

    grad = lambda function, at: named(jax.grad(function))(at)  # noqa: E731
    return {"mean_loss": mean_loss, "grad": grad}


@cache
def along_a_line() -> Names:
    """A step along a direction v of length 1, on which the second derivative is below 2."""
    p, unravel = ravel_pytree(jax.tree.map(jnp.asarray, PARAMS))
    v = np.random.default_rng(1).normal(size=p.size)
    grad_L = np.asarray(ravel_pytree(by_hand(PARAMS, X, Y))[0])
    v = v / np.linalg.norm(v) + grad_L / np.linalg.norm(grad_L)
    values = {"p": np.asarray(p), "v": v / np.linalg.norm(v), "h": 1e-4, "grad_L": grad_L}
    return values | {"mean_loss": named(compiled(lambda q: mlp.loss(unravel(q), X, Y)))}


def binary() -> Names:
    """The binary cross-entropy, by optax and by jax.grad."""
    sigmoid, Z = ACTIVATIONS["sigmoid"].function, jnp.asarray(plain()["Z"][L])
    A = sigmoid(Z)
    of_A = jax.grad(lambda A: -(Y * jnp.log(A) + (1 - Y) * jnp.log(1 - A)).sum())
    loss = compiled(optax.sigmoid_binary_cross_entropy)(Z, Y).sum(axis=1)
    dZ = losses.cross_entropy_derivative(A, Y)
    found = {"loss": loss, "Z": Z, "A": A, "dA": compiled(of_A)(A), "dZ": dZ}
    return {name: np.asarray(value) for name, value in found.items()}


def batches() -> Names:
    """Which examples a step of an epoch sees: where X is the identity, column i of dW_1 is not 0
    if, and only if, example i is in the batch. An optimiser that only takes notes sees dW_1."""
    n, B, S = 17, 5, 4
    order = jnp.asarray(np.random.default_rng(3).permutation(n))

    def update(g: Any, state: Any, params: Any) -> Any:
        step, seen = state
        return jax.tree.map(jnp.zeros_like, g), (step + 1, seen.at[step].set(abs(g["W1"]).sum(0)))

    def notes() -> Any:
        empty = (jnp.int32(0), jnp.zeros((S + 3, n), jnp.float32))
        return optax.GradientTransformation(lambda params: empty, update)

    images, labels = jnp.eye(n, dtype="uint8"), jnp.zeros(n, "int32")
    start = {"W1": jnp.zeros((2, n), "float32"), "b1": jnp.zeros(2, "float32")}
    state = train_epoch(
        init_state(start, Hyperparameters({}), notes),
        images,
        labels,
        jnp.float32(1),
        jax.random.key(0),
        Hyperparameters({}),
        order,
        program=Program(batch_size=B, optimiser=notes),
    )
    steps, seen = state.opt_state
    batch = [[i for i in range(n) if seen[s, order[i]] > 0] for s in range(int(steps))]
    return {"n": n, "B": B, "S": int(steps), "batch": batch, "DOMAIN": {"s": range(int(steps))}}


def counted() -> Names:
    """A table of predictions, in which every class is mistaken for another one."""
    truth, predicted = np.random.default_rng(0).integers(5, size=(2, 101))
    report, classes = classification_report(truth, predicted, 5), range(5)
    values = {name: [report[str(j)][name] for j in classes] for name in ("precision", "recall")}
    return values | {
        "TP": [((truth == j) & (predicted == j)).sum() for j in classes],
        "FP": [((truth != j) & (predicted == j)).sum() for j in classes],
        "FN": [((truth == j) & (predicted != j)).sum() for j in classes],
    }


def other(activation: str) -> Names:
    g = ACTIVATIONS[activation]
    scipy_s = {"Φ": normal.cdf, "φ": normal.pdf}
    return {"g": named(g.function), "g_prime": derivative(g)} | scipy_s


def he() -> Names:
    found = drawn(initialisation.he, "relu")
    sample = 3 * np.random.default_rng(0).normal(size=101)
    symmetric = np.concatenate([sample, -sample])
    return found | {"DOMAIN": {"l": range(1, L + 1), "z": [symmetric]}}


def orthogonal() -> Names:
    sizes = (7, 5, 11, 3)
    draw = lambda key: mlp.init_params(key, sizes, initialisation.orthogonal, jnp.float64)  # noqa: E731
    params = compiled(draw)(jax.random.key(0))
    return {"n": sizes, "W": layered(params)["W"]}


@cache
def masked() -> Names:
    """Dropout's masks for the inputs and the hidden layers."""
    p, keys = 0.3, {layer: jax.random.key(layer) for layer in range(L)}

    @compiled
    def program(keys: Any) -> Any:
        shapes = {layer: (M, N[layer]) for layer in keys}
        kept = {k: jax.random.bernoulli(keys[k], 1 - p, shapes[k]) for k in keys}
        draw = regularisation.dropout_mask
        return {f"D{k}": draw(keys[k], p, shapes[k], jnp.float64) for k in keys}, kept

    masks, kept = program(keys)
    dropped = {layer: ~np.asarray(K) for layer, K in kept.items()}
    return network(masks=masks) | {"p": p, "dropped": dropped}


@cache
def penalised() -> Names:
    found = network(l2=0.3)
    return plain() | {"λ": 0.3, "penalised_loss": found["mean_loss"], "dL_dW": found["dW"]}


def shortened() -> Names:
    c = 0.9
    new = compiled(regularisation.max_norm)(PARAMS, c)
    return {"c": c, "W_new": layered(new)["W"]}


def smoothed() -> Names:
    return {"ε": 0.2, "Y_smooth": np.asarray(losses.smooth(jnp.asarray(Y), 0.2))}


@cache
def distilled() -> Names:
    T, w, V = 3.0, 0.7, np.random.default_rng(2).normal(size=(M, N[-1])) * 3
    P = compiled(losses.soften)(jnp.asarray(V), T)
    found = network(targets=losses.Distilled(Y, P), loss=losses.distillation(T, w))

    def H(Y: Any, A: Any) -> Any:
        return -(Y * np.log(A)).sum() / M

    return found | {"T": T, "w": w, "V": V, "P": np.asarray(P), "H": H}


def hot() -> Names:
    """Logits of mean 0 and below 3 at a high temperature."""
    both = np.random.default_rng(2).uniform(-2, 2, size=(2, M, N[-1]))
    Z, V = both - both.mean(axis=2, keepdims=True)
    return {"T": 1e4, "Z": {L: Z}, "V": V}


def schedules() -> Names:
    N_steps, lr = 8, 0.5
    rate = optimisers.scheduled(lr, optimisers.linear, N_steps)
    functions = (optimisers.linear, optimisers.cosine, optimisers.one_cycle)
    values = {f"f_{f.__name__}": named(f) for f in functions}
    domain = {"t": range(N_steps + 1), "s": np.linspace(0, 1, 41)}
    rates = [np.asarray(rate(jnp.asarray(t))) for t in domain["t"]]
    return values | {"N": N_steps, "lr": lr, "rate": rates, "DOMAIN": domain}


#: Of the other equations every symbol is that of one network of three layers.
OF_THEIR_OWN: dict[int, Callable[[], Names]] = {
    2: lambda: drawn(initialisation.document),
    3: lambda: drawn(initialisation.document),
    7: far_apart,
    8: single,
    10: jacobian,
    11: jacobian,
    16: lambda: network("tanh"),
    20: in_order,
    **dict.fromkeys((21, 22, 23), with_momentum),
    24: as_sgd,
    25: moved,
    **dict.fromkeys((26, 27), along_a_line),
    28: binary,
    29: batches,
    30: counted,
    31: lambda: other("leaky_relu"),
    32: lambda: other("softplus"),
    33: lambda: other("gelu"),
    34: lambda: other("silu"),
    35: he,
    36: lambda: drawn(initialisation.glorot),
    37: orthogonal,
    **dict.fromkeys((38, 39), masked),
    **dict.fromkeys((40, 41), penalised),
    42: shortened,
    43: smoothed,
    **dict.fromkeys((44, 45), distilled),
    46: hot,
    47: lambda: trained(optimisers.nesterov, lr=0.5, beta=0.8),
    48: lambda: trained(optimisers.adam, lr=0.1, beta=0.8, beta2=0.95, eps=0.05),
    49: lambda: trained(optimisers.adamw, lr=0.1, beta=0.8, beta2=0.95, eps=0.05, weight_decay=0.3),
    50: schedules,
}


@cache
def symbols(number: int) -> Names:
    """What every symbol of an equation stands for."""
    with jax.enable_x64(True):
        return constants() | plain() | OF_THEIR_OWN.get(number, dict)()
