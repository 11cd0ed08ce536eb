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
from jaxnn.gradcheck.reference import cast, floating
from jaxnn.gradcheck.tree import Tree

Leaves = dict[str, Float64Array]

#: Up to so many entries the Jacobian is compared completely; above, this many are sampled.
COMPLETE = 1_000_000


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
        self.outputs, self.rule = jax.vjp(self.vector(function), self.point)
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
        self._choose()

    def vector(self, function: Callable[..., Any], tree: Tree | None = None) -> Callable[..., Any]:
        """The function with its real arguments by path and its real results in one vector."""
        arguments = tree or self.tree

        def vector(values: Mapping[str, Any]) -> Any:
            results = jax.tree.leaves(function(*arguments.with_values(values)))
            return jnp.concatenate([jnp.ravel(r) for r in results if floating(r)] or [jnp.zeros(0)])

        return vector

    def pull(self, cotangent: Any) -> Leaves:
        """The product of a cotangent with the Jacobian, by the rule under test."""
        ct = jnp.asarray(cotangent, self.outputs.dtype)
        return {path: as_real(value) for path, value in self.rule(ct)[0].items()}

    def _choose(self) -> None:
        """All rows and columns of the Jacobian, or a sample of both."""
        complete = self.n_out * self.n_in <= COMPLETE
        n = self.n_out if complete else min(self.n_out, 500)
        self.rows = np.sort(self.rng.permutation(self.n_out)[:n])
        share = 1.0 if complete else min(1.0, COMPLETE / n / self.n_in)
        self.columns = {
            path: np.sort(self.rng.permutation(v.size)[: max(1, int(v.size * share))])
            for path, v in self.point.items()
        }
        shown = sum(len(c) for c in self.columns.values())
        self.complete = complete
        self.coverage = (
            f"complete: all {self.n_out} outputs by all {self.n_in} inputs"
            if complete
            else f"sampled: {n} of {self.n_out} outputs by {shown} of {self.n_in} inputs, chosen "
            f"at random (complete up to {COMPLETE:,} entries)"
        )

    def jacobian(self, pull: Callable[[Any], Any]) -> Leaves:
        """The chosen rows and columns, a row for each cotangent that is 1 at one output."""
        cotangents = np.zeros((len(self.rows), self.n_out))
        cotangents[np.arange(len(self.rows)), self.rows] = 1
        ct = jnp.asarray(cotangents, self.outputs.dtype)
        try:
            rows = jax.vmap(pull)(ct)[0]
        except Exception:  # A rule that cannot be batched is asked for one row after another.
            each = [pull(row)[0] for row in ct]
            rows = {path: jnp.stack([row[path] for row in each]) for path in self.point}
        return {
            path: as_real(value).reshape(len(self.rows), -1)[:, self.columns[path]]
            for path, value in rows.items()
        }

    @cached_property
    def given(self) -> Leaves:
        """The Jacobian by the rule under test."""
        return self.jacobian(self.rule)

    def contracted(self, jacobians: Leaves, u: Float64Array) -> Leaves:
        """u · J for each argument, in the argument's shape; only for complete Jacobians."""
        return {
            path: (u @ jacobian).reshape(self.point[path].shape)
            for path, jacobian in jacobians.items()
        }


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
