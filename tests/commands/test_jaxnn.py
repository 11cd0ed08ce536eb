"""The installed command `jaxnn`: the scripts' commands by other names, in texts as well."""

import os
import pkgutil
import re
import shutil
import signal
import subprocess
import sys
import venv
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import jaxnn.commands
from jaxnn import __main__ as jaxnn_command
from jaxnn.io import command

from .. import shell

INSTALLED = "/env/bin/jaxnn"
MODULE = "/env/lib/site-packages/jaxnn/__main__.py"

HEAVY = {"jax", "numpy", "rich", "sklearn", "PIL", "matplotlib", "h5py"}


@pytest.fixture
def jaxnn_(monkeypatch, capsys):
    """Run `jaxnn` in this process with these arguments."""

    def call(*argv, called=INSTALLED):
        monkeypatch.setattr(sys, "argv", [called, *map(str, argv)])
        with pytest.raises(SystemExit) as exit_:
            jaxnn_command.main()
        return shell.Outcome(exit_.value.code, *capsys.readouterr())

    return call


def test_every_command_is_there_under_both_names():
    modules = {module.name for module in pkgutil.iter_modules(jaxnn.commands.__path__)}
    commands = {
        name for name in modules if hasattr(import_module(f"jaxnn.commands.{name}"), "main")
    }
    scripts = {path.name for path in (shell.ROOT / "scripts").glob("*.py")}
    assert jaxnn_command.COMMANDS.keys() == command.SCRIPTS.keys() == commands
    assert {*command.SCRIPTS.values()} == scripts


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_teaches(jaxnn_, arguments):
    outcome = jaxnn_(*arguments)
    assert outcome.status == 0
    assert outcome.out.startswith("usage: jaxnn COMMAND")
    for name in jaxnn_command.COMMANDS:
        assert f"\n  {name} " in outcome.out
    calls = re.findall(r"jaxnn (\w+)", outcome.out)
    assert {*calls} - {"COMMAND"} <= jaxnn_command.COMMANDS.keys()


@pytest.mark.parametrize("arguments", [[], *([name] for name in jaxnn_command.COMMANDS)])
def test_help_needs_neither_data_nor_jax(arguments, tmp_path):
    code = (
        "import sys\n"
        f"sys.argv = [{INSTALLED!r}, *{arguments!r}, '--help']\n"
        "from jaxnn.__main__ import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        f"    assert not {HEAVY!r} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_version(jaxnn_):
    assert jaxnn_("--version").out == f"jaxnn {jaxnn.__version__}\n"


@pytest.mark.parametrize("word", ["tain", "--lr", "", "train.py"])
def test_another_command_is_refused(jaxnn_, word):
    outcome = jaxnn_(word)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("error: expected a command: train, ")
    assert outcome.err.count("\n") == 1


def test_a_mistyped_command_is_guessed(jaxnn_):
    assert jaxnn_("tain").err.endswith("found tain; did you mean train?\n")


@pytest.mark.parametrize(
    ("called", "named"),
    [
        (INSTALLED, "jaxnn {0}"),
        (r"jaxnn.exe", "jaxnn {0}"),
        (MODULE, "python -m jaxnn {0}"),
        (None, "python scripts/{1}"),
    ],
    ids=["installed", "on Windows", "module", "script"],
)
class TestAsCalled:
    @pytest.mark.parametrize(("name", "script"), command.SCRIPTS.items())
    def test_help_names_commands_as_this_one_was_called(
        self, called, named, name, script, monkeypatch, capsys
    ):
        """In its examples, its first line and its last; and no other way anywhere."""
        monkeypatch.setattr(sys, "argv", [called or f"scripts/{script}"])
        with pytest.raises(SystemExit):
            import_module(f"jaxnn.commands.{name}").main(["--help"])
        out = capsys.readouterr().out
        assert out.startswith(f"usage: {named.format(name, script)} ")
        assert f"\n  {named.format(name, script)} " in out.split("examples:")[1]
        for pair in command.SCRIPTS.items():
            out = out.replace(named.format(*pair), "")
        assert not [word for word in ("jaxnn", *command.SCRIPTS.values()) if word in out]

    def test_so_does_a_refusal(self, called, named, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", [called or "scripts/train.py"])
        with pytest.raises(SystemExit):
            import_module("jaxnn.commands.train").main(["--lr", "x"])
        typed = named.format("train", "train.py")
        assert f"(`{typed} --help` explains every flag)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("on_path", "called", "typed"),
    [
        ("env", "{}/env/jaxnn", "jaxnn"),
        ("other", "{}/env/jaxnn", "env/jaxnn"),
        ("other", "env/jaxnn", "env/jaxnn"),
        ("other", "../elsewhere/jaxnn", "../elsewhere/jaxnn"),
    ],
)
def test_how_to_go_on_is_typed_as_the_installed_command_was(
    tmp_path, monkeypatch, on_path, called, typed
):
    for program in (tmp_path / "env/jaxnn", tmp_path / "other/jaxnn"):
        program.parent.mkdir()
        program.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / on_path))
    monkeypatch.setattr(sys, "argv", [called.format(tmp_path), "sweep", "--lr", "1"])
    assert command.resuming("my run") == f"{typed} train --resume 'my run'"


