"""True derivatives: jax.grad in float64, whatever the caller's dtype and global settings are."""

import gc
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxnn.activations import Activation
from jaxnn.losses import Loss, softmax_cross_entropy
from jaxnn.mlp import NO_MASKS, Masks, depth, feed_forward

#: How many compiled programs are kept.
PROGRAMS = 64

_programs: OrderedDict[str, Any] = OrderedDict()

#: What tracing raises when a function needs its arguments' values: it is NumPy, or it branches.
UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


@contextmanager
def float64_rules() -> Iterator[None]:
    """float64 exists, dtypes and ranks promote, products are exact to the dtype; then as before."""
    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.default_matmul_precision("highest"),
    ):
        yield


def floating(value: object) -> bool:
    """Is it an array of real or complex numbers? Integers, keys and Python objects are not."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and (
        jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.complexfloating)
    )


def cast(tree: Any, dtype: Any) -> Any:
    """The tree with its floating arrays in `dtype` (complex in the dtype of twice the width).

    An array of NumPy stays one of NumPy and a jax.Array stays a jax.Array; the rest is untouched,
    but for integer arrays of NumPy, which are copied: see `in_this_width`.
    """

    def one(value: Any) -> Any:
        if not floating(value):
            return value.copy() if isinstance(value, np.ndarray) else value
        wanted = dtype
        if jnp.issubdtype(value.dtype, jnp.complexfloating):
            wanted = np.complex128 if np.dtype(dtype).itemsize == 8 else np.complex64
        return value.astype(wanted)

    return jax.tree.map(one, tree)


@dataclass(frozen=True)
class Program:
    """A compiled function, the arrays that it closes over, and the dtypes that it computes in."""

    call: Callable[..., Any]
    constants: list[Array]
    structure: Any
    dtypes: frozenset[Any]

    def __call__(self, *operands: Any) -> Any:
        results = self.call(self.constants, *jax.tree.leaves(operands))
        return jax.tree.unflatten(self.structure, results)


def trace(function: Callable[..., Any], *operands: Any) -> Program:
    """The function's program for operands of these shapes. It is traced each time, so that a
    changed global is seen; it is compiled once for each text.
    """
    traced = jax.make_jaxpr(function, return_shape=True)
    closed, shapes = in_this_width(lambda: traced(*operands))
    # Copies: neither an array nor a program of JAX's is kept, see `in_this_width`.
    constants = [
        jnp.array(np.array(constant)) if isinstance(constant, np.ndarray) else constant
        for constant in closed.consts
    ]
    call = _compiled(closed.jaxpr, constants, jax.tree.leaves(operands))
    return Program(call, constants, jax.tree.structure(shapes), dtypes_used(closed.jaxpr))


def _compiled(jaxpr: Any, constants: list[Array], operands: list[Any]) -> Callable[..., Any]:
    """The program as a function, the same object for the same text and settings."""

    def with_constants(constants: list[Any], *operands: Any) -> Any:
        return jaxpr_as_fun(ClosedJaxpr(jaxpr, constants))(*operands)

    wide, precision = jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    key = f"{jaxpr} {wide} {precision}"
    program: Callable[..., Any] | None = _programs.get(key)
    # Arrays of an inner program are not in the text: another time they may be others.
    hidden = any(inner.consts for inner in inner_programs(jaxpr))
    if program is None or hidden:
        program = jax.jit(with_constants).lower(constants, *operands).compile()
    if not hidden:
        _programs[key] = program
        _programs.move_to_end(key)
    if len(_programs) > PROGRAMS:
        _programs.popitem(last=False)
    return program


def prepare(function: Callable[..., Any], *operands: Any) -> Callable[..., Any]:
    """The function's program where it can be traced, else the function itself."""
    try:
        program: Callable[..., Any] = trace(function, *operands)
    except UNTRACEABLE:
        return function
    return program


def in_this_width(action: Callable[[], Any]) -> Any:
    """The action's result, whatever width of integers came before.

    JAX remembers an array of NumPy that a function closes over in the width, 32 or 64 bits, in
    which it first met it, for as long as a program that has it is kept. Where that fails, it is
    made to forget its programs.
    """
    try:
        return action()
    except TypeError as error:
        if not {"int32", "int64"} <= set(re.findall(r"int\d\d", str(error))):
            raise
    jax.clear_caches()
    gc.collect()
    return action()


def inner_programs(jaxpr: Any) -> Iterator[ClosedJaxpr]:
    """The programs that a program calls, at any depth."""
    for equation in jaxpr.eqns:
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda v: isinstance(v, ClosedJaxpr)
        ):
            if isinstance(value, ClosedJaxpr):
                yield value
                yield from inner_programs(value.jaxpr)


def dtypes_used(jaxpr: Any) -> frozenset[Any]:
    """The dtypes of the floating values that a program computes on the way."""
    return frozenset(
        variable.aval.dtype
        for program in (jaxpr, *(inner.jaxpr for inner in inner_programs(jaxpr)))
        for equation in program.eqns
        for variable in equation.outvars
        if floating(variable.aval)
    )


def network_truth(
    params: Mapping[str, Array],
    X: Array,
    Y: Any,
    activation: Activation,
    *,
    mean: bool = True,
    l2: float | Array = 0.0,
    masks: Masks = NO_MASKS,
    loss: Loss = softmax_cross_entropy,
) -> dict[str, Array]:
    """Every derivative of back-propagation by autodiff, in its order: dZ_L, dW_L, db_L, dA_{L−1} …

    A zero is added to each Z and A; the derivative by that zero is dZ or dA, of each example's own
    loss as in the document. With `mean` false the loss is the batch's sum. l2/2 · Σ‖W‖² is added.
    """
    L = depth(params)
    m = X.shape[0]
    shapes = jax.eval_shape(lambda: feed_forward(params, X, activation, masks=masks))
    names = [name for name in shapes if name not in ("A0", f"A{L}", *masks)]
    zeros = {name: jnp.zeros(shapes[name].shape, shapes[name].dtype) for name in names}

    def tapped(params: Mapping[str, Array], zeros: Mapping[str, Array]) -> Array:
        def tap(name: str, value: Array) -> Array:
            return value + zeros[name] if name in zeros else value

        data = loss.function(feed_forward(params, X, activation, tap, masks)[f"Z{L}"], Y)
        squares = sum((params[f"W{layer}"] ** 2).sum() for layer in range(1, L + 1))
        return (data if mean else data * m) + l2 / 2 * squares

    of_params, of_zeros = jax.grad(tapped, argnums=(0, 1))(params, zeros)
    per_example = m if mean else 1
    derivatives = {f"d{name}": value for name, value in of_params.items()}
    derivatives |= {f"d{name}": value * per_example for name, value in of_zeros.items()}
    return {name: derivatives[name] for name in order(L)}


def order(L: int) -> list[str]:
    """The equations in the order in which back-propagation computes them, for L layers."""
    names = []
    for layer in range(L, 0, -1):
        hidden = [f"dA{layer}"] if layer < L else []
        names += [*hidden, f"dZ{layer}", f"dW{layer}", f"db{layer}"]
    return names
