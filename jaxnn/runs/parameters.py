"""Parameters in files that other programs read, and back: safetensors, and NumPy's `.npz`."""

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as from_safetensors
from safetensors.numpy import save as to_safetensors

from jaxnn.errors import CheckpointError, UsageError
from jaxnn.io.files import write_bytes

FORMS = (".safetensors", ".npz")

#: What the readers of both forms raise of bytes that are no such file.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    SafetensorError,
)


def save_params(path: str | Path, params: Mapping[str, ArrayLike]) -> None:
    """Write W1 (n_1, n_x), b1 (n_1,), W2 … as float32 to a file that ends in .npz or .safetensors.

    Those of an ensemble have a first axis for its members.
    `numpy.load` and safetensors read it, without jaxnn. Atomic: after a crash the file holds its
    old content or the new one. Raises `UsageError` for another ending, OSError where the file
    cannot be written.

    >>> jaxnn.save_params(folder / "network.npz", params)
    >>> [(name, array.shape) for name, array in np.load(folder / "network.npz").items()]
    [('W1', (64, 784)), ('b1', (64,)), ('W2', (10, 64)), ('b2', (10,))]
    """
    path = Path(path)
    arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in params.items()}
    if _form(path) == ".npz":
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        write_bytes(path, content.getvalue())
    else:
        write_bytes(path, to_safetensors(arrays))


def load_params(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """The parameters in a file of `save_params`, in that of a run, or in any of the same names.

    Loading executes nothing. Raises `CheckpointError`, in one line, unless the file is whole and
    holds W1, b1, W2, b2 … of matching shapes, finite numbers all; `UsageError` for another ending.

    >>> jaxnn.save_params(folder / "network.safetensors", params)
    >>> again = jaxnn.load_params(folder / "network.safetensors")
    >>> all(bool((again[name] == params[name]).all()) for name in params)
    True
    """
    path = Path(path)
    form = _form(path)
    try:
        if form == ".npz":
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
        else:
            found = from_safetensors(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except UNREADABLE as error:
        raise CheckpointError(f"{path}: no whole {form} file ({error!s:.100})") from error
    return _checked(path, found)


def _form(path: Path) -> str:
    if path.suffix not in FORMS:
        raise UsageError(f"{path}: expected a name that ends in {' or '.join(FORMS)}")
    return path.suffix


def _checked(path: Path, found: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """The parameters in the order of the layers, as float32."""
    L = len(found) // 2
    names = [f"{kind}{layer}" for layer in range(1, L + 1) for kind in "Wb"]
    if not names or {*names} != found.keys():
        raise CheckpointError(
            f"{path}: expected parameters W1, b1, W2, b2 …, found {', '.join(found) or 'none':.100}"
        )
    n_in = found["W1"].shape[-1] if found["W1"].ndim else 0
    for layer in range(1, L + 1):
        W, b = found[f"W{layer}"], found[f"b{layer}"]
        expected = (*b.shape, n_in)
        if b.ndim not in (1, 2) or W.shape != expected or 0 in expected:
            raise CheckpointError(
                f"{path}: W{layer}, b{layer}: expected shapes (n_{layer}, {n_in}) and "
                f"(n_{layer},), found {W.shape} and {b.shape}"
            )
        for name, array in ((f"W{layer}", W), (f"b{layer}", b)):
            if array.dtype.kind != "f" or not math.isfinite(np.abs(array).sum(dtype=np.float64)):
                raise CheckpointError(f"{path}: {name}: expected finite floating-point numbers")
        n_in = b.shape[-1]
    return {name: np.asarray(found[name], np.float32) for name in names}
