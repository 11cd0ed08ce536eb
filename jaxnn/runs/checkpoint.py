"""A pytree in a file, its leaves under their paths, and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnn.errors import CheckpointError
from jaxnn.io import arrayfile
from jaxnn.io.arrayfile import Arrays


def save(path: Path, tree: Any, notes: Mapping[str, Any]) -> None:
    """Write the leaves of a pytree under their paths ("state/params/W1"), and JSON notes.

    Atomic and durable, as in `files.write_bytes`. Raises OSError where that cannot be done.
    """
    arrayfile.save(path, {name: np.asarray(leaf) for name, leaf in _named(tree).items()}, notes)


def restore(path: Path, found: Arrays, like: Any) -> Any:
    """The arrays that `arrayfile.load` found, in the structure of the pytree `like`.

    Raises `CheckpointError` naming the leaf whose name, shape or dtype is not the expected one.
    """
    expected = _named(like)
    if found.keys() != expected.keys():
        difference = ", ".join(sorted(found.keys() ^ expected.keys()))
        raise CheckpointError(f"{path}: arrays missing or not expected: {difference}")
    for name, leaf in expected.items():
        wanted, had = (f"{a.dtype} {tuple(a.shape)}" for a in (leaf, found[name]))
        if wanted != had:
            raise CheckpointError(f"{path}: {name}: expected {wanted}, found {had}")
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in expected])


def _named(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
