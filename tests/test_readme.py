"""What the README says can be typed, can be typed."""

import re
import shlex
from pathlib import Path

import pytest

from . import shell

README = (shell.ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def script_calls():
    """Every `python scripts/NAME.py …` of the README, once."""
    return sorted(set(re.findall(r"python (scripts/[a-z_]+\.py[^`;\n|)]*)", README)))


def test_there_are_calls_to_check():
    assert len(script_calls()) > 6


@pytest.mark.parametrize("call", script_calls())
def test_every_command_has_its_script_and_its_flags(call):
    path, *words = shlex.split(call.replace("…", ""))
    known = shell.script(Path(path).stem).parser()._option_string_actions
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= known.keys()


def test_every_module_in_the_table_exists():
    table = README.split("Where to find what:")[1].split("Imports run one way")[0]
    names = re.findall(r"`([a-z_/]+(?:\.py|/))`", table)
    assert len(names) > 8
    places = [(shell.ROOT / name, shell.ROOT / "jaxnn" / name) for name in names]
    assert all(place.exists() or below.exists() for place, below in places)


def test_the_library_example_runs(capsys):
    (example,) = (block for block in blocks("python") if "jaxnn.init_params" in block)
    exec(compile(example, "README.md", "exec"), {})
    assert "RIGHT" in capsys.readouterr().out


def test_the_backward_pass_is_quoted_as_it_is():
    (quoted,) = (block for block in blocks("python") if "loss.derivative" in block)
    source = (shell.ROOT / "jaxnn" / "nn" / "mlp.py").read_text()
    tokens = re.sub(r"#.*", "", quoted).split()
    assert " ".join(tokens) in " ".join(source.split())
