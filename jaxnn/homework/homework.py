"""Somebody's NumPy file in the document's form: run it in a process of its own, and examine it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from jaxnn.errors import JaxnnError
from jaxnn.gradcheck.explanations import sentence
from jaxnn.gradcheck.numpy_activations import FUNCTIONS, Float64Array, softmax
from jaxnn.gradcheck.report import Finding, GradientReport
from jaxnn.homework import child

#: How much of what a file prints is kept.
PRINTED = 2000


class HomeworkError(JaxnnError):
    """The file could not be examined: it does not import, raises, exits or runs too long."""


@dataclass(frozen=True)
class Setting:
    """The problem that a file is given. The sizes are distinct primes: a ratio then names one."""

    m: int = 17
    n_x: int = 11
    n_h: tuple[int, ...] = (7,)
    n_classes: int = 5
    activation: str = "sigmoid"
    mean: bool = True
    l2: float = 0.0
    seed: int = 0
    timeout: float = 10.0

    def point(self) -> tuple[dict[str, Float64Array], Float64Array, Float64Array]:
        """Parameters W_l (n_l, n_{l−1}), b_l (n_l, 1), X (n_x, m) and one-hot Y (C, m)."""
        rng = np.random.default_rng(self.seed)
        sizes = (self.n_x, *self.n_h, self.n_classes)
        params = {}
        for layer, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
            params[f"W{layer}"] = rng.standard_normal((n_out, n_in)) * n_in**-0.5
            params[f"b{layer}"] = 0.3 * rng.standard_normal((n_out, 1))
        X = rng.standard_normal((self.n_x, self.m))
        Y = np.eye(self.n_classes)[:, rng.integers(0, self.n_classes, self.m)]
        return params, X, Y

    def square(self) -> "Setting":
        """The same with all sizes equal: every product fits, whatever is transposed."""
        n = self.n_h[0] if self.n_h else self.n_classes
        hidden = (n,) * len(self.n_h)
        return Setting(
            n, n, hidden, n, self.activation, self.mean, self.l2, self.seed, self.timeout
        )


def check_homework(path: str | Path, setting: Setting | None = None) -> GradientReport:
    """Examine `back_propagate` of a file in the document's form, and its `feed_forward` if any.

    Examples are columns; all arrays are NumPy's, in float64. The file runs in a process of its own,
    at most `setting.timeout` seconds. Raises HomeworkError where there is nothing to examine.
    """
    setting, path = setting or Setting(), Path(path).resolve()
    if not path.is_file():
        raise HomeworkError(f"expected a Python file, found none at {path}")
    try:
        return _without_what_is_there(_examine(path, setting), path)
    except _Form as error:
        code, _, detail = str(error).partition(": ")
        where = "its end" if code == "feed_forward" else "What it returned"
        finding = Finding(code, "", sentence(code, where, detail=detail))
        return GradientReport(False, (), (finding,), title=path.name)
    except _Raised as error:
        return _squared(path, setting, str(error))


def _without_what_is_there(report: GradientReport, path: Path) -> GradientReport:
    """Nobody is told to write a line that the file has: the mistake is in what it is made of."""

    def plain(text: str) -> str:
        return "".join(text.split())

    source = plain(path.read_text(encoding="utf-8", errors="replace"))
    findings = (
        replace(f, right="") if f.right and plain(f.right.partition(" (")[0]) in source else f
        for f in report.findings
    )
    return replace(report, findings=tuple(findings))


class _Raised(HomeworkError):
    """back_propagate itself raised: perhaps over shapes that only fit when all are equal."""


class _Form(HomeworkError):
    """What it returned is no dict of numeric arrays."""


def _squared(path: Path, setting: Setting, message: str) -> GradientReport:
    """The diagnosis with all sizes equal, for a file that raises when they differ."""
    try:
        report = _examine(path, setting.square())
    except HomeworkError:
        raise HomeworkError(message) from None
    note = f"{message}; with all sizes equal it runs, which is how the cause was found"
    findings = report.findings or (
        Finding("shape", "", sentence("shape", "An array", detail=message)),
    )
    return GradientReport(
        False, report.leaves, findings, None, (note, *report.notes), title=report.title
    )


def _examine(path: Path, setting: Setting) -> GradientReport:
    params, X, Y = setting.point()
    with _running(path, setting, params, X, Y) as outputs:
        # Importing jax and finding the truth takes as long as the file takes to run.
        from jaxnn.homework.anatomy import Truth

        truth = Truth.of(setting, params, X, Y)
        returned, printed = outputs()
    notes = [f"the file printed {printed!r}"] if printed else []
    runs: dict[str, dict[str, np.ndarray]] = {"forward": {}, "first": {}, "second": {}, "right": {}}
    for name, value in returned.items():
        run, _, key = name.partition(".")
        runs[run][key] = value
    return truth.report(path.name, runs, notes)


# -- The process -----------------------------------------------------------------------------------


@contextmanager
def _running(
    path: Path,
    setting: Setting,
    params: Mapping[str, Float64Array],
    X: Float64Array,
    Y: Float64Array,
) -> Iterator[Any]:
    """Start the file; yield a function that waits for its outputs and what it printed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arrays: dict[str, Any] = {"X": X, "Y": Y}
        arrays |= {f"params.{k}": v for k, v in params.items()}
        arrays |= {f"cache.{k}": v for k, v in forward(setting, params, X).items()}
        np.savez(folder / "inputs.npz", **arrays)
        process = subprocess.Popen(
            [sys.executable, "-B", child.__file__, name, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        printed: list[bytes] = []
        reader = Thread(target=_read, args=(process, printed), daemon=True)
        reader.start()
        try:
            yield lambda: _outputs(process, reader, folder, printed, path, setting.timeout)
        finally:
            _end(process)
            reader.join(1)


def forward(
    setting: Setting, params: Mapping[str, Float64Array], X: Float64Array
) -> dict[str, Float64Array]:
    """A right cache for a file that has no feed_forward, examples as columns, in NumPy."""
    L, A = len(params) // 2, X
    cache: dict[str, Float64Array] = {}
    for layer in range(1, L + 1):
        Z = params[f"W{layer}"] @ A + params[f"b{layer}"]
        A = FUNCTIONS[setting.activation](Z) if layer < L else softmax(Z, axis=0)
        cache |= {f"Z{layer}": Z, f"A{layer}": A}
    return cache


def _read(process: subprocess.Popen[bytes], printed: list[bytes]) -> None:
    """Drain what the file prints, keep the beginning, and close the pipe at its end."""
    assert process.stdout is not None
    kept = 0
    with process.stdout as pipe:
        while block := pipe.read1(65536):  # type: ignore[attr-defined]
            if kept < PRINTED:
                printed.append(block[: PRINTED - kept])
                kept += len(printed[-1])


def _outputs(
    process: subprocess.Popen[bytes],
    reader: Thread,
    folder: Path,
    printed: list[bytes],
    path: Path,
    timeout: float,
) -> tuple[dict[str, np.ndarray], str]:
    """What back_propagate returned and what was printed, or the one line that says why not."""
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise HomeworkError(
            f"{path.name} was still running after {timeout:g} seconds: importing it must not "
            "train, and back_propagate must return"
        ) from None
    reader.join(1)
    text = b"".join(printed).decode(errors="replace").strip()
    status = folder / "status.json"
    if not status.exists():
        last = text.splitlines()[-1:] or ["it printed nothing"]
        raise HomeworkError(
            f"{path.name} ended its process with status {process.returncode}: {last[0]}"
        )
    message = str(json.loads(status.read_text(encoding="utf-8"))["message"])
    if message.startswith(("structure: ", "dtype: ", "feed_forward: ")):
        raise _Form(message)
    if message:
        kind = _Raised if message.startswith("back_propagate raised") else HomeworkError
        raise kind(f"{path.name}: {message}")
    with np.load(folder / "outputs.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}, text


def _end(process: subprocess.Popen[bytes]) -> None:
    """The process and whatever it started."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except ProcessLookupError:
        pass
    process.wait()
