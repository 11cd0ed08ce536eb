"""Imports run one way, from the commands down to the mathematics, and `import jaxnn` is light."""

import ast
import subprocess
import sys

import pytest

from . import commands

PACKAGE = commands.ROOT / "jaxnn"

#: What each of these may import, of this project: nothing that stands above it.
BELOW = {
    "activations": set(),
    "initialisation": set(),
    "regularisation": set(),
    "losses": set(),
    "shuffle": set(),
    "errors": set(),
    "memory": set(),
    "config": set(),
    "files": set(),
    "optimisers": set(),
    "mlp": {"activations", "initialisation", "losses", "regularisation"},
    "augmentation": set(),
    "committee": {"activations", "losses", "mlp"},
    "training": {
        "activations",
        "augmentation",
        "committee",
        "losses",
        "mlp",
        "optimisers",
        "regularisation",
        "shuffle",
    },
    "plan": {
        "activations",
        "augmentation",
        "config",
        "initialisation",
        "mlp",
        "optimisers",
        "training",
    },
    "data": {"data", "errors", "files", "memory"},
    "compilation": set(),
    "fit": {
        "activations",
        "compilation",
        "config",
        "data",
        "errors",
        "mlp",
        "plan",
        "shuffle",
        "training",
    },
    "cluster": {"cli", "errors", "output", "parallel"},
    "parallel": {"errors", "training"},
    "feeding": {
        "compilation",
        "config",
        "data",
        "errors",
        "fit",
        "memory",
        "mlp",
        "parallel",
        "plan",
        "training",
    },
    "gradcheck": {"activations", "compilation", "errors", "gradcheck", "losses", "mlp"},
}


def imported(path):
    """The modules of this project that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "jaxnn":
            found |= {f"jaxnn.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return {name.split(".")[1] for name in found if name.startswith("jaxnn.")}


@pytest.mark.parametrize("name", BELOW)
def test_a_module_imports_nothing_from_above(name):
    module = PACKAGE / f"{name}.py"
    files = [module] if module.exists() else sorted((PACKAGE / name).glob("*.py"))
    assert files
    assert set().union(*map(imported, files)) <= BELOW[name]


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
        ("import jaxnn.training", {"sklearn", "matplotlib", "rich", "h5py"}),
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
