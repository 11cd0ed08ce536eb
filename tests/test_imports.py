"""Imports run one way, from the commands down to the mathematics, and `import jaxnn` is light."""

import ast
import re
import subprocess
import sys

import pytest

from . import shell

PACKAGE = shell.ROOT / "jaxnn"

#: The storeys of the house, from the ground up: each imports what lies below it and nothing above.
STOREYS = (
    "errors",
    "compilation",
    "io",
    "nn",
    "data",
    "gradcheck",
    "homework",
    "training",
    "runs",
    "report",
    "estimator",
    "commands",
)


def storey(dotted):
    """The place of jaxnn.storey.… among STOREYS."""
    return STOREYS.index(dotted.split(".")[1])


def imported(path):
    """The modules of this project that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("jaxnn."))
        elif isinstance(node, ast.ImportFrom) and node.module == "jaxnn":
            yield from (f"jaxnn.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxnn."):
            yield node.module


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_nothing_from_above(path):
    own = path.relative_to(PACKAGE).with_suffix("").parts
    height = len(STOREYS) if len(own) == 1 and own[0].startswith("__") else STOREYS.index(own[0])
    assert [name for name in imported(path) if storey(name) > height] == []


@pytest.mark.parametrize("name", [name for name in STOREYS if (PACKAGE / name).is_dir()])
def test_a_package_says_its_idea_in_one_line(name):
    told = ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text()))
    assert told is not None
    assert told.splitlines()[0].endswith(".")


def test_no_module_imports_a_script_or_a_test():
    for path in PACKAGE.rglob("*.py"):
        roots = {
            node.module.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0
        }
        assert not roots & {"scripts", "tests"}, path


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import jaxnn", {"jax", "numpy", "sklearn", "matplotlib", "rich", "h5py"}),
        ("import jaxnn.data", {"jax", "sklearn", "matplotlib", "h5py"}),
        ("import jaxnn.training.step", {"sklearn", "matplotlib", "rich", "h5py"}),
    ],
)
def test_what_is_not_needed_is_not_imported(statement, heavy):
    code = f"import sys; {statement}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_public_name_is_there():
    import jaxnn

    assert all(getattr(jaxnn, name) for name in jaxnn.__all__)
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = jaxnn.nothing_of_that_name


def texts(path):
    """The texts that a module has, but for what documents it."""
    tree = ast.parse(path.read_text())
    told = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


#: What is about commands: the package of them, their program, and how one was called.
ABOUT_COMMANDS = {*(PACKAGE / "commands").rglob("*.py")} | {
    PACKAGE / "__main__.py",
    PACKAGE / "io" / "command.py",
}


@pytest.mark.parametrize(
    "path", sorted({*MODULES} - ABOUT_COMMANDS), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_the_library_names_settings_and_no_flags(path):
    """In backticks, which the commands show as flags: whoever calls it from Python has no flags."""
    assert [text for text in texts(path) if re.search(r"--[a-z]", text)] == []
