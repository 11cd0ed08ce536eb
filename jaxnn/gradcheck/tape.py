"""A loss written down as a tape: every operation, its values at a point, and where it stands.

Calls are inlined, scans and loops unrolled, branches as taken. Each operation keeps the frames of
the user's source and, for each input, the linear map that takes the cotangent of its output to its
share of the cotangent of that input: a `Pull`. All in float64 and in NumPy, so that nothing has to
be compiled to try another derivative.
"""

import inspect
import site
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, DropVar, Literal, jaxpr_as_fun

from jaxnn.errors import JaxnnError
from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.primitives import ELEMENTWISE, FLAT, MOVES
from jaxnn.gradcheck.program import UNTRACEABLE, Program, trace
from jaxnn.gradcheck.reference import float64_rules

#: A tape of more operations than this is not made.
OPERATIONS = 5_000

#: A Jacobian of an operation that is known to JAX alone has at most so many entries.
DENSE = 4_000_000


class UntapableError(JaxnnError):
    """The loss cannot be written down as a tape."""


class Frame(NamedTuple):
    """A piece of the user's source: lines from 1, columns in bytes."""

    file: str
    function: str
    line: int
    column: int
    end_line: int
    end_column: int


Frames = tuple[Frame, ...]  #: the innermost first


# -- Linear maps -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Local:
    """An element-wise derivative: ct ∘ slope."""

    slope: Float64Array
    shape: tuple[int, ...]  #: of the input

    def __call__(self, ct: Float64Array) -> Float64Array:
        message: Float64Array = unbroadcast(ct * self.slope, self.shape)
        return message


@dataclass(frozen=True, eq=False)
class Move:
    """Entries copied and added: input entry cols[i] receives weights[i] · ct[rows[i]]."""

    rows: Any
    cols: Any
    shape: tuple[int, ...]
    weights: Any = None
    out_shape: tuple[int, ...] = ()

    def __call__(self, ct: Float64Array) -> Float64Array:
        flat = ct.reshape(len(ct), -1)[:, self.rows]
        if self.weights is not None:
            flat = flat * self.weights
        size = int(np.prod(self.shape, dtype=int))
        total = np.zeros((len(ct), size))
        if len(self.cols):
            order, starts, present = self._sorted()
            total[:, present] = np.add.reduceat(flat[:, order], starts, axis=1)
        return total.reshape(len(ct), *self.shape)

    def _sorted(self) -> tuple[Any, Any, Any]:
        cached: tuple[Any, Any, Any] | None = self.__dict__.get("_order")
        if cached is None:
            order = np.argsort(self.cols, kind="stable")
            present, starts = np.unique(np.asarray(self.cols)[order], return_index=True)
            cached = order, starts, present
            self.__dict__["_order"] = cached
        return cached


@dataclass(frozen=True, eq=False)
class Contract:
    """A product: einsum(spec, ct, residual), the residual being the other operand."""

    spec: str
    residual: int  #: its value's number on the tape
    array: Float64Array
    shape: tuple[int, ...]

    def __call__(self, ct: Float64Array) -> Float64Array:
        message: Float64Array = np.einsum(self.spec, ct, self.array)
        return message

    def with_residual(self, array: Float64Array) -> "Contract":
        return Contract(self.spec, self.residual, array, self.shape)


@dataclass(frozen=True, eq=False)
class General:
    """Any linear map, one cotangent after another."""

    map: Callable[[Float64Array], Float64Array]
    shape: tuple[int, ...]
    push: Callable[[Float64Array], Float64Array] | None = None  #: the transpose, where it is known

    def __call__(self, ct: Float64Array) -> Float64Array:
        return np.stack([np.asarray(self.map(one)) for one in ct])


Pull = Local | Move | Contract | General


def unbroadcast(message: Any, shape: tuple[int, ...]) -> Any:
    """The sum over what a scalar operand was broadcast to."""
    if message.shape[1:] == shape:
        return message
    if shape == ():
        return message.reshape(len(message), -1).sum(1)
    extra = message.ndim - 1 - len(shape)
    message = message.sum(tuple(range(1, 1 + extra))) if extra else message
    axes = tuple(
        i + 1
        for i, (a, b) in enumerate(zip(message.shape[1:], shape, strict=True))
        if a != b and b == 1
    )
    return message.sum(axes, keepdims=True)


@dataclass(eq=False)
class Op:
    """One operation with one result."""

    name: str
    inputs: tuple[int, ...]
    output: int
    params: Mapping[str, Any]
    frames: Frames
    inner: tuple[Any, ...]  #: its number within the calls that were inlined
    pulls: dict[int, Pull] = field(default_factory=dict)  #: by the number of the operand
    number: int = -1

    @property
    def elementwise(self) -> bool:
        return all(isinstance(pull, Local) for pull in self.pulls.values())


