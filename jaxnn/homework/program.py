"""The network that a file was read as, once more in JAX: a program of a few lines in its notation.

The doctor differentiates it, and quotes its lines.
"""

import linecache
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.homework.reading import Network
from jaxnn.nn.activations import ACTIVATIONS

#: What a program may name.
NAMES: dict[str, Any] = {
    "jnp": jnp,
    "log_softmax": jax.nn.log_softmax,
    "log_sigmoid": jax.nn.log_sigmoid,
    "softmax": jax.nn.softmax,
    **{name: activation.function for name, activation in ACTIVATIONS.items()},
}


def written(network: Network, *, offsets: bool = False) -> str:
    """The loss as text: `loss(params, X, Y)`, with W1, b1, W2 … in params.

    With `offsets`, every Z and A has one of its own name added, by which it can be differentiated.
    """
    layout, L = network.layout, len(network.layout.layers)
    columns, axis = layout.columns, 0 if layout.columns else 1
    lines = ["def loss(params, X, Y):"]
    names = [f"W{i + 1}" for i in range(L)]
    names += [f"b{i + 1}" for i, (_, b) in enumerate(layout.layers) if b]
    lines += [f'    {name} = params["{name}"]' for name in names]
    m = f"X.shape[{1 if columns else 0}]"
    for layer in range(1, L + 1):
        A, W = (f"A{layer - 1}" if layer > 1 else "X"), f"W{layer}"
        product = f"{A} @ {W}" if layout.inwards else f"{A} @ {W}.T"
        product = f"{W} @ {A}" if columns else product
        bias = ""
        if layout.layers[layer - 1][1]:
            turned = ".T" if not columns and layout.bias == "column" else ""
            bias = f" + b{layer}{turned}"
        extra = f' + params["Z{layer}"]' if offsets else ""
        lines.append(f"    Z{layer} = {product}{bias}{extra}")
        if layer < L:
            extra = f' + params["A{layer}"]' if offsets else ""
            lines.append(f"    A{layer} = {network.activation}(Z{layer}){extra}")
    over = {"mean": f" / {m}", "sum": "", "entries": " / Y.size"}[network.reduction]
    if network.loss == "softmax":
        total = f"-jnp.sum(Y * log_softmax(Z{L}, axis={axis}))"
    elif network.loss == "sigmoid":
        total = f"-jnp.sum(Y * log_sigmoid(Z{L}) + (1 - Y) * log_sigmoid(-Z{L}))"
    else:
        output = {"linear": f"Z{L}", "softmax": f"softmax(Z{L}, axis={axis})"}.get(
            network.output, f"{network.output}(Z{L})"
        )
        lines.append(f"    A{L} = {output}")
        half = " / 2" if network.loss == "half_squared" else ""
        total = f"jnp.sum((A{L} - Y) ** 2){half}"
    penalty = "".join(f" + {network.l2 / 2!r} * jnp.sum(W{i} ** 2)" for i in range(1, L + 1))
    lines.append(f"    return {total}{over}{penalty if network.l2 else ''}")
    return "\n".join(lines) + "\n"


def compiled(text: str, name: str) -> Callable[..., Any]:
    """The program's function; its lines can be quoted under this name."""
    file = f"<the loss of {name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    names = dict(NAMES)
    exec(compile(text, file, "exec"), names)
    function: Callable[..., Any] = names["loss"]
    return function
