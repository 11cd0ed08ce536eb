"""Parameter trees: the path of each leaf, and what two trees differ in."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from jaxnn.gradcheck.reference import floating


class Tree(NamedTuple):
    """A parameter tree taken apart: the path of each leaf, and which leaves are real numbers."""

    structure: Any
    paths: tuple[str, ...]
    values: tuple[Any, ...]

    @classmethod
    def of(cls, params: Any) -> "Tree":
        named, structure = jax.tree_util.tree_flatten_with_path(params)
        paths = [_name(path) for path, _ in named]
        if len(set(paths)) < len(paths):  # {"a.b": …, "a": {"b": …}}
            paths = [jax.tree_util.keystr(path) for path, _ in named]
        return cls(structure, tuple(paths), tuple(value for _, value in named))

    def real(self) -> dict[str, Any]:
        """The leaves that a derivative can be taken by."""
        return {p: v for p, v in zip(self.paths, self.values, strict=True) if floating(v)}

    def with_values(self, values: Mapping[str, Any]) -> Any:
        """The tree with some leaves replaced."""
        mixed = [values.get(p, v) for p, v in zip(self.paths, self.values, strict=True)]
        return jax.tree.unflatten(self.structure, mixed)

    def without_integers(self) -> Any:
        """The structure of a gradient that has None where there is nothing to differentiate by."""
        return jax.tree.structure(
            jax.tree.unflatten(self.structure, [v if floating(v) else None for v in self.values])
        )


def misfit(expected: Tree, found: Tree) -> str:
    """What is missing and what is too much, or of which type it is."""
    missing = [path for path in expected.paths if path not in found.paths]
    extra = [path for path in found.paths if path not in expected.paths]
    told = [
        f"{', '.join(paths)} {what}"
        for paths, what in ((missing, "is missing"), (extra, "is too much"))
        if paths
    ]
    return "; ".join(told) or f"expected {expected.structure}, found {found.structure}"


def _name(path: tuple[Any, ...]) -> str:
    """A leaf's path as Python would write it: W1, layer.kernel, a[0]."""
    parts = []
    for key in path:
        if isinstance(key, jax.tree_util.SequenceKey):
            parts.append(f"[{key.idx}]")
        else:
            name = key.name if isinstance(key, jax.tree_util.GetAttrKey) else key.key
            parts.append(f".{name}")
    return "".join(parts).lstrip(".") or "params"
