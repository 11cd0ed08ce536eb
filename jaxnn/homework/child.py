"""Runs in a process of its own, with NumPy alone: imports a homework file and calls its functions.

    python child.py FOLDER FILE

FOLDER/inputs.npz holds X, Y, every parameter ("params.W1") and a right cache ("cache.Z1"). What the
file returned goes to FOLDER/outputs.npz, what happened to FOLDER/status.json.
"""

import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np


class Stop(Exception):
    """Something about the homework that the parent has to be told."""


def load(path: Path) -> Any:
    """The file as a module, as if it were imported: `if __name__ == "__main__"` does not run."""
    sys.argv, sys.path[0] = [str(path)], str(path.parent)
    spec = importlib.util.spec_from_file_location("homework", path)
    if spec is None or spec.loader is None:
        raise Stop("the file is no Python file: its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["homework"] = module
    guarded("importing it", path, lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
    return module


def guarded(stage: str, path: Path, action: Callable[[], Any]) -> Any:
    """The action's result; whatever it raises, exit included, is told in one line."""
    try:
        return action()
    except SystemExit as error:
        raise Stop(f"{stage} ended the program with exit({error.code})") from None
    except BaseException as error:
        lines = [
            f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)
        ]
        line = (
            getattr(error, "lineno", None)
            if isinstance(error, SyntaxError)
            else (lines or [None])[-1]
        )
        where = f"line {line}: " if line else ""
        told = (str(error).splitlines() or [""])[0]
        raise Stop(f"{stage} raised {where}{type(error).__name__}: {told}") from None


def arguments(function: Callable[..., Any], known: dict[str, Any], order: list[str]) -> list[Any]:
    """Arguments by their names where all are known, else in the document's order."""
    try:
        names = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        names = order
    if all(name in known for name in names):
        return [known[name] for name in names]
    return [known[name] for name in order[: len(names)]]


def copied(known: dict[str, Any]) -> dict[str, Any]:
    """Fresh arrays: a function that changes its arguments spoils no later call."""
    return {
        name: {k: v.copy() if hasattr(v, "copy") else v for k, v in value.items()}
        if isinstance(value, dict)
        else value.copy()
        if isinstance(value, np.ndarray)
        else value
        for name, value in known.items()
    }


def table(result: Any, what: str, stage: str) -> dict[str, np.ndarray]:
    """A returned dict of numeric arrays."""
    if not isinstance(result, dict):
        code = "feed_forward" if stage == "feed_forward" else "structure"
        raise Stop(f"{code}: {stage} returned {type(result).__name__}, expected a dict of {what}")
    arrays = {}
    for name, value in result.items():
        try:
            array = np.asarray(value)
        except ValueError:
            array = np.asarray(None)
        if array.dtype.kind in "biufc":
            arrays[str(name)] = array
        elif str(name).startswith("d"):
            raise Stop(
                f"dtype: {stage} returned {name} as {type(value).__name__} of dtype {array.dtype}"
            )
    return arrays


def examine(folder: Path, path: Path) -> dict[str, np.ndarray]:
    """Call feed_forward once and back_propagate twice; also once with the right cache."""
    inputs = np.load(folder / "inputs.npz", allow_pickle=False)
    groups: dict[str, dict[str, np.ndarray]] = {"params": {}, "cache": {}}
    for name in inputs.files:
        group, _, key = name.partition(".")
        if key:
            groups[group][key] = inputs[name]
    X, Y = inputs["X"], inputs["Y"]
    known: dict[str, Any] = {"X": X, "Y": Y, **groups, "m_batch": X.shape[1], "m": X.shape[1]}
    module = load(path)
    if not callable(getattr(module, "back_propagate", None)):
        raise Stop("it defines no function back_propagate(X, Y, params, cache, m_batch)")
    module.m_batch = X.shape[1]
    outputs: dict[str, np.ndarray] = {}
    forward = getattr(module, "feed_forward", None)
    own = known
    if callable(forward):
        fresh = arguments(forward, copied(known), ["X", "params"])
        cache = guarded("feed_forward", path, lambda: forward(*fresh))
        outputs |= {f"forward.{k}": v for k, v in table(cache, "Z1, A1 …", "feed_forward").items()}
        own = {**known, "cache": cache}
    order = ["X", "Y", "params", "cache", "m_batch"]
    for run, values in (("first", own), ("second", own), ("right", known)):
        fresh = arguments(module.back_propagate, copied(values), order)
        try:
            result = guarded("back_propagate", path, partial(module.back_propagate, *fresh))
        except Stop:
            if run == "right":
                continue  # It wants more of a cache than ours has; its own will do.
            raise
        outputs |= {
            f"{run}.{k}": v for k, v in table(result, "dW1, db1 …", "back_propagate").items()
        }
    return outputs


def main() -> None:
    """Write what was found; a message in status.json where there is nothing to compare."""
    folder, path = Path(sys.argv[1]), Path(sys.argv[2])
    status = {"message": ""}
    try:
        with np.errstate(all="ignore"):
            np.savez(folder / "outputs.npz", **examine(folder, path))  # type: ignore[arg-type]
    except Stop as stop:
        status["message"] = str(stop)
    (folder / "status.json").write_text(json.dumps(status), encoding="utf-8")


if __name__ == "__main__":
    main()