@dataclass(eq=False)
class Tape:
    """The operations in their order, and the value of everything at the point."""

    values: list[Any] = field(default_factory=list)
    active: list[bool] = field(default_factory=list)  #: does it depend on a parameter?
    producer: list[int] = field(default_factory=list)  #: the number of the operation; −1 if none
    ops: list[Op] = field(default_factory=list)
    leaves: dict[str, int] = field(default_factory=dict)
    given_names: dict[int, str] = field(default_factory=dict)  #: of leaves and arguments
    outputs: list[int] = field(default_factory=list)

    def new(self, array: Any, active: bool, producer: int = -1) -> int:
        self.values.append(array)
        self.active.append(active)
        self.producer.append(producer)
        return len(self.values) - 1

    def shape(self, value: int) -> tuple[int, ...]:
        return tuple(np.shape(self.values[value]))


# -- Writing it down -------------------------------------------------------------------------------


def write(
    function: Callable[..., Any],
    point: Mapping[str, Any],
    names: Mapping[str, Any] | None = None,
    own_rules: bool = False,
) -> Tape:
    """The tape of `function(point)` for real arrays by name; its results are `outputs`.

    `names` are other arrays that the user has names for. A function with a `jax.custom_vjp` is
    inlined; with `own_rules` it is one operation.

    Raises UntapableError where there is something that it cannot write down.
    """
    if any(np.iscomplexobj(v) for v in point.values()):
        raise UntapableError("complex parameters are not followed")
    with float64_rules():
        operand = {path: np.asarray(value) for path, value in point.items()}
        try:
            program = function if isinstance(function, Program) else trace(function, operand)
        except UNTRACEABLE as error:
            raise UntapableError("the loss branches on its parameters' values") from error
        writer = _Writer(Tape(), own_rules)
        tape = writer.tape
        inputs = []
        for path in sorted(operand):  # as jax flattens a dict
            tape.leaves[path] = tape.new(np.asarray(operand[path], np.float64), True)
            tape.given_names[tape.leaves[path]] = path
            inputs.append(tape.leaves[path])
        with np.errstate(all="ignore"):
            jaxpr, constants = program.closed.jaxpr, program.closed.consts
            tape.outputs = writer.run(jaxpr, constants, inputs, (), ())
        _name(tape, names or {})
    return tape


def write_loss(
    loss: Callable[..., Any],
    tree: Any,
    point: Mapping[str, Any],
    args: Sequence[Any],
    own_rules: bool = False,
) -> Tape:
    """The tape of a loss of a tree of parameters, whose real leaves are at `point`."""
    return write(
        lambda point: loss(tree.with_values(point), *args),
        point,
        argument_names(loss, args),
        own_rules,
    )


def argument_names(loss: Callable[..., Any], args: Sequence[Any]) -> dict[str, Any]:
    """The arrays that a loss is given beside the parameters, by the user's names."""
    try:
        parameters = list(inspect.signature(loss).parameters)[1:]
    except (TypeError, ValueError):
        parameters = []
    found = {}
    for path, value in jax.tree_util.tree_flatten_with_path(tuple(args))[0]:
        first = path[0].idx
        name = parameters[first] if first < len(parameters) else f"args[{first}]"
        if isinstance(value, np.ndarray | jax.Array) and not _key(value):
            found[name + jax.tree_util.keystr(path[1:])] = np.asarray(value)
    return found


def _name(tape: Tape, names: Mapping[str, Any]) -> None:
    """The user's names for the constants of the program that are these arrays."""
    for name, array in names.items():
        found = [
            v
            for v, value in enumerate(tape.values)
            if tape.producer[v] < 0
            and not tape.active[v]
            and np.shape(value) == array.shape
            and not _key(value)
            and np.array_equal(np.asarray(value), array)
        ]
        for value in found or [tape.new(array, False)]:
            tape.given_names.setdefault(value, name)


def _key(value: Any) -> bool:
    return isinstance(value, jax.Array) and bool(jnp.issubdtype(value.dtype, jax.dtypes.prng_key))


