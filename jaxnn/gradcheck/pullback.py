"""A function as one vector of outputs, and the backward pass that jax.grad uses for it."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.errors import JaxnnError
from jaxnn.gradcheck.compare import Float64Array, as_real, epsilon
from jaxnn.gradcheck.program import UNTRACEABLE, prepare, pulled_back, trace
from jaxnn.gradcheck.reference import cast, floating
from jaxnn.gradcheck.tree import Tree

Leaves = dict[str, Float64Array]


class Misshapen(Exception):
    """The forward rule of a `custom_vjp` returns another structure than the function."""


class Pullback:
    """A function at a point, seen as one vector of outputs, and its backward pass."""

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], rng: np.random.Generator
    ) -> None:
        self.function, self.rng = function, rng
        tree = Tree.of(cast(list(args), np.float64))
        names = dict(enumerate(_argument_names(function, len(args))))
        paths = (re.sub(r"^\[(\d+)\]", lambda m: names[int(m[1])], path) for path in tree.paths)
        self.tree = tree._replace(paths=tuple(paths))
        self.point = {path: np.asarray(value) for path, value in self.tree.real().items()}
        self.results = prepare(lambda values: function(*self.tree.with_values(values)), self.point)(
            self.point
        )
        for path, value in (*self.point.items(), *_named(self.results)):
            if np.iscomplexobj(value):
                raise JaxnnError(
                    f"expected real arguments and results, found {value.dtype} in {path}: give "
                    "the real and the imaginary part as two real arrays"
                )
        self.plain = as_real(_flat(self.results))
        vector = self.vector(function)
        (self.outputs, self.rule, self.batched_rule), results = self._differentiated(vector)
        if not _same_structure(results, self.results) or (self.outputs.shape != self.plain.shape):
            raise Misshapen(_forms(results, self.results))
        self.n_out, self.n_in = self.outputs.size, sum(v.size for v in self.point.values())
        if self.n_in == 0 or self.n_out == 0:
            raise JaxnnError("expected a function of real arrays that returns real arrays")
        if not np.isfinite(as_real(self.outputs)).all():
            raise JaxnnError(
                "expected results that are finite here, found NaN or infinity in float64: choose "
                "another point"
            )
        self.eps = epsilon(self.outputs.dtype)
        self.u, self.v = rng.standard_normal((2, self.n_out))

    def _differentiated(self, vector: Callable[..., Any]) -> tuple[Any, Any]:
        """The vector and its backward pass, and the results as the forward rule gave them."""
        seen: list[Any] = []

        def observed(values: Mapping[str, Any]) -> Any:
            results = self.function(*self.tree.with_values(values))
            seen.append(jax.tree.map(lambda _: 0, results))
            return _flat(results)

        try:
            return pulled_back(observed, self.point), seen[-1]
        except UNTRACEABLE:
            raise JaxnnError(
                "expected a function written with jax.numpy, or one with a rule of its own "
                "(jax.custom_vjp), found one that makes NumPy arrays or Python numbers of its "
                "arguments: jax.grad cannot differentiate it"
            ) from None

    def vector(self, function: Callable[..., Any], tree: Tree | None = None) -> Callable[..., Any]:
        """The function with its real arguments by path and its real results in one vector."""
        arguments = tree or self.tree
        return lambda values: _flat(function(*arguments.with_values(values)))

    def unflattened(self, vector: Any) -> Any:
        """A vector in the form of the results, None where they are no real numbers."""
        leaves, structure = jax.tree.flatten(self.results)
        parts: list[Any] = []
        start = 0
        for leaf in leaves:
            if not floating(leaf):
                parts.append(None)
                continue
            parts.append(vector[start : start + leaf.size].reshape(leaf.shape))
            start += leaf.size
        return jax.tree.unflatten(structure, parts)

    def pull(self, cotangent: Any) -> Leaves:
        """The product of a cotangent with the Jacobian, by the rule under test."""
        ct = jnp.asarray(cotangent, self.outputs.dtype)
        return {path: as_real(value) for path, value in self.rule(ct)[0].items()}

    def again(self) -> Float64Array:
        """The outputs, by the function itself once more."""
        return self.values_of(self.function)

    def values_of(self, function: Callable[..., Any]) -> Float64Array:
        """The outputs of a function of the same arguments."""
        return as_real(prepare(self.vector(function), self.point)(self.point))

    @cached_property
    def evaluate(self) -> Callable[[Mapping[str, Any]], Float64Array]:
        """The outputs at another point: traced once, where the function can be traced."""
        vector = self.vector(self.function)
        try:
            vector = trace(vector, self.point)
            as_real(vector(self.point))
        except Exception:  # It needs its arguments' values: it is NumPy, or it branches.
            vector = self.vector(self.function)
        return lambda values: as_real(vector(values))

    @cached_property
    def short_eps(self) -> float:
        """The spacing of the shortest dtype in which forward and backward pass compute."""

        def both(values: Mapping[str, Any], u: Any) -> Any:
            outputs, pull = jax.vjp(self.vector(self.function), values)
            return outputs, pull(u)

        try:
            program = trace(both, self.point, jnp.asarray(self.u, self.outputs.dtype))
        except Exception:  # Nothing is known about a function that cannot be traced.
            return self.eps
        return max([self.eps, *map(epsilon, program.dtypes)])

    def jacobian(self, pull: Callable[[Any], Any]) -> Leaves:
        """The Jacobian by a backward pass, a row for each cotangent that is 1 at one output."""
        ct = jnp.eye(self.n_out, dtype=self.outputs.dtype)
        try:
            rows = trace(jax.vmap(pull), ct)(ct)[0]
        except Exception:  # A rule that cannot be batched is asked for one row after another.
            each = [pull(row)[0] for row in ct]
            rows = {path: np.stack([as_real(row[path]) for row in each]) for path in self.point}
        return {path: as_real(value).reshape(self.n_out, -1) for path, value in rows.items()}

    @cached_property
    def given(self) -> Leaves:
        """The Jacobian by the rule under test."""
        return self.jacobian(self.batched_rule)

    def contracted(self, jacobians: Leaves, u: Float64Array) -> Leaves:
        """u · J for each argument, in the argument's shape."""
        return {
            path: (u @ jacobian).reshape(self.point[path].shape)
            for path, jacobian in jacobians.items()
        }


