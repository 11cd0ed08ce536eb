"""A function as its program: traced anew each time, run operation by operation in NumPy, and, where
it draws random numbers, with the draws of another program in the place of its own.

Nothing is remembered from one examination to the next, and next to nothing is compiled.

jax.random gives other numbers in float32 than in float64. The loss in float64 and the loss that its
author runs in float32 are one function only with the same draws: `recorded` notes them in one
width, `replaying` puts them into the program of the other.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from jaxnn.gradcheck import evaluate
from jaxnn.gradcheck.reference import floating, in_all_threads

#: What tracing raises when a function needs its arguments' values: it is NumPy, or it branches.
UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)

#: A loop of more steps is not unrolled to reach the random numbers that are drawn in it.
STEPS = 100

#: Some operations whose operands have one dtype.
OF_ONE_DTYPE = {"add", "sub", "mul", "div", "max", "min", "pow", "rem", "atan2", "eq", "lt", "gt"}

#: The operations that draw random numbers from a raw key; the others take a typed one.
RAW_SOURCES = {"threefry2x32", "rng_bit_generator", "rng_uniform"}

#: The operations on typed keys that draw nothing.
KEY_DATA = {"random_unwrap", "random_wrap", "random_seed", "random_split", "random_fold_in"}


class Draws(NamedTuple):
    """The random numbers of one run, in their order, and what could not be noted.

    `hidden` names the draws inside of loops and custom rules, with their widths in bits.
    """

    values: tuple[Any, ...]
    hidden: tuple[str, ...]


class OtherDrawsError(Exception):
    """Two programs do not draw the same random numbers, in the same order and the same shapes."""


@dataclass(frozen=True)
class Program:
    """A traced function; its operands are what it may be differentiated by."""

    closed: ClosedJaxpr
    structure: Any

    def __call__(self, *operands: Any) -> Any:
        leaves = jax.tree.leaves(operands)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return self._unflatten(jaxpr_as_fun(self.closed)(*leaves))
        with in_all_threads() if self._calls_back else nullcontext(), np.errstate(all="ignore"):
            results = evaluate.run(self.closed.jaxpr, self.closed.consts, leaves)
            return self._unflatten(jax.block_until_ready(results))

    @cached_property
    def _calls_back(self) -> bool:
        """Does it ask the host on the way?"""
        programs = (self.closed, *inner(self.closed.jaxpr))
        names = {equation.primitive.name for program in programs for equation in program.eqns}
        return any("callback" in name for name in names)

    @property
    def random(self) -> bool:
        """Does it draw random numbers?"""
        return draws_numbers(self.closed.jaxpr)

    @property
    def dtypes(self) -> frozenset[Any]:
        """The dtypes of the floating values that it computes on the way."""
        return frozenset(
            variable.aval.dtype
            for program in (self.closed, *inner(self.closed.jaxpr))
            for equation in program.eqns
            for variable in equation.outvars
            if floating(variable.aval)
        )

    def recorded(self, *operands: Any) -> tuple[Any, Draws]:
        """The result, and the random numbers that it was computed with."""
        values: list[Any] = []

        def note(equation: Any, compute: Callable[[], list[Any]]) -> list[Any]:
            results = compute()
            values.extend(results)
            return results

        run = _Run(note)
        result = self._unflatten(run.program(self.closed, jax.tree.leaves(operands)))
        return result, Draws(tuple(values), tuple(run.hidden))

    def replaying(self, draws: Draws) -> Callable[..., Any]:
        """The function with these draws in the place of its own; OtherDrawsError if they differ."""

        def run(*operands: Any) -> Any:
            left = iter(draws.values)

            def replay(equation: Any, compute: Callable[[], list[Any]]) -> list[Any]:
                return [_as_drawn(next(left, None), v.aval) for v in equation.outvars]

            run = _Run(replay)
            results = run.program(self.closed, jax.tree.leaves(operands))
            if tuple(run.hidden) != draws.hidden or next(left, None) is not None:
                raise OtherDrawsError
            return self._unflatten(results)

        return run

    def _unflatten(self, results: Iterable[Any]) -> Any:
        return jax.tree.unflatten(self.structure, results)


def trace(function: Callable[..., Any], *operands: Any) -> Program:
    """The function's program for operands of these shapes, under the present settings.

    JAX remembers an array of NumPy that a function closes over in the width of integers in which a
    living program met it first. Here the constants are copied, so that ours keeps none alive.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*operands)
    constants = [
        jnp.array(np.array(constant)) if isinstance(constant, np.ndarray) else constant
        for constant in closed.consts
    ]
    return Program(ClosedJaxpr(closed.jaxpr, constants), jax.tree.structure(shapes))


