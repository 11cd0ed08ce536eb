"""Running a script of the project: in this process for speed, or as a user does."""

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from jaxnn.commands import cli

ROOT = Path(__file__).parents[1]

#: The module in `jaxnn.commands` that a script runs.
COMMANDS = {
    **{
        name: name
        for name in ("train", "sweep", "evaluate", "predict", "report", "explore", "compare")
    },
    "check_gradients": "check",
}


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


def path(name):
    """The file of a script: a command, or a campaign."""
    return ROOT / "scripts" / ("" if name in COMMANDS else "campaigns") / f"{name}.py"


def script(name):
    """The module with the script's `main`."""
    if name in COMMANDS:
        return importlib.import_module(f"jaxnn.commands.{COMMANDS[name]}")
    spec = importlib.util.spec_from_file_location(name, path(name))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def here(monkeypatch, capsys, name, *argv):
    """Run the script in this process, from `sys.argv` to its exit status."""
    monkeypatch.setattr(sys, "argv", [f"scripts/{name}.py", *map(str, argv)])
    with pytest.raises(SystemExit) as exit_:
        cli.run(script(name).main)
    return Outcome(exit_.value.code, *capsys.readouterr())


def start(name, *argv, cwd, **environment):
    """Start the script as a process of its own, outside the repository's folder."""
    return subprocess.Popen(
        [sys.executable, path(name), *map(str, argv)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(name, *argv, cwd, **environment):
    """`start`, and wait for the end."""
    process = start(name, *argv, cwd=cwd, **environment)
    out, err = process.communicate(timeout=120)
    return Outcome(process.returncode, out, err)