def test_without_a_checkout_a_notebook_goes_on_with_the_module(tmp_path, monkeypatch):
    """Where the package was installed there is no scripts/train.py."""
    monkeypatch.setattr(sys, "argv", ["/x/ipykernel_launcher.py"])
    monkeypatch.setattr(command, "__file__", str(tmp_path / "site/jaxnn/io/command.py"))
    told = command.resuming(tmp_path)
    assert told.endswith(f" -m jaxnn train --resume {tmp_path}")


@pytest.mark.slow
def test_an_interruption_ends_it_as_it_does_the_script(tmp_path):
    """It saves, says how to go on in the words that were used, and has the signal's status."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "jaxnn", "train", "--data", "digits"),
            *("--epochs", "100000", "--out", "run"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(shell.ROOT), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    next(line for line in process.stdout if line.startswith("epoch"))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out.rstrip().endswith(" -m jaxnn train --resume run")


def test_a_users_mistake_is_one_line(jaxnn_, tmp_path):
    outcome = jaxnn_("evaluate", tmp_path / "nowhere")
    assert outcome.status == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1


@pytest.mark.slow
def test_the_wheel_works_in_an_environment_without_a_checkout(tmp_path):
    """Built, installed and used: all that it needs is in it. What it depends on is borrowed."""
    source = tmp_path / "source"
    source.mkdir()
    shutil.copytree(shell.ROOT / "jaxnn", source / "jaxnn")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(shell.ROOT / name, source)
    venv.create(tmp_path / "env", with_pip=True)
    programs = tmp_path / "env" / ("Scripts" if sys.platform == "win32" else "bin")

    def call(program, *argv):
        done = subprocess.run(
            [programs / program, *argv],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", str(source))
    (wheel,) = (tmp_path / "dist").iterdir()
    call("pip", "install", "--quiet", "--no-deps", str(wheel))
    (packages,) = (tmp_path / "env").glob("**/site-packages")
    borrowed = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "borrowed.pth").write_text("\n".join(borrowed))

    where = call("python", "-c", "import jaxnn; print(jaxnn.__file__)")
    assert Path(where.strip()).is_relative_to(packages)
    assert (packages / "jaxnn" / "py.typed").exists()
    assert call("jaxnn", "--version") == f"jaxnn {jaxnn.__version__}\n"
    trained = call("jaxnn", "train", "--data", "digits", "--epochs", "2", "--out", "run")
    assert "results in run" in trained
    assert "identical, to the bit" in call("jaxnn", "evaluate", "run")
    np.save(tmp_path / "one.npy", load_digits().images[0] / 16)
    assert "one.npy" in call("jaxnn", "predict", "run", "one.npy")
    (tmp_path / "right.py").write_text(RIGHT)
    assert "RIGHT" in call("jaxnn", "check", "right.py")


RIGHT = """\
import numpy as np


def back_propagate(X, Y, params, cache, m_batch):
    dZ2 = cache["A2"] - Y
    dZ1 = params["W2"].T @ dZ2 * cache["A1"] * (1 - cache["A1"])
    dW2, db2 = dZ2 @ cache["A1"].T / m_batch, dZ2.sum(axis=1, keepdims=True) / m_batch
    dW1, db1 = dZ1 @ X.T / m_batch, dZ1.sum(axis=1, keepdims=True) / m_batch
    return {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2}
"""