def trace_with(function: Callable[..., Any], arguments: Any, *operands: Any) -> Program:
    """The program of `function(arguments, *operands)`, the arguments held fast.

    An array of NumPy cannot be indexed by what is drawn while tracing: then they are JAX's.
    """
    try:
        return trace(partial(function, arguments), *operands)
    except UNTRACEABLE as error:
        if not any(isinstance(v, np.ndarray) for v in jax.tree.leaves(arguments)):
            raise
        try:
            return trace(partial(function, _as_jax(arguments)), *operands)
        except Exception:
            raise error from None


def trace_wide(function: Callable[..., Any], arguments: Any, *operands: Any) -> Program:
    """The same in float64.

    A living program of the user's may hold in 32 bits an array that the function closes over. Then
    it stays so: 64-bit numbers are only those that are explicit, as the operands are.
    """
    try:
        program = trace_with(function, arguments, *operands)
        if not _mixed(program.closed):
            return program
    except TypeError as error:
        if not {"int32", "int64"} <= set(re.findall(r"int\d\d", str(error))):
            raise
    arguments, operands = _as_jax((arguments, operands))
    before = jax.config.jax_explicit_x64_dtypes  # type: ignore[attr-defined]
    try:
        jax.config.update("jax_explicit_x64_dtypes", "allow")
        with jax.enable_x64(False):
            return trace_with(function, arguments, *operands)
    finally:
        jax.config.update("jax_explicit_x64_dtypes", before)


def _as_jax(tree: Any) -> Any:
    return jax.tree.map(lambda v: jnp.asarray(v) if isinstance(v, np.ndarray) else v, tree)


def _mixed(closed: ClosedJaxpr) -> bool:
    """Does an operation get two dtypes that has to get one?"""
    return any(
        len({v.aval.dtype for v in equation.invars}) > 1
        for program in (closed, *inner(closed.jaxpr))
        for equation in program.eqns
        if equation.primitive.name in OF_ONE_DTYPE
    )


def pulled_back(
    function: Callable[[Any], Any], point: Any
) -> tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]:
    """The results of a function, its backward pass, and the same for `jax.vmap`.

    Both passes are traced and run in NumPy; the backward pass anew each time, as JAX calls a rule.
    What cannot be traced is left to JAX.
    """
    try:
        outputs, pull = trace(lambda values: jax.vjp(function, values), point)(point)
    except UNTRACEABLE:
        outputs, pull = jax.vjp(function, point)
        return outputs, pull, pull
    pull = _as_jax(pull)  # A rule finds arrays of JAX among what its forward pass has kept.

    def traced(cotangent: Any) -> Any:
        try:
            return trace(lambda u: pull(u), cotangent)(cotangent)  # No trace is remembered.
        except UNTRACEABLE:
            return pull(jnp.asarray(cotangent))

    return outputs, traced, pull


def prepare(function: Callable[..., Any], *operands: Any) -> Callable[..., Any]:
    """The function's program where it can be traced, else the function itself."""
    try:
        return trace(function, *operands)
    except UNTRACEABLE:
        return function


# -- Programs within programs ----------------------------------------------------------------------


def inner(jaxpr: Any) -> Iterator[Any]:
    """The programs that a program calls, at any depth."""
    for equation in jaxpr.eqns:
        yield from _called(equation)


def _called(equation: Any) -> Iterator[Any]:
    """The programs that an operation calls, at any depth."""
    kinds = (ClosedJaxpr, Jaxpr)
    values = list(equation.params.values())
    for value in jax.tree.leaves(values, is_leaf=lambda v: isinstance(v, kinds)):
        if isinstance(value, kinds):
            yield value
            yield from inner(value.jaxpr if isinstance(value, ClosedJaxpr) else value)


def closed_programs(jaxpr: Jaxpr) -> Iterator[ClosedJaxpr]:
    """Those of them that hold their constants."""
    return (program for program in inner(jaxpr) if isinstance(program, ClosedJaxpr))


def is_key(aval: Any) -> bool:
    """Is it a typed key of jax.random?"""
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _takes_key(equation: Any) -> bool:
    takes = any(is_key(v.aval) for v in equation.invars)
    return takes and not any(is_key(v.aval) for v in equation.outvars)


def _source(equation: Any) -> bool:
    """Is it an operation that by itself turns a key into random numbers?"""
    if next(_called(equation), None) is not None:
        return False
    name = equation.primitive.name
    return name in RAW_SOURCES or (name not in KEY_DATA and _takes_key(equation))


def draws_numbers(jaxpr: Any) -> bool:
    return any(_source(e) for program in (jaxpr, *inner(jaxpr)) for e in program.eqns)


# -- Running a program -----------------------------------------------------------------------------

Note = Callable[[Any, Callable[[], list[Any]]], list[Any]]


