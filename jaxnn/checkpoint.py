"""Named arrays in a file that is whole or not at all, and says so when it is damaged.

The format is safetensors: loading executes nothing. A SHA-256 over the names, shapes, dtypes,
contents and notes lies in the file's own metadata, so that a single changed bit is noticed.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from jaxnn.errors import CheckpointError
from jaxnn.files import write_bytes

Arrays = Mapping[str, np.ndarray[Any, np.dtype[Any]]]


def save(path: Path, tree: Any, notes: Mapping[str, Any]) -> None:
    """Write the leaves of a pytree under their paths ("state/params/W1"), and JSON notes.

    Atomic and durable, as in `files.write_bytes`. Raises OSError where that cannot be done.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in _named(tree).items()}
    text = json.dumps(notes)
    metadata = {"notes": text, "sha256": _digest(arrays, text)}
    write_bytes(path, to_safetensors(arrays, metadata))


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays by name, and the notes. Raises `CheckpointError` unless the file is whole."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: not a readable safetensors file ({reason})") from error
    if metadata.get("sha256") != _digest(arrays, metadata.get("notes", "")):
        raise CheckpointError(f"{path}: damaged: the contents do not have the checksum they should")
    return arrays, json.loads(metadata["notes"])


def restore(path: Path, arrays: Arrays, like: Any) -> Any:
    """`arrays` in the structure of the pytree `like`.

    Raises `CheckpointError` naming the leaf whose name, shape or dtype is not the expected one.
    """
    expected = _named(like)
    if arrays.keys() != expected.keys():
        difference = ", ".join(sorted(arrays.keys() ^ expected.keys()))
        raise CheckpointError(f"{path}: arrays missing or not expected: {difference}")
    for name, leaf in expected.items():
        want, found = (f"{a.dtype} {tuple(a.shape)}" for a in (leaf, arrays[name]))
        if want != found:
            raise CheckpointError(f"{path}: {name}: expected {want}, found {found}")
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in expected])


def _named(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _digest(arrays: Arrays, notes: str) -> str:
    digest = hashlib.sha256(notes.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
