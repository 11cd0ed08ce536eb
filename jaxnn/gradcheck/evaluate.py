"""A program evaluated in NumPy, operation by operation: nothing has to be compiled for it.

JAX compiles each operation for each shape and dtype in which it meets it, which takes a hundred
times as long as the operation itself at the sizes at which gradients are tested. What NumPy does
not have, random numbers and callbacks among it, is asked of JAX.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from jaxnn.gradcheck.primitives import ELEMENTWISE, FLAT, MOVES

#: The dtypes whose arithmetic is NumPy's own.
DTYPES = frozenset(map(np.dtype, ("float32", "float64", "bool", "int32", "int64", "uint32")))

#: What is one function in NumPy and in JAX for whole numbers as well.
WHOLE = {*FLAT, *MOVES, "add", "sub", "mul", "neg", "max", "min", "select_n", "clamp", "abs",
         "convert_element_type", "reduce_sum", "reduce_max", "reduce_min", "copy", "copy_p",
         "iota", "dot_general", "add_any", "square", "cumsum"}  # fmt: skip

#: A product of more multiplications is worth to be compiled; below, NumPy keeps to one thread.
PRODUCT = 2**18

#: How many operations a loop may be in all, before JAX compiles it.
LOOP = 30_000

Values = list[Any]
Operation = Callable[[Values, Mapping[str, Any]], Any]


def run(jaxpr: Any, constants: Iterable[Any], arguments: Iterable[Any]) -> Values:
    """The results of a program."""
    known: dict[Any, Any] = dict(zip(jaxpr.invars, arguments, strict=True))
    known |= dict(zip(jaxpr.constvars, constants, strict=True))
    for equation in jaxpr.eqns:
        given = [_literal(v) if isinstance(v, Literal) else known[v] for v in equation.invars]
        known |= dict(zip(equation.outvars, step(equation, given), strict=True))
    return [_literal(v) if isinstance(v, Literal) else known[v] for v in jaxpr.outvars]


def _literal(literal: Any) -> Any:
    """A number that stands in a program, in the dtype that it has there."""
    dtype = getattr(literal.aval, "dtype", None)
    return np.asarray(literal.val, dtype) if dtype in DTYPES else literal.val


def step(equation: Any, given: Values) -> Values:
    """The results of one equation: in NumPy where it can be, else in JAX."""
    name, params = equation.primitive.name, equation.params
    if (call := CALLS.get(name)) is not None:
        found = call(params, given)
        if found is not None:
            return found
    operation = OPERATIONS.get(name)
    if operation is not None and _ours(equation, name) and not any(map(_traced, given)):
        dtype = equation.outvars[0].aval.dtype
        result = np.asarray(operation([np.asarray(v) for v in given], params))
        return [result if result.dtype == dtype else result.astype(dtype)]
    return bind(equation, given)


def bind(equation: Any, given: Values) -> Values:
    """The results of one equation in JAX."""
    found = equation.primitive.get_bind_params(equation.params)
    functions, params = found if isinstance(found, tuple) else ((), found)
    with equation.ctx.manager:
        results = equation.primitive.bind(*functions, *given, **params)
    return list(results) if equation.primitive.multiple_results else [results]


def _traced(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


def _ours(equation: Any, name: str) -> bool:
    dtypes = [getattr(v.aval, "dtype", None) for v in (*equation.invars, *equation.outvars)]
    if not DTYPES.issuperset(dtypes):
        return False
    if name == "dot_general" and _multiplications(equation) > PRODUCT:
        return False
    return name in WHOLE or all(np.dtype(d).kind == "f" for d in dtypes)


def _multiplications(equation: Any) -> int:
    left = equation.invars[0].aval.shape
    summed = [left[axis] for axis in equation.params["dimension_numbers"][0][0]]
    return int(np.prod([*equation.outvars[0].aval.shape, *summed], dtype=int))


# -- Programs within programs ----------------------------------------------------------------------


def _whole(jaxpr: Any) -> bool:
    """Is it better left to JAX? A sampler of random numbers is many operations on bits."""
    return any(
        e.primitive.name.startswith(("random_", "threefry", "rng_", "shift_"))
        or any(_whole(program) for program in _programs(e.params))
        for e in jaxpr.eqns
    )


def _programs(params: Mapping[str, Any]) -> list[Any]:
    candidates = (v for v in params.values() if isinstance(v, ClosedJaxpr) or hasattr(v, "eqns"))
    return [getattr(v, "jaxpr", v) for v in candidates]


def _call(params: Mapping[str, Any], given: Values) -> Values | None:
    inner = params.get("jaxpr") or params.get("call_jaxpr")
    jaxpr, constants = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
    if _whole(jaxpr):
        return None
    return run(jaxpr, constants, given)


def _cond(params: Mapping[str, Any], given: Values) -> Values | None:
    index, *operands = given
    if _traced(index):
        return None
    branches = params["branches"]
    branch = branches[min(max(int(index), 0), len(branches) - 1)]
    return run(branch.jaxpr, branch.consts, operands)


def _scan(params: Mapping[str, Any], given: Values) -> Values | None:
    n, k, body = params["num_consts"], params["num_carry"], params["jaxpr"]
    length = params["length"]
    if length * _count(body.jaxpr) > LOOP or length == 0 or _whole(body.jaxpr):
        return None
    if any(map(_traced, given)) or not all(_plain(v) for v in given):
        return None
    constants, carry = given[:n], given[n : n + k]
    sequences = [np.asarray(v) for v in given[n + k :]]
    rows: list[Any] = [None] * length
    for turn in reversed(range(length)) if params["reverse"] else range(length):
        inputs = [*constants, *carry, *(v[turn] for v in sequences)]
        results = run(body.jaxpr, body.consts, inputs)
        carry, rows[turn] = results[:k], results[k:]
    return [*carry, *(np.stack([np.asarray(v) for v in one]) for one in zip(*rows, strict=True))]


def _plain(value: Any) -> bool:
    return getattr(value, "dtype", None) in DTYPES


def _count(jaxpr: Any) -> int:
    """How many operations a program is, loops within it included."""
    return sum(
        max(1, e.params.get("length", 1) * sum(map(_count, _programs(e.params))))
        for e in jaxpr.eqns
    )


CALLS: dict[str, Callable[[Mapping[str, Any], Values], Values | None]] = {
    **dict.fromkeys(
        ("jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint", "custom_jvp_call"),
        _call,
    ),
    "custom_vjp_call": _call,
    "cond": _cond,
    "scan": _scan,
}


# -- Operations ------------------------------------------------------------------------------------


def _select(x: Values, params: Mapping[str, Any]) -> Any:
    which, *cases = x
    if len(cases) == 2:
        return np.where(which, cases[1], cases[0])
    return ELEMENTWISE["select_n"][0](x, params)


def _integer_pow(x: Values, params: Mapping[str, Any]) -> Any:
    n, base = params["y"], x[0]
    if not 0 < abs(n) <= 4:
        return base ** base.dtype.type(n)
    product = base
    for _ in range(abs(n) - 1):
        product = product * base
    return product if n > 0 else 1 / product


def _dot(x: Values, params: Mapping[str, Any]) -> Any:
    """Batch axes first, then those of the left, then those of the right."""
    (of_left, of_right), (batch_left, batch_right) = params["dimension_numbers"]
    dtype = params["preferred_element_type"] or np.result_type(*x)
    left, right = (v.astype(dtype, copy=False) for v in x)
    free_left, free_right = (
        [a for a in range(v.ndim) if a not in (*some, *batch)]
        for v, some, batch in ((left, of_left, batch_left), (right, of_right, batch_right))
    )
    batch = [left.shape[a] for a in batch_left]
    rows, columns = [left.shape[a] for a in free_left], [right.shape[a] for a in free_right]
    inner = int(np.prod([left.shape[a] for a in of_left], dtype=int))
    a = left.transpose(*batch_left, *free_left, *of_left)
    b = right.transpose(*batch_right, *of_right, *free_right)
    m, n = (int(np.prod(sizes, dtype=int)) for sizes in (rows, columns))
    product = a.reshape((*batch, m, inner)) @ b.reshape((*batch, inner, n))
    return product.reshape((*batch, *rows, *columns))


def _pad(x: Values, params: Mapping[str, Any]) -> Any:
    operand, value = x
    config = params["padding_config"]
    shape = [
        low + high + n + max(0, n - 1) * within
        for n, (low, high, within) in zip(operand.shape, config, strict=True)
    ]
    if any(low < 0 or high < 0 for low, high, _ in config):
        kept = [(max(-low, 0), max(-high, 0)) for low, high, _ in config]
        wider = [(max(low, 0), max(high, 0), within) for low, high, within in config]
        whole = _pad(x, {"padding_config": wider})
        ends = zip(whole.shape, kept, strict=True)
        return whole[tuple(slice(a, n - b) for n, (a, b) in ends)]
    padded = np.full(shape, value, operand.dtype)
    places = (
        slice(low, low + max(0, (n - 1) * (within + 1) + 1), within + 1) if n else slice(0, 0)
        for n, (low, _, within) in zip(operand.shape, config, strict=True)
    )
    padded[tuple(places)] = operand
    return padded


def _update(x: Values, params: Mapping[str, Any]) -> Any:
    operand, part, *starts = x
    result = operand.copy()
    cuts = []
    for start, size, whole in zip(starts, part.shape, operand.shape, strict=True):
        first = min(max(int(start), 0), whole - size)
        cuts.append(slice(first, first + size))
    result[tuple(cuts)] = part
    return result


def _iota(x: Values, params: Mapping[str, Any]) -> Any:
    shape, axis = params["shape"], params["dimension"]
    row = np.arange(shape[axis], dtype=params["dtype"])
    return np.broadcast_to(row.reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape)


def _along(f: Callable[..., Any]) -> Operation:
    return lambda x, params: f(x[0], axis=tuple(params["axes"]))


def _cumulative(f: Callable[..., Any]) -> Operation:
    def operation(x: Values, params: Mapping[str, Any]) -> Any:
        axis = params["axis"]
        if params["reverse"]:
            return np.flip(f(np.flip(x[0], axis), axis=axis), axis)
        return f(x[0], axis=axis)

    return operation


def _sum(x: Values, params: Mapping[str, Any]) -> Any:
    return x[0].sum(axis=tuple(params["axes"]), dtype=x[0].dtype)


OPERATIONS: dict[str, Operation] = {
    **{name: function for name, (function, _) in ELEMENTWISE.items()},
    **FLAT,
    **MOVES,
    "select_n": _select,
    "integer_pow": _integer_pow,
    "dot_general": _dot,
    "reduce_sum": _sum,
    "reduce_max": _along(np.max),
    "reduce_min": _along(np.min),
    "reduce_prod": _along(np.prod),
    "pad": _pad,
    "dynamic_update_slice": _update,
    "iota": _iota,
    "cumsum": _cumulative(np.cumsum),
    "cumprod": _cumulative(np.cumprod),
}
for _name in ("reduce_precision", "double"):
    del OPERATIONS[_name]
