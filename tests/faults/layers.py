"""Layers of all kinds, differentiated as people write it down, and the slips that they make.

Each loss is small and takes a dictionary of parameters. Its gradient is written once; a slip is an
option of it. `first_wrong` is left open: the doctor names the place in the loss.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .problems import Problem, numpy_sigmoid, numpy_softmax

# -- A recurrent network --------------------------------------------------------------------------


def recurrent(p, x):
    h, total = jnp.zeros(4, x.dtype), 0.0
    for row in x:
        h = jnp.tanh(p["U"] @ row + p["R"] @ h)
        total = total + jnp.sum(jnp.sin(p["V"] @ h))
    return total


def recurrent_gradient(p, x, back=lambda dz, R: R.T @ dz, before=lambda hs, t: hs[t - 1]):
    hs = {-1: np.zeros(4, x.dtype)}
    for t, row in enumerate(x):
        hs[t] = np.tanh(p["U"] @ row + p["R"] @ hs[t - 1])
    d, later = {k: np.zeros_like(v) for k, v in p.items()}, hs[-1]
    for t in reversed(range(len(x))):
        dy = np.cos(p["V"] @ hs[t])
        dz = (1 - hs[t] ** 2) * (p["V"].T @ dy + later)
        d["V"] += np.outer(dy, hs[t])
        d["U"] += np.outer(dz, x[t])
        d["R"] += np.outer(dz, before(hs, t))
        later = back(dz, p["R"])
    return d


# -- A recurrent network's gate -------------------------------------------------------------------


def gated(p, x, h):
    z, n = jax.nn.sigmoid(x @ p["Z"]), jnp.tanh(x @ p["N"])
    return 0.5 * (((1 - z) * n + z * h) ** 2).sum()


def gated_gradient(p, x, h, share=lambda z: 1 - z, finish=lambda g: g):
    z, n = numpy_sigmoid(x @ p["Z"]), np.tanh(x @ p["N"])
    dout = (1 - z) * n + z * h
    dz, dn = dout * (h - n), dout * share(z)
    return {"Z": finish(x.T @ (dz * z * (1 - z))), "N": finish(x.T @ (dn * (1 - n**2)))}


# -- Batch normalisation, with a leaky ReLU behind it ---------------------------------------------


def normalised(p, x, t):
    z = x @ p["W"]
    hat = (z - z.mean(0)) / jnp.sqrt(z.var(0) + 1e-3)
    y = p["g"] * hat + p["b"]
    return 0.5 * ((jnp.where(y > 0, y, 0.2 * y) - t) ** 2).sum()


def normalised_gradient(p, x, t, gain=True, moments=True, slope=0.2):
    z = x @ p["W"]
    r = 1 / np.sqrt(z.var(0) + z.dtype.type(1e-3))
    hat = (z - z.mean(0)) * r
    y = p["g"] * hat + p["b"]
    dy = (np.where(y > 0, y, y.dtype.type(0.2) * y) - t) * np.where(y > 0, 1, slope).astype(y.dtype)
    d = dy * p["g"] if gain else dy
    dz = r * (d - d.mean(0) - hat * (d * hat).mean(0)) if moments else r * d
    return {"W": x.T @ dz, "g": (dy * hat).sum(0), "b": dy.sum(0)}


# -- Attention ------------------------------------------------------------------------------------


def attention(p, x, t):
    q, k, v = x @ p["Q"], x @ p["K"], x @ p["V"]
    a = jax.nn.softmax(q @ k.T / 2)
    return 0.5 * ((x + a @ v - t) ** 2).sum()


def softmax_back(a, da):
    return a * (da - (a * da).sum(1, keepdims=True))


def attention_gradient(p, x, t, scale=2, back=softmax_back):
    q, k, v = x @ p["Q"], x @ p["K"], x @ p["V"]
    a = numpy_softmax(q @ k.T / 2)
    dout = x + a @ v - t
    ds = back(a, dout @ v.T) / scale
    return {"Q": x.T @ ds @ k, "K": x.T @ ds.T @ q, "V": x.T @ a.T @ dout}


# -- Rows of length 1 -----------------------------------------------------------------------------


def unit_rows(p, x, t):
    z = x @ p["W"]
    return (z / jnp.sqrt((z**2).sum(1, keepdims=True)) * t).sum()


def unit_rows_gradient(p, x, t, back=lambda d, y: d - y * (d * y).sum(1, keepdims=True)):
    z = x @ p["W"]
    norm = np.sqrt((z**2).sum(1, keepdims=True))
    return {"W": x.T @ (back(t, z / norm) / norm)}


# -- A penalty on the activations -----------------------------------------------------------------


def penalised(p, x, t):
    h = jnp.tanh(x @ p["W"])
    y = jnp.tanh(h @ p["V"])
    return 0.5 * ((y - t) ** 2).sum() + 0.5 * (h**2).sum()


def penalised_gradient(p, x, t, too_early=False):
    h = np.tanh(x @ p["W"])
    y = np.tanh(h @ p["V"])
    dy = y - t
    dh = ((dy + h if too_early else dy) * (1 - y**2)) @ p["V"].T
    dh = dh if too_early else dh + h
    return {"W": x.T @ (dh * (1 - h**2)), "V": h.T @ (dy * (1 - y**2))}


# -- Sequences of several lengths -----------------------------------------------------------------


def averaged(p, x, mask, t):
    h = jnp.tanh(x @ p["W"])
    kept = jnp.where(mask[:, :, None], h, 0.0)
    pooled = kept.sum(1) / mask.sum(1)[:, None]
    return 0.5 * ((pooled @ p["V"] - t) ** 2).sum()


def averaged_gradient(p, x, mask, t, masked=True, length=lambda mask: mask.sum(1)[:, None]):
    h = np.tanh(x @ p["W"])
    m, n = mask[:, :, None].astype(x.dtype), mask.sum(1)[:, None].astype(x.dtype)
    pooled = (h * m).sum(1) / n
    d = pooled @ p["V"] - t
    dh = np.repeat((d @ p["V"].T / length(m[:, :, 0]))[:, None], x.shape[1], axis=1)
    dz = (dh * m if masked else dh) * (1 - h**2)
    return {"W": np.einsum("btd,bth->dh", x, dz), "V": pooled.T @ d}


# -- Dropout --------------------------------------------------------------------------------------


def dropped(p, x, keep, t):
    h = jnp.tanh(x @ p["W"] + p["b"])
    return 0.5 * ((jnp.where(keep, h / 0.8, 0.0) @ p["V"] - t) ** 2).sum()


def dropped_gradient(p, x, keep, t, again=lambda keep: keep):
    h = np.tanh(x @ p["W"] + p["b"])
    rate = x.dtype.type(0.8)
    out = np.where(keep, h / rate, 0)
    d = out @ p["V"] - t
    dz = np.where(again(keep), d @ p["V"].T / rate, 0) * (1 - h**2)
    return {"W": x.T @ dz, "b": dz.sum(0), "V": out.T @ d}


# -- Embeddings -----------------------------------------------------------------------------------


def embedded(p, ids):
    return jnp.sum(jnp.tanh(p["E"][ids] @ p["W"]))


def embedded_gradient(p, ids, adds=True):
    e, dE = p["E"][ids], np.zeros_like(p["E"])
    d = 1 - np.tanh(e @ p["W"]) ** 2
    if adds:
        np.add.at(dE, ids, d @ p["W"].T)
    else:
        dE[ids] += d @ p["W"].T
    return {"E": dE, "W": e.T @ d}


# -- As many examples as units --------------------------------------------------------------------


def square(p, x, t):
    return 0.5 * ((jnp.tanh(x @ p["W"] + p["b"]) - t) ** 2).sum()


def square_gradient(p, x, t, total=lambda d: d.sum(0)):
    h = np.tanh(x @ p["W"] + p["b"])
    d = (h - t) * (1 - h**2)
    return {"W": x.T @ d, "b": total(d)}


# -- A convolution of stride 2 --------------------------------------------------------------------


def convolved(p, x, t):
    y = jax.lax.conv_general_dilated(x[None, None], p["K"][:, None], (2,), "VALID")[0]
    return 0.5 * ((jnp.tanh(y) - t) ** 2).sum()


def convolved_gradient(p, x, t, stride=2):
    n = t.shape[1]
    cut = np.stack([x[2 * i : 2 * i + 3] for i in range(n)])
    y = np.tanh(p["K"] @ cut.T)
    d = (y - t) * (1 - y**2)
    return {"K": d @ np.stack([x[stride * i : stride * i + 3] for i in range(n)])}


# -- A little autodiff ----------------------------------------------------------------------------


class Value:
    """A number in a graph: each parent comes with the derivative by it."""

    def __init__(self, data, *parents):
        self.data, self.parents, self.grad = data, parents, 0 * data

    def __add__(self, other):
        return Value(self.data + other.data, (self, 1), (other, 1))

    def __mul__(self, other):
        return Value(self.data * other.data, (self, other.data), (other, self.data))


def in_order(end):
    """Each value once, after all that use it."""
    found = []

    def visit(value):
        if value not in found:
            for parent, _ in value.parents:
                visit(parent)
            found.append(value)

    visit(end)
    end.grad = end.grad + 1
    for value in reversed(found):
        for parent, slope in value.parents:
            parent.grad = parent.grad + value.grad * slope


def by_recursion(end):
    def visit(value):
        for parent, slope in value.parents:
            parent.grad = parent.grad + value.grad * slope
        for parent in dict.fromkeys(parent for parent, _ in value.parents):
            visit(parent)

    end.grad = end.grad + 1
    visit(end)


def graph(p, x):
    a = p["w"] * x
    b = a * p["v"]
    c = a + b
    return (c * b).sum()


def graph_gradient(p, x, backward=in_order):
    w, v = Value(p["w"]), Value(p["v"])
    a = w * Value(x)
    b = a * v
    c = a + b
    backward(c * b)
    return {"w": w.grad, "v": v.grad}


# -- Where they are examined ----------------------------------------------------------------------


class Layer(NamedTuple):
    """A loss, its gradient, and the shapes of its parameters and arguments."""

    loss: Callable[..., Any]
    gradient: Callable[..., Any]
    params: dict[str, tuple[int, ...]]
    args: tuple[tuple[int, ...] | Any, ...]


LENGTHS = np.arange(5) < np.array([[2], [5], [3]])
KEPT = np.random.default_rng(7).random((6, 5)) < 0.7
IDS = np.array([1, 4, 1, 0, 4, 5, 1])

LAYERS = {
    "recurrent": Layer(recurrent, recurrent_gradient,
                       {"U": (4, 3), "R": (4, 4), "V": (2, 4)}, ((5, 3),)),
    "gate": Layer(gated, gated_gradient, {"Z": (3, 4), "N": (3, 4)}, ((6, 3), (6, 4))),
    "batch normalisation": Layer(normalised, normalised_gradient,
                                 {"W": (3, 4), "g": (4,), "b": (4,)}, ((7, 3), (7, 4))),
    "attention": Layer(attention, attention_gradient,
                       {"Q": (4, 4), "K": (4, 4), "V": (4, 4)}, ((5, 4), (5, 4))),
    "unit rows": Layer(unit_rows, unit_rows_gradient, {"W": (6, 4)}, ((5, 6), (5, 4))),
    "penalty": Layer(penalised, penalised_gradient, {"W": (3, 4), "V": (4, 4)}, ((6, 3), (6, 4))),
    "lengths": Layer(averaged, averaged_gradient, {"W": (3, 4), "V": (4, 2)},
                     ((3, 5, 3), LENGTHS, (3, 2))),
    "dropout": Layer(dropped, dropped_gradient, {"W": (4, 5), "b": (5,), "V": (5, 2)},
                     ((6, 4), KEPT, (6, 2))),
    "embedding": Layer(embedded, embedded_gradient, {"E": (6, 3), "W": (3, 2)}, (IDS,)),
    "square": Layer(square, square_gradient, {"W": (3, 5), "b": (5,)}, ((5, 3), (5, 5))),
    "convolution": Layer(convolved, convolved_gradient, {"K": (2, 3)}, ((11,), (2, 5))),
    "graph": Layer(graph, graph_gradient, {"w": (5,), "v": (5,)}, ((5,),)),
}  # fmt: skip


def layer_problem(seed: int, which: str, **slip: Any) -> Problem:
    layer = LAYERS[which]
    rng, dtype = np.random.default_rng([seed, 6]), ("float32", "float64")[seed % 2]
    params = {k: rng.normal(0, 1, shape).astype(dtype) for k, shape in layer.params.items()}
    args = tuple(
        rng.normal(0, 1, a).astype(dtype) if isinstance(a, tuple) else a for a in layer.args
    )
    return Problem(layer.loss, lambda p, *args: layer.gradient(p, *args, **slip), params, args)


#: (what is wrong, code, which layer, the slip)
SLIPS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("the state is not passed back", "path_missing", "recurrent",
     {"back": lambda dz, R: 0 * dz}),
    ("R is not transposed", "weights_not_transposed", "recurrent",
     {"back": lambda dz, R: R @ dz}),
    ("hₜ for hₜ₋₁", "wrong_time_step", "recurrent", {"before": lambda hs, t: hs[t]}),
    ("z for 1 − z", "wrong_value", "gate", {"share": lambda z: z}),
    ("clipped", "clipped", "gate", {"finish": lambda g: g.clip(-0.25, 0.25)}),
    ("no gain", "missing_factor", "batch normalisation", {"gain": False}),
    ("mean and variance constant", "path_missing", "batch normalisation", {"moments": False}),
    ("another slope", "wrong_constant", "batch normalisation", {"slope": 0.05}),
    ("no 1/√d", "missing_factor", "attention", {"scale": 1}),
    ("softmax's diagonal alone", "jacobian_diagonal", "attention",
     {"back": lambda a, da: a * (1 - a) * da}),
    ("no softmax", "jacobian", "attention", {"back": lambda a, da: da}),
    ("the cotangent after the Jacobian", "cotangent_after_jacobian", "unit rows",
     {"back": lambda d, y: d * (1 - y * y.sum(1, keepdims=True))}),
    ("the lengths constant", "path_missing", "unit rows", {"back": lambda d, y: d}),
    ("added before tanh", "rerouted", "penalty", {"too_early": True}),
    ("no mask", "mask_missing", "lengths", {"masked": False}),
    ("the longest for all", "one_for_all", "lengths", {"length": lambda mask: mask.shape[1]}),
    ("another mask", "wrong_mask", "dropout", {"again": lambda keep: keep[::-1]}),
    ("no mask", "mask_missing", "dropout", {"again": np.ones_like}),
    ("E[ids] +=", "duplicates_overwritten", "embedding", {"adds": False}),
    ("the sum without an axis", "sum_without_axis", "square",
     {"total": lambda d: np.full(len(d), d.sum())}),
    ("the sum over the units", "wrong_axis", "square", {"total": lambda d: d.sum(1)}),
    ("stride 1", "wrong_window", "convolution", {"stride": 1}),
    ("no topological order", "counted_per_path", "graph", {"backward": by_recursion}),
)  # fmt: skip
