"""How this command was called, how it ends, and the command that goes on with its run."""

import os
import shlex
import shutil
import signal
import sys
import traceback
from pathlib import Path

from jaxnn.errors import JaxnnError

USER_ERROR = 2
INTERRUPTED = 130

#: Where the environment names the kind of device.
PLATFORMS = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")

#: Ours that tell how to go on with a run.
SCRIPTS = ("train.py", "sweep.py")


class Stopped(KeyboardInterrupt):
    """A signal has asked for the end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def resuming(folder: Path | str) -> str:
    """The command that goes on with the run in `folder`, as it can be typed where this one was.

    Where that was no script of ours, such as in a notebook, with paths that hold anywhere.
    """
    called = Path(sys.argv[0])
    if called.name in SCRIPTS:
        script, folder = called.with_name("train.py"), Path(folder)
    else:
        script = Path(__file__).resolve().parents[2] / "scripts" / "train.py"
        script = script if script.exists() else Path("scripts/train.py")
        folder = Path(folder).resolve()
    return f"{_python()} {shlex.join([str(script), '--resume', str(folder)])}"


def _python() -> str:
    python = Path(sys.executable)
    found = shutil.which("python")
    if found and Path(found) == python:
        python = Path("python")
    elif python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return shlex.quote(str(python))


def told(error: BaseException) -> int:
    """Say on stderr what has ended a command: in one line, unless it is a fault of ours.

    The exit status, which is never 1: some commands answer with that.
    """
    if isinstance(error, SystemExit) and not isinstance(error.code, str):
        return error.code or 0
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 128 + error.signum if isinstance(error, Stopped) else INTERRUPTED
    if line := _one_line(error):
        print(f"error: {line}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    return USER_ERROR


def _one_line(error: BaseException) -> str | None:
    """What a user can make of an error; None where that is nothing."""
    if isinstance(error, JaxnnError | SystemExit):
        return str(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):  # Python's, jax's
        return "not enough memory: expected more of it, or smaller data, batches or networks"
    if isinstance(error, RuntimeError | AssertionError) and not _has_device():
        named = " and ".join(f"{k}={os.environ[k]}" for k in PLATFORMS if os.environ.get(k))
        return f"{named or 'jax'}: expected a device that jax can use here, found none"
    return None


def _has_device() -> bool:
    """Whether jax can compute, if it has been asked to."""
    jax = sys.modules.get("jax")
    try:
        return jax is None or bool(jax.devices())
    except (RuntimeError, AssertionError):
        return False
