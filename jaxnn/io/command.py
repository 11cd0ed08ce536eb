"""How this command was called, how it ends, and the command that goes on with its run."""

import os
import re
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

#: Those whose file in a checkout has their name.
COMMANDS = ("train", "predict", "evaluate", "report", "explore", "compare", "sweep")

#: The file under scripts/ in a checkout, by the command that it runs.
SCRIPTS = {
    **{name: f"{name}.py" for name in COMMANDS},
    "check": "check_gradients.py",
}


class Stopped(KeyboardInterrupt):
    """A signal has asked for the end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def _installed() -> str | None:
    """How the installed command was called; None where it was a script, or no command of ours."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py" and called.parent.name == "jaxnn":
        return "python -m jaxnn"
    return "jaxnn" if called.stem == "jaxnn" else None


def as_called(name: str = "") -> str:
    """The command `name` as this one was called: `jaxnn train`, `python scripts/train.py`.

    Without a name, the program that has them all.
    """
    installed = _installed()
    if not name:
        return installed or "jaxnn"
    return f"{installed} {name}" if installed else f"python scripts/{SCRIPTS[name]}"


def typed() -> str | None:
    """This command as it was typed, but for the folder of its program; None if it is not ours."""
    called, words = Path(sys.argv[0]), sys.argv[1:]
    if installed := _installed():
        return f"{installed} {shlex.join(words)}"
    if called.name in SCRIPTS.values():
        return f"python scripts/{called.name} {shlex.join(words)}".strip()
    return None


def told_as_called(text: str) -> str:
    """`text`, which names commands as scripts, with each as this one was called."""
    for name, script in SCRIPTS.items():
        text = text.replace(f"python scripts/{script}", as_called(name))
    return text


def resuming(folder: Path | str) -> str:
    """The command that goes on with the run in `folder`, as it can be typed where this one was.

    Where that was no command of ours, such as in a notebook, with paths that hold anywhere.
    """
    called, installed, python = Path(sys.argv[0]), _installed(), _typed(sys.executable, "python")
    if installed == "jaxnn":
        train = [_typed(sys.argv[0], "jaxnn"), "train"]
    elif installed:
        train = [python, "-m", "jaxnn", "train"]
    elif called.name in SCRIPTS.values():
        train = [python, str(called.with_name(SCRIPTS["train"]))]
    else:
        folder = Path(folder).resolve()
        script = Path(__file__).resolve().parents[2] / "scripts" / SCRIPTS["train"]
        train = [python, str(script)] if script.exists() else [python, "-m", "jaxnn", "train"]
    return shlex.join([*train, "--resume", str(folder)])


def _typed(program: str, name: str) -> str:
    """A program by its name where that finds it, by its path from here, or as a whole."""
    path, found = Path(program), shutil.which(name)
    if found and Path(found).absolute() == path.absolute():
        return name
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


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


def with_flags(text: str) -> str:
    """The settings in a text, which has them in backticks, as flags: `lr` is --lr."""
    return re.sub(r"`([a-z][a-z_0-9]*)`", r"--\1", text)


def _one_line(error: BaseException) -> str | None:
    """What a user can make of an error; None where that is nothing."""
    if isinstance(error, JaxnnError):
        return with_flags(str(error)) if error.names_settings else str(error)
    if isinstance(error, SystemExit):
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