def _flat(results: Any) -> Any:
    """The real numbers of a function's results in one vector."""
    real = [jnp.ravel(r) for r in jax.tree.leaves(results) if floating(r)]
    return jnp.concatenate(real or [jnp.zeros(0)])


def _named(results: Any) -> list[tuple[str, Any]]:
    return [("the result", leaf) for leaf in jax.tree.leaves(results) if floating(leaf)]


def _same_structure(a: Any, b: Any) -> bool:
    one: Any = jax.tree.structure(a)
    return bool(one == jax.tree.structure(b))


def _forms(found: Any, expected: Any) -> str:
    """What two results differ in."""
    structures = jax.tree.structure(found), jax.tree.structure(expected)
    if _same_structure(found, expected):
        return "its first element has another shape than the function's result"
    told = [re.sub(r"^PyTreeDef\((.*)\)$", r"\1", str(structure)) for structure in structures]
    return f"its first element is {told[0]} where the function's result is {told[1]}"


def python_floats(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with each Python float as an array, but for those not differentiated by."""
    fixed = set(getattr(function, "nondiff_argnums", ()) or ())
    dtype = jax.dtypes.canonicalize_dtype(float)

    def array(value: Any) -> Any:
        return np.asarray(value, dtype) if type(value) is float else value

    return tuple(arg if i in fixed else jax.tree.map(array, arg) for i, arg in enumerate(args))


def _argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """The names of the positional parameters, or args[0], args[1] … where they cannot be had."""
    try:
        names = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        names = []
    return names[:count] if len(names) >= count else [f"args[{i}]" for i in range(count)]
