"""Named arrays in a file that others can read, and that says so when it is damaged: safetensors.

Loading executes nothing. What the arrays are is noted in the metadata, together with a SHA-256 over
notes and arrays: a single changed bit is noticed. Equal arrays with equal notes make equal files,
byte for byte: the metadata is a single entry, because safetensors writes several in random order.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from jaxnn.errors import CheckpointError
from jaxnn.io.files import write_bytes

Arrays = Mapping[str, NDArray[Any]]

ENTRY = "jaxnn"


def save(path: Path, arrays: Arrays, notes: Mapping[str, Any]) -> None:
    """Atomic and durable, as in `files.write_bytes`. Raises OSError where that cannot be done."""
    entry = {"sha256": _digest(arrays, notes), "notes": notes}
    write_bytes(path, to_safetensors(dict(arrays), {ENTRY: json.dumps(entry)}))


def load(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays by name, and the notes. Raises `CheckpointError` unless the file is whole."""
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            entry = json.loads((file.metadata() or {}).get(ENTRY, "{}"))
        intact = entry["sha256"] == _digest(arrays, entry["notes"])
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: not a whole file written by a training run ({reason})"
        ) from error
    if not intact:
        raise CheckpointError(f"{path}: damaged: the contents do not have the checksum they should")
    return arrays, entry["notes"]


def _digest(arrays: Arrays, notes: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(notes, allow_nan=False).encode())
    digest.update(to_safetensors(dict(arrays)))
    return digest.hexdigest()
