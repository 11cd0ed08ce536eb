"""Contenders as processes of their own, in turn: how they are started, watched and read."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxnn.errors import JaxnnError

SCRIPTS = Path(__file__).parents[2]

#: Left out of the contenders' environment: the first two may choose kernels of OpenBLAS that are
#: made for another processor, the third makes every start compile Python's sources again, and the
#: last two are places that would make no start a cold one.
LEFT_OUT = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "PYTHONDONTWRITEBYTECODE",
    "JAXNN_COMPILATION_CACHE",
    "JAX_COMPILATION_CACHE_DIR",
)


class FailedError(JaxnnError):
    """A contender's process ended with an error; the message is the last line that it wrote."""


class Watched(NamedTuple):
    """A process that has ended: its lines with the second of each, seconds, and peak bytes."""

    lines: list[tuple[float, str]]
    seconds: float
    peak_memory: int

    def first(self, beginning: str) -> float:
        """The second at which a line with this beginning was printed."""
        return next(second for second, line in self.lines if line.strip().startswith(beginning))


def environment(cache: Path | None = None) -> dict[str, str]:
    """The environment of a contender; `cache` is to be the user's cache directory for it."""
    kept = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    paths = os.pathsep.join(map(str, (SCRIPTS.parent, SCRIPTS / "campaigns")))
    caches = {"XDG_CACHE_HOME": str(cache)} if cache else {}
    return {**kept, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", **caches}


def ask(module: str, request: Mapping[str, Any]) -> Any:
    """What `python -m module` answers to `request`: JSON in, JSON out. Raises `FailedError`."""
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(request),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise FailedError(last_line(done.stderr, done.returncode))
    return json.loads(done.stdout.splitlines()[-1])


def watch(command: list[str], cache: Path | None = None) -> Watched:
    """Run a Python script in an empty folder, from process start to its end.

    Raises `FailedError`.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=environment(cache),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        lines = [(time.perf_counter() - begun, line.rstrip()) for line in process.stdout]
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.stdout.close()
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if process.returncode != 0:
            raise FailedError(last_line(errors.read(), process.returncode))
    unit = 1 if sys.platform == "darwin" else 1024
    return Watched(lines, seconds, usage.ru_maxrss * unit)


def last_line(text: str, status: int) -> str:
    """The line of a traceback, or of an error message, that says what was wrong."""
    lines = [line for line in text.splitlines() if line and not line.startswith(("(", " "))]
    return lines[-1] if lines else f"exit status {status}"