@dataclass
class _Run:
    """One run of a program. Each draw that does not depend on the operands is given to `note`.

    A value is `fixed` if it does not depend on the operands. A draw is the whole sampler of
    jax.random, so that its results are floats or integers rather than bits.
    """

    note: Note
    hidden: list[str] = field(default_factory=list)

    def program(self, closed: ClosedJaxpr, operands: list[Any]) -> list[Any]:
        fixed = [False] * len(operands)
        return self.jaxpr(closed.jaxpr, closed.consts, operands, fixed)[0]

    def jaxpr(
        self, jaxpr: Jaxpr, constants: Iterable[Any], operands: Iterable[Any], fixed: list[bool]
    ) -> tuple[list[Any], list[bool]]:
        """The results, and which of them are fixed."""
        known: dict[Any, tuple[Any, bool]] = {}
        known |= {v: (value, True) for v, value in zip(jaxpr.constvars, constants, strict=True)}
        known |= {v: pair for v, *pair in zip(jaxpr.invars, operands, fixed, strict=True)}  # type: ignore[misc]

        def read(atom: Any) -> tuple[Any, bool]:
            return (atom.val, True) if isinstance(atom, Literal) else known[atom]

        for equation in jaxpr.eqns:
            pairs = [read(atom) for atom in equation.invars]
            values, flags = [p[0] for p in pairs], [p[1] for p in pairs]
            results, after = self.operation(equation, values, flags)
            known |= dict(zip(equation.outvars, zip(results, after, strict=True), strict=True))
        outs = [read(atom) for atom in jaxpr.outvars]
        return [o[0] for o in outs], [o[1] for o in outs]

    def operation(
        self, equation: Any, values: list[Any], fixed: list[bool]
    ) -> tuple[list[Any], list[bool]]:
        """The results of one operation, and which of them are fixed."""
        all_fixed = all(fixed)
        programs = list(_called(equation))
        drawing = _source(equation) or any(map(draws_numbers, programs))
        if drawing:
            step = self._into(equation)
            if all_fixed and (_takes_key(equation) or step is None):
                results = self.note(equation, partial(evaluate.bind, equation, values))
                return results, [True] * len(results)
            if step is not None:
                return step(equation.params, values, fixed)
            self.hidden.extend(_widths(equation, programs))
        results = evaluate.step(equation, values)
        return results, [all_fixed] * len(results)

    def _into(self, equation: Any) -> Callable[..., tuple[list[Any], list[bool]]] | None:
        """How to run what an operation calls, step by step; None if it has to stay whole."""
        name, params = equation.primitive.name, equation.params
        if name in ("jit", "pjit", "closed_call", "remat2", "checkpoint"):
            return self._call
        if name == "scan" and params["length"] <= STEPS:
            return self._scan
        return None

    def _call(self, params: Mapping[str, Any], values: list[Any], fixed: list[bool]) -> Any:
        program = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
        if isinstance(program, ClosedJaxpr):
            return self.jaxpr(program.jaxpr, program.consts, values, fixed)
        return self.jaxpr(program, (), values, fixed)

    def _scan(self, params: Mapping[str, Any], values: list[Any], fixed: list[bool]) -> Any:
        """The loop unrolled: constants, what is carried, and a slice of the rest, in each step."""
        program, length = params["jaxpr"], params["length"]
        n, k = params["num_consts"], params["num_consts"] + params["num_carry"]
        constants, carried, sequences = values[:n], values[n:k], values[k:]
        flags = fixed[n:k]
        rows: list[list[Any]] = [[] for _ in range(length)]
        all_fixed = [True] * (len(program.jaxpr.outvars) - len(carried))
        for i in reversed(range(length)) if params["reverse"] else range(length):
            slices = [jax.lax.index_in_dim(x, i, keepdims=False) for x in sequences]
            inputs, known = [*constants, *carried, *slices], [*fixed[:n], *flags, *fixed[k:]]
            outs, after = self.jaxpr(program.jaxpr, program.consts, inputs, known)
            carried, flags = outs[: len(carried)], after[: len(carried)]
            rows[i] = outs[len(carried) :]
            all_fixed = [a and b for a, b in zip(all_fixed, after[len(carried) :], strict=True)]
        return [*carried, *map(jnp.stack, zip(*rows, strict=True))], [*flags, *all_fixed]


def _widths(equation: Any, programs: list[Any]) -> Iterator[str]:
    """The draws that stay inside of an operation, with the dtypes of what they give."""
    inside = [e for program in programs for e in program.eqns if _source(e)]
    for source in inside or [equation]:
        yield f"{source.primitive.name} {[v.aval.str_short() for v in source.outvars]}"


def _as_drawn(value: Any, aval: Any) -> Any:
    """Numbers drawn in one width, in the dtype of another; random bits stay the leading ones."""
    if value is None or value.shape != aval.shape:
        raise OtherDrawsError
    have, want = np.dtype(value.dtype), np.dtype(aval.dtype)
    if have == want:
        return value
    if have.kind == want.kind == "u" and want.itemsize > have.itemsize:
        return jnp.asarray(value).astype(want) << (8 * (want.itemsize - have.itemsize))
    same = {have.kind, want.kind} <= set("fV") or {have.kind, want.kind} <= set("iu")
    if not same:
        raise OtherDrawsError
    return jnp.asarray(value).astype(want)