class _Writer:
    def __init__(self, tape: Tape, own_rules: bool) -> None:
        self.tape, self.own_rules = tape, own_rules

    def run(
        self, jaxpr: Any, consts: Any, inputs: list[int], frames: Frames, inner: tuple[Any, ...]
    ) -> list[int]:
        known: dict[Any, int] = {}
        for variable, constant in zip(jaxpr.constvars, consts, strict=True):
            known[variable] = self.tape.new(_array(constant), False)
        known.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> int:
            if isinstance(atom, Literal):
                dtype = getattr(atom.aval, "dtype", None)
                return self.tape.new(np.asarray(atom.val, dtype), False)
            return known[atom]

        for i, equation in enumerate(jaxpr.eqns):
            where = _frames(equation, frames)
            # At the outermost level the number tells nothing: a Python loop repeats.
            deeper = (*inner, i) if inner else ()
            found = self.equation(equation, [read(v) for v in equation.invars], where, deeper)
            known.update(zip(equation.outvars, found, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def equation(
        self, equation: Any, inputs: list[int], frames: Frames, inner: tuple[Any, ...]
    ) -> list[int]:
        name, params, tape = equation.primitive.name, equation.params, self.tape
        if len(tape.ops) > OPERATIONS:
            raise UntapableError(f"the loss has more than {OPERATIONS} operations")
        body = params.get("jaxpr", params.get("call_jaxpr"))
        if name == "scan":
            return self.scan(params, inputs, frames, inner)
        if name == "while":
            return self.loop(params, inputs, frames, inner)
        if name == "cond":
            branch = params["branches"][int(np.asarray(tape.values[inputs[0]]))]
            return self.run(branch.jaxpr, branch.consts, inputs[1:], frames, (*inner, "cond"))
        if body is not None and not (self.own_rules and name.startswith("custom_vjp_call")):
            closed = body if isinstance(body, ClosedJaxpr) else ClosedJaxpr(body, ())
            called = str(params.get("name", name))
            if name == "custom_jvp_call" and self._is_function_of_entries(closed, inputs):
                called = str(getattr(params.get("jvp_jaxpr_fun"), "__name__", name))
                return [self.opaque(equation, inputs, frames, inner, True)[0]]
            return self.run(closed.jaxpr, closed.consts, inputs, frames, (*inner, called))
        arrays = [tape.values[v] for v in inputs]
        active = [tape.active[v] and _floating(tape.values[v]) for v in inputs]
        if any(tape.active[v] and np.iscomplexobj(tape.values[v]) for v in inputs):
            raise UntapableError("complex values are not followed")
        if any(tape.active[v] and np.iscomplexobj(tape.values[v]) for v in inputs):
            raise UntapableError("complex values are not followed")
        if not any(active):
            return [tape.new(a, False) for a in self.values_of(equation, arrays)]
        if name in FLAT:
            value = FLAT[name](arrays, params)
            active_result = name == "stop_gradient"
            out = self.add(name, inputs, value, params, frames, inner, {})
            tape.active[out] = active_result and False
            return [out]
        if name in ELEMENTWISE:
            f, d = ELEMENTWISE[name]
            value = np.asarray(f(arrays, params))
            if not _floating(value):
                return [tape.new(value, False)]
            inputs = [
                self.broadcast(v, value.shape, frames, (*inner, "broadcast", k))
                if active[k] and name != "convert_element_type"
                else v
                for k, v in enumerate(inputs)
            ]
            arrays = [tape.values[v] for v in inputs]
            slopes = d(arrays, value, params)
            pulls: dict[int, Pull] = {
                k: Local(np.asarray(s, np.float64), np.shape(arrays[k]))
                for k, s in enumerate(slopes)
                if s is not None and active[k]
            }
            if len(pulls) == 2 and len(inputs) == 2 and inputs[0] == inputs[1]:
                # x · x is one function of one value, and so is x + x.
                name = {"mul": "square", "add": "double"}.get(name, name)
                both = sum(p.slope for p in pulls.values() if isinstance(p, Local))
                inputs, pulls = inputs[:1], {0: Local(np.asarray(both), value.shape)}
            return [self.add(name, inputs, value, params, frames, inner, pulls)]
        special_rule = getattr(self, f"_{name}", None)
        if special_rule is not None:
            found = special_rule(equation, inputs, arrays, active, frames, inner)
            if found is not None:
                return [found]
        if name in MOVES or name in ("gather", "pad", "dynamic_update_slice", "scatter"):
            return [self.move(equation, inputs, arrays, active, frames, inner)]
        return self.opaque(equation, inputs, frames, inner, False)

    def broadcast(
        self, value: int, shape: tuple[int, ...], frames: Frames, inner: tuple[Any, ...]
    ) -> int:
        """The value in the shape of the result that it is an operand of."""
        own = self.tape.shape(value)
        if own == shape:
            return value
        params = {
            "shape": shape,
            "broadcast_dimensions": tuple(range(len(shape) - len(own), len(shape))),
        }
        size = int(np.prod(own, dtype=int))
        numbers = MOVES["broadcast_in_dim"]([np.arange(size).reshape(own)], params)
        out = np.asarray(MOVES["broadcast_in_dim"]([self.tape.values[value]], params))
        pull = Move(np.arange(out.size), np.ravel(numbers), own, None, shape)
        return self.add("broadcast_in_dim", [value], out, params, frames, inner, {0: pull})

    def add(
        self,
        name: str,
        inputs: Sequence[int],
        value: Any,
        params: Mapping[str, Any],
        frames: Frames,
        inner: tuple[Any, ...],
        pulls: dict[int, Pull],
    ) -> int:
        tape = self.tape
        out = tape.new(value, bool(pulls), len(tape.ops))
        number = len(tape.ops)
        tape.ops.append(Op(name, tuple(inputs), out, params, frames, inner, pulls, number))
        return out

    # -- Control flow --------------------------------------------------------------------------

    def scan(
        self, p: Mapping[str, Any], inputs: list[int], frames: Frames, inner: tuple[Any, ...]
    ) -> list[int]:
        nc, ncarry, length = p["num_consts"], p["num_carry"], p["length"]
        consts, carry, xs = inputs[:nc], inputs[nc : nc + ncarry], inputs[nc + ncarry :]
        closed = p["jaxpr"]
        stacked: list[list[int]] = [[] for _ in range(len(closed.jaxpr.outvars) - ncarry)]
        steps = range(length - 1, -1, -1) if p["reverse"] else range(length)
        for t in steps:
            rows = [self.row(x, t, frames, (*inner, "scan", "row", k)) for k, x in enumerate(xs)]
            results = self.run(
                closed.jaxpr, closed.consts, [*consts, *carry, *rows], frames, (*inner, "scan")
            )
            carry = results[:ncarry]
            for k, value in enumerate(results[ncarry:]):
                stacked[k].append(value)
        if p["reverse"]:
            stacked = [found[::-1] for found in stacked]
        return [*carry, *(self.stack(found, frames, (*inner, "stack")) for found in stacked)]

    def row(self, value: int, t: int, frames: Frames, inner: tuple[Any, ...]) -> int:
        array = np.asarray(self.tape.values[value])
        if not self.tape.active[value]:
            return self.tape.new(array[t], False)
        n = int(np.prod(array.shape[1:], dtype=int))
        pull = Move(np.arange(n), t * n + np.arange(n), array.shape, None, array.shape[1:])
        return self.add("row", [value], array[t], {}, frames, inner, {0: pull})

    def stack(self, found: list[int], frames: Frames, inner: tuple[Any, ...]) -> int:
        arrays = [np.asarray(self.tape.values[v]) for v in found]
        value = np.stack(arrays) if arrays else np.zeros(0)
        if not any(self.tape.active[v] for v in found):
            return self.tape.new(value, False)
        n = arrays[0].size
        pulls: dict[int, Pull] = {
            k: Move(k * n + np.arange(n), np.arange(n), arrays[k].shape, None, value.shape)
            for k, v in enumerate(found)
            if self.tape.active[v]
        }
        return self.add("stack", found, value, {}, frames, inner, pulls)

    def loop(
        self, p: Mapping[str, Any], inputs: list[int], frames: Frames, inner: tuple[Any, ...]
    ) -> list[int]:
        nc, nb = p["cond_nconsts"], p["body_nconsts"]
        asked, consts, carry = inputs[:nc], inputs[nc : nc + nb], inputs[nc + nb :]
        condition, body = p["cond_jaxpr"], p["body_jaxpr"]
        for _ in range(OPERATIONS):
            (go,) = self.run(
                condition.jaxpr, condition.consts, [*asked, *carry], frames, (*inner, "test")
            )
            if not bool(self.tape.values[go]):
                return carry
            carry = self.run(body.jaxpr, body.consts, [*consts, *carry], frames, (*inner, "while"))
        raise UntapableError("the loss has a loop that does not end")

    # -- Products ------------------------------------------------------------------------------

    def _dot_general(
        self, e: Any, inputs: Any, arrays: Any, active: Any, frames: Any, inner: Any
    ) -> int:
        (lc, rc), (lb, rb) = e.params["dimension_numbers"]
        letters = iter("abcdefghijklmnopqrstuvwxyz")
        left = [""] * arrays[0].ndim
        right = [""] * arrays[1].ndim
        for a, b in (*zip(lb, rb, strict=True), *zip(lc, rc, strict=True)):
            left[a] = right[b] = next(letters)
        left = [s or next(letters) for s in left]
        right = [s or next(letters) for s in right]
        out = [left[a] for a in lb]
        out += [s for i, s in enumerate(left) if i not in (*lb, *lc)]
        out += [s for i, s in enumerate(right) if i not in (*rb, *rc)]
        return self.product(
            e, inputs, ("".join(left), "".join(right), "".join(out)), arrays, active, frames, inner
        )

    def product(
        self, e: Any, inputs: Any, spec: Any, arrays: Any, active: Any, frames: Any, inner: Any
    ) -> int:
        left, right, out = spec
        value = np.einsum(f"{left},{right}->{out}", arrays[0], arrays[1], optimize=True)
        pulls: dict[int, Pull] = {}
        if active[0]:
            pulls[0] = Contract(f"Z{out},{right}->Z{left}", inputs[1], arrays[1], arrays[0].shape)
        if active[1]:
            pulls[1] = Contract(f"Z{out},{left}->Z{right}", inputs[0], arrays[0], arrays[1].shape)
        params = {**e.params, "spec": spec}
        return self.add("dot_general", inputs, value, params, frames, inner, pulls)

    def _conv_general_dilated(
        self, e: Any, inputs: Any, arrays: Any, active: Any, frames: Any, inner: Any
    ) -> int | None:
        """Patches of the image, a move, times the kernel, a product."""
        p = e.params
        if p["feature_group_count"] != 1 or p["batch_group_count"] != 1:
            return None
        image, kernel = arrays
        dims = p["dimension_numbers"]
        sizes = [kernel.shape[a] for a in dims.rhs_spec[2:]]

        flat = windows(
            tuple(image.shape[a] for a in dims.lhs_spec[2:]),
            sizes,
            p["window_strides"],
            p["padding"],
            p["lhs_dilation"],
            p["rhs_dilation"],
        )
        numbers = np.transpose(np.arange(image.size).reshape(image.shape), dims.lhs_spec)
        numbers = numbers.reshape(*numbers.shape[:2], -1)
        index = np.where(flat >= 0, numbers[:, :, np.maximum(flat, 0)], -1)
        values = np.where(index >= 0, np.asarray(image).ravel()[index], 0.0)
        pulls: dict[int, Pull] = {}
        if active[0]:
            rows = np.flatnonzero(index.ravel() >= 0)
            pulls[0] = Move(rows, index.ravel()[rows], image.shape, None, index.shape)
        cut = self.add("patches", [inputs[0]], values, dict(p), frames, (*inner, "p"), pulls)
        spatial = "hijk"[: len(sizes)]
        places = "opqr"[: len(sizes)]
        right = [""] * kernel.ndim
        for letter, axis in zip(f"fc{spatial}", dims.rhs_spec, strict=True):
            right[axis] = letter
        out = [""] * image.ndim
        for letter, axis in zip(f"nf{places}", dims.out_spec, strict=True):
            out[axis] = letter
        spec = (f"nc{spatial}{places}", "".join(right), "".join(out))
        return self.product(
            e, [cut, inputs[1]], spec, [values, kernel], [active[0], active[1]], frames, inner
        )

    # -- Sums and extremes ---------------------------------------------------------------------

    def _reduce_sum(
        self, e: Any, inputs: Any, arrays: Any, active: Any, frames: Any, inner: Any
    ) -> int:
        axes = tuple(e.params["axes"])
        value = np.sum(arrays[0], axes)
        pull = reduction(arrays[0].shape, axes)
        return self.add("reduce_sum", inputs, value, e.params, frames, inner, {0: pull})

    def _extreme(self, e: Any, inputs: Any, arrays: Any, frames: Any, inner: Any, best: Any) -> int:
        """What is shared at a tie is shared equally."""
        axes = tuple(e.params["axes"])
        value = best(arrays[0], axes)
        wins = arrays[0] == np.expand_dims(value, axes)
        pull = reduction(arrays[0].shape, axes)
        shares = (wins / wins.sum(axes, keepdims=True)).ravel()
        keep = np.flatnonzero(shares)
        move = Move(pull.rows[keep], pull.cols[keep], pull.shape, shares[keep], value.shape)
        return self.add(e.primitive.name, inputs, value, e.params, frames, inner, {0: move})

    def _reduce_max(self, e: Any, i: Any, a: Any, active: Any, frames: Any, inner: Any) -> int:
        return self._extreme(e, i, a, frames, inner, np.max)

    def _reduce_min(self, e: Any, i: Any, a: Any, active: Any, frames: Any, inner: Any) -> int:
        return self._extreme(e, i, a, frames, inner, np.min)

    def _reduce_window_sum(
        self, e: Any, inputs: Any, arrays: Any, active: Any, frames: Any, inner: Any
    ) -> int:
        index = windows_of(e.params, arrays[0].shape)
        value = np.where(index >= 0, arrays[0].ravel()[index], 0.0).sum(0)
        places = np.broadcast_to(np.arange(value.size).reshape(value.shape), index.shape)
        inside = np.flatnonzero(index.ravel() >= 0)
        move = Move(
            places.ravel()[inside], index.ravel()[inside], arrays[0].shape, None, value.shape
        )
        return self.add("reduce_window_sum", inputs, value, e.params, frames, inner, {0: move})

    def _reduce_window_max(
        self, e: Any, inputs: Any, arrays: Any, active: Any, frames: Any, inner: Any
    ) -> int:
        """Of equal entries the first receives everything."""
        index = windows_of(e.params, arrays[0].shape)
        values = np.where(index >= 0, arrays[0].ravel()[index], -np.inf)
        first = values.argmax(0)[None]
        value = np.take_along_axis(values, first, 0)[0]
        cols = np.take_along_axis(index, first, 0).ravel()
        move = Move(np.arange(value.size), cols, arrays[0].shape, None, value.shape)
        return self.add("reduce_window_max", inputs, value, e.params, frames, inner, {0: move})

    def _reduce_prod(
        self, e: Any, inputs: Any, arrays: Any, active: Any, frames: Any, inner: Any
    ) -> int | None:
        axes = tuple(e.params["axes"])
        value = np.prod(arrays[0], axes)
        if not np.all(arrays[0]):
            return None
        pull = reduction(arrays[0].shape, axes)
        weights = (np.expand_dims(value, axes) / arrays[0]).ravel()
        move = Move(pull.rows, pull.cols, pull.shape, weights, value.shape)
        return self.add("reduce_prod", inputs, value, e.params, frames, inner, {0: move})

    def _sort(
        self, e: Any, inputs: Any, arrays: Any, active: Any, frames: Any, inner: Any
    ) -> int | None:
        if len(inputs) != 1:
            return None
        axis = e.params["dimension"]
        order = np.argsort(arrays[0], axis, kind="stable")
        numbers = np.arange(arrays[0].size).reshape(arrays[0].shape)
        index = np.take_along_axis(numbers, order, axis)
        value = arrays[0].ravel()[index]
        move = Move(np.arange(index.size), index.ravel(), value.shape, None, value.shape)
        return self.add("sort", inputs, value, e.params, frames, inner, {0: move})

    def _cumsum(self, e: Any, inputs: Any, a: Any, active: Any, frames: Any, inner: Any) -> int:
        axis, reverse = e.params["axis"], e.params["reverse"]

        def run(x: Any, reverse: bool) -> Any:
            return (
                np.flip(np.cumsum(np.flip(x, axis), axis), axis) if reverse else np.cumsum(x, axis)
            )

        pull = General(
            lambda ct: run(ct, not reverse), a[0].shape, lambda tangent: run(tangent, reverse)
        )
        return self.add("cumsum", inputs, run(a[0], reverse), e.params, frames, inner, {0: pull})

    # -- Copies --------------------------------------------------------------------------------

    def move(self, e: Any, inputs: Any, arrays: Any, active: Any, frames: Any, inner: Any) -> int:
        """An operation that copies entries: which, is read off by copying their numbers."""
        name = e.primitive.name
        data = {
            "gather": (0,), "dynamic_slice": (0,), "pad": (0, 1), "dynamic_update_slice": (0, 1),
            "scatter": (0, 2),
        }.get(name, tuple(range(len(arrays))))  # fmt: skip

        def apply(arrays: Any) -> Any:
            if name in MOVES:
                return np.asarray(MOVES[name](arrays, e.params))
            return np.asarray(e.primitive.bind(*map(jnp.asarray, arrays), **e.params))

        numbered, offset, starts = list(arrays), 0, {}
        for k in data:
            size = int(np.size(arrays[k]))
            numbered[k] = offset + np.arange(size, dtype=np.int64).reshape(np.shape(arrays[k]))
            starts[k], offset = offset, offset + size
        index = apply(numbered)
        everything = np.concatenate([np.ravel(arrays[k]) for k in data])
        inside = (index >= 0) & (index < offset)
        value = everything[np.where(inside, index, 0)]
        if not inside.all():  # What is out of bounds has a value of its own.
            value = apply(arrays)
        index = index.ravel()
        pulls: dict[int, Pull] = {}
        for k in data:
            if active[k]:
                size = int(np.size(arrays[k]))
                rows = np.flatnonzero((index >= starts[k]) & (index < starts[k] + size))
                cols = index[rows] - starts[k]
                pulls[k] = Move(rows, cols, np.shape(arrays[k]), None, value.shape)
        return self.add(name, inputs, value, e.params, frames, inner, pulls)

    # -- What only JAX knows -------------------------------------------------------------------

    def values_of(self, equation: Any, arrays: Any) -> list[Any]:
        """The results of an operation that no parameter goes through."""
        name, params = equation.primitive.name, equation.params
        if name in FLAT and name not in ("argmax", "argmin"):
            return [FLAT[name](arrays, params)]
        if name in MOVES:
            return [MOVES[name](arrays, params)]
        if name in ELEMENTWISE and all(_floating(a) for a in arrays):
            return [np.asarray(ELEMENTWISE[name][0](arrays, params))]
        return [_array(v) for v in _bind(equation, [_to_jax(a) for a in arrays])]

    def _is_function_of_entries(self, closed: Any, inputs: list[int]) -> bool:
        """Is it made of element-wise operations on one array, as ReLU and SiLU are?"""
        shapes = {self.tape.shape(v) for v in inputs}
        if len(inputs) != 1 or len(closed.jaxpr.outvars) != 1 or not self.tape.active[inputs[0]]:
            return False

        def simple(jaxpr: Any) -> bool:
            for equation in jaxpr.eqns:
                inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
                if inner is not None:
                    if not simple(getattr(inner, "jaxpr", inner)):
                        return False
                elif equation.primitive.name not in {*ELEMENTWISE, *FLAT, "broadcast_in_dim"}:
                    return False
            return True

        return (
            simple(closed.jaxpr) and {tuple(v.aval.shape) for v in closed.jaxpr.outvars} == shapes
        )

    def opaque(
        self, equation: Any, inputs: list[int], frames: Frames, inner: Any, entries: bool
    ) -> list[int]:
        """An operation whose derivative is asked of JAX."""
        tape, primitive, params = self.tape, equation.primitive, equation.params
        name = primitive.name
        if primitive.name == "custom_jvp_call":
            told = str(getattr(params["call_jaxpr"].jaxpr.debug_info, "func_name", name))
            name = told.split(" ")[0]
        active = [k for k, v in enumerate(inputs) if tape.active[v] and _floating(tape.values[v])]
        arrays = [_to_jax(tape.values[v]) for v in inputs]

        def of_active(*chosen: Any) -> Any:
            mixed = list(arrays)
            for k, a in zip(active, chosen, strict=True):
                mixed[k] = a
            return _bind(equation, mixed)

        chosen = [arrays[k] for k in active]
        try:
            results, pullback = jax.vjp(of_active, *chosen)
        except Exception as error:
            raise UntapableError(f"the derivative of {name} is unknown") from error
        if entries:
            (slope,) = pullback([jnp.ones_like(results[0])])
            local = Local(np.asarray(slope, np.float64), np.shape(arrays[0]))
            fun = jax.jit(lambda x: of_active(x)[0])
            more = {**params, "function": fun}
            return [self.add(name, inputs, np.asarray(results[0]), more, frames, inner, {0: local})]
        found = []
        for j, result in enumerate(results):
            if not _floating(result):
                found.append(tape.new(np.asarray(result), False))
                continue
            pulls = self._pulls_from_jax(results, j, pullback, active, chosen)
            where = (*inner, j) if len(results) > 1 else inner
            found.append(self.add(name, inputs, np.asarray(result), params, frames, where, pulls))
        return found

    def _pulls_from_jax(
        self, results: Any, j: int, pullback: Any, active: Any, chosen: Any
    ) -> dict[int, Pull]:
        def pull(ct: Any) -> Any:
            all_cts = [
                jnp.asarray(ct).reshape(r.shape) if i == j else _zero_cotangent(r)
                for i, r in enumerate(results)
            ]
            return pullback(all_cts)

        size = int(np.size(results[j]))
        if size * sum(int(np.size(c)) for c in chosen) > DENSE:
            return {
                k: General(lambda ct, i=i: np.asarray(pull(ct)[i]), np.shape(chosen[i]))  # type: ignore[misc]
                for i, k in enumerate(active)
            }
        jacobians = jax.jit(jax.vmap(pull))(jnp.eye(size))
        pulls: dict[int, Pull] = {}
        for i, k in enumerate(active):
            matrix = np.asarray(jacobians[i]).reshape(size, -1)
            rows, cols = np.nonzero(matrix)
            pulls[k] = Move(
                rows, cols, np.shape(chosen[i]), matrix[rows, cols], np.shape(results[j])
            )
        return pulls


def reduction(shape: tuple[int, ...], axes: tuple[int, ...]) -> Move:
    """The pull of a sum over axes: each entry receives the cotangent of its sum."""
    kept = [1 if a in axes else n for a, n in enumerate(shape)]
    rows = np.broadcast_to(np.arange(int(np.prod(kept, dtype=int))).reshape(kept), shape).ravel()
    out = tuple(n for a, n in enumerate(shape) if a not in axes)
    return Move(rows, np.arange(rows.size), shape, None, out)


def windows_of(p: Mapping[str, Any], shape: tuple[int, ...]) -> Any:
    """The numbers of the entries in each window: a first axis, and then the places."""
    index = windows(
        shape,
        p["window_dimensions"],
        p["window_strides"],
        p["padding"],
        p["base_dilation"],
        p["window_dilation"],
    )
    return index.reshape(-1, *index.shape[len(shape) :])


def windows(
    shape: Sequence[int],
    sizes: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    dilation: Sequence[int],
) -> Any:
    """The number of the entry under each place of each window, −1 outside: (*sizes, *places)."""
    n = len(shape)
    index: Any = np.zeros((1,) * (2 * n), np.intp)
    outside: Any = np.zeros((1,) * (2 * n), bool)
    for a in range(n):
        spread = (shape[a] - 1) * base_dilation[a] + 1 if shape[a] else 0
        window = (sizes[a] - 1) * dilation[a] + 1
        places = max((spread + sum(padding[a]) - window) // strides[a] + 1, 0)
        at = np.arange(sizes[a])[:, None] * dilation[a] + np.arange(places) * strides[a]
        at = at - padding[a][0]
        missed = (at < 0) | (at >= spread) | (at % base_dilation[a] != 0)
        broad = [1] * (2 * n)
        broad[a], broad[n + a] = at.shape
        index = index * shape[a] + (at // base_dilation[a]).reshape(broad)
        outside = outside | missed.reshape(broad)
    return np.where(outside, -1, index)


def _bind(equation: Any, arrays: Sequence[Any]) -> list[Any]:
    """An operation's results, its own derivative rules included: a program of this one equation."""
    variables: dict[Any, Any] = {
        v: a for v, a in zip(equation.invars, arrays, strict=True) if not isinstance(v, Literal)
    }
    used = [v for v in equation.outvars if not isinstance(v, DropVar)]
    empty = jax.make_jaxpr(lambda: ())().jaxpr
    jaxpr = empty.replace(
        invars=list(variables), outvars=used, eqns=[equation], effects=equation.effects
    )
    found = iter(jaxpr_as_fun(ClosedJaxpr(jaxpr, ()))(*variables.values()))
    return [_nothing(v.aval) if isinstance(v, DropVar) else next(found) for v in equation.outvars]


def _nothing(aval: Any) -> Any:
    return jnp.zeros(aval.shape, aval.dtype)


def _zero_cotangent(result: Any) -> Any:
    if _floating(result):
        return jnp.zeros_like(result)
    return np.zeros(np.shape(result), jax.dtypes.float0)


def _floating(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    return dtype is not None and bool(jnp.issubdtype(dtype, jnp.floating))


def _array(value: Any) -> Any:
    """As an array of NumPy; what is none (a key) stays what it is."""
    return value if _key(value) else np.asarray(value)


def _to_jax(value: Any) -> Any:
    return value if isinstance(value, jax.Array) else jnp.asarray(value)


# -- The user's source -----------------------------------------------------------------------------


def _libraries() -> tuple[str, ...]:
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    folders += [sysconfig.get_path("stdlib"), str(Path(jax.__file__).parent)]
    folders += [str(Path(__file__).parent)]
    return tuple({f"{folder}/" for folder in folders})


_OWN = str(Path(__file__).parent)
_LIBRARIES = _libraries()


def _frames(equation: Any, outer: Frames) -> Frames:
    """The user's frames of an equation, the innermost first, and those it was called from."""
    traceback = equation.source_info.traceback
    own: list[Frame] = []
    for code, last in zip(*traceback.raw_frames(), strict=True) if traceback else ():
        if code.co_filename.startswith(_LIBRARIES) or code.co_filename.startswith("<frozen"):
            if own and code.co_filename.startswith(_OWN):
                break
            continue
        own.append(_frame(code, last))
    known = {(frame.file, frame.function) for frame in outer}
    return (*(f for f in own if (f.file, f.function) not in known), *outer) if outer else _cut(own)


def _cut(frames: list[Frame]) -> Frames:
    """Only what is within the loss: not the frames of whoever examines it."""
    return tuple(frames)


_positions: dict[Any, list[Any]] = {}


def _frame(code: Any, last: int) -> Frame:
    if code not in _positions:
        _positions[code] = list(code.co_positions())
    line, end, column, end_column = _positions[code][last // 2]
    return Frame(
        code.co_filename,
        code.co_qualname,
        line or code.co_firstlineno,
        column or 0,
        end or line or 0,
        end_column or 0,
    )
