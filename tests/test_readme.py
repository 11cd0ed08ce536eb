"""What the README and the documents say can be typed, opened and found, can be."""

import ast
import inspect
import re
import shlex
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from jaxnn.__main__ import COMMANDS

from . import shell
from .faults.correct import CORRECT
from .faults.library import FAULTS

ROOT = shell.ROOT
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}

#: The derivation's Python are claims, which tests/test_derivation.py holds against the code.
CLAIMS = "docs/derivation.md"

FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
QUOTED = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"(?<![\w/.-])(?:\.ci|docs|jaxnn|scripts|tests)/[\w./*-]*")
TEST = re.compile(r"`((?:\w+/)*test_\w+\.py)(?:::(\w+))?`")
LINK = re.compile(r"\[[^]]*\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
CALL = re.compile(r"python (scripts/[\w/]+\.py)([^`;|)\n]*)")
INSTALLED = re.compile(r"`jaxnn ([a-z]\w*)")

EACH_PAGE = pytest.mark.parametrize("page", TEXTS)


def blocks(page, *languages):
    return [code for language, code in FENCE.findall(TEXTS[page]) if language in languages]


def quoted(page):
    """What stands between backticks outside of fences."""
    return QUOTED.findall(FENCE.sub("", TEXTS[page]))


# ------------------------------------------------------------------------------- what can be opened


@EACH_PAGE
def test_every_path_exists(page):
    named = "\n".join([*quoted(page), *blocks(page, "sh", "console")])
    missing = [path for path in PATH.findall(named) if not list(ROOT.glob(path.rstrip("./")))]
    assert missing == []


@EACH_PAGE
def test_every_link_within_the_project_leads_somewhere(page):
    for path, heading in LINK.findall(FENCE.sub("", TEXTS[page])):
        if path.startswith("https://"):
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), path
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]
            assert heading in anchors


@EACH_PAGE
def test_every_test_exists(page):
    for name, function in TEST.findall(TEXTS[page]):
        assert (ROOT / name).exists(), name
        if function:
            assert function in functions_in(ROOT / name), f"{name}::{function}"


@cache
def functions_in(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_readme_leads_to_every_page():
    assert {path for path, _ in LINK.findall(TEXTS["README.md"])} >= {*TEXTS} - {"README.md"}


def test_the_readme_says_where_everything_is():
    """Every folder of the package, and every module that is in none, has its line."""
    table = TEXTS["README.md"].split("## Where to find what")[1]
    named = {path for entry in QUOTED.findall(table) for path in PATH.findall(entry)}
    modules = (
        module
        for module in (ROOT / "jaxnn").iterdir()
        if module.suffix == ".py" or (module / "__init__.py").exists()
    )
    here = {f"jaxnn/{m.name}" + "/" * m.is_dir() for m in modules if m.name[:2] != "__"}
    assert here <= named
    for folder, files in re.findall(r"^\| `(jaxnn/\w+/)` \| (.*) \|$", table, re.MULTILINE):
        listed = {name for name in QUOTED.findall(files) if name.endswith(".py")}
        assert listed <= {file.name for file in (ROOT / folder).iterdir()}, folder


# -------------------------------------------------------------------------------- what can be typed


def calls():
    """Every `python scripts/NAME.py …`, once."""
    return sorted({call for text in TEXTS.values() for call in CALL.findall(text)})


@cache
def parser(path):
    return shell.script(Path(path).stem).parser()


def test_there_are_calls_to_check():
    assert len(calls()) >= 40


@pytest.mark.parametrize(("path", "words"), calls(), ids=" ".join)
def test_every_command_is_understood(path, words):
    """Its flags and their values, with 0 for a variable of the shell; nothing is run."""
    argv = shlex.split(re.sub(r"…|>.*", "", words.replace("$seed", "0")))
    if argv and argv[-1] != "--help":
        parser(path).parse_args(argv)


@EACH_PAGE
def test_every_installed_command_exists(page):
    assert {*INSTALLED.findall(TEXTS[page])} <= COMMANDS.keys()


@EACH_PAGE
def test_every_flag_alone_is_one_of_a_command(page):
    flags = {flag for entry in quoted(page) for flag in re.findall(r"^--[\w-]+", entry)}
    known = {
        flag.replace("-", "_")
        for script in (*(ROOT / "scripts").glob("*.py"), *(ROOT / "scripts/campaigns").glob("*.py"))
        if script.stem in shell.COMMANDS or "def parser(" in script.read_text(encoding="utf-8")
        for flag in parser(script)._option_string_actions
    }
    assert {flag.replace("-", "_") for flag in flags} <= known


def test_the_commands_to_start_with():
    """Continuous integration takes the tests' command from here."""
    train, tests = (line for line in blocks("README.md", "sh") if line.startswith("python3"))
    assert train.endswith(" .venv/bin/python scripts/train.py\n")
    assert tests.endswith(" .venv/bin/python -m pytest -n auto\n")


# ----------------------------------------------------------------------------------- what is quoted


@EACH_PAGE
def test_python_is_quoted_as_it_is_or_runs(page, capsys):
    """Tests that a block defines are called."""
    if page == CLAIMS:
        return
    for code in blocks(page, "python"):
        if is_in_the_source(code):
            continue
        names = {}
        exec(compile(code, page, "exec"), names)
        for name, function in names.items():
            if name.startswith("test_"):
                function()
    assert "WRONG" not in capsys.readouterr().out


def is_in_the_source(code):
    tokens = " ".join(re.sub(r"#.*", "", code).split())
    source = inspect.getsource(import_module(next(mlp())))
    return tokens in " ".join(source.split())


def mlp():
    """The module of the forward and the backward pass, as the README names it."""
    for path in re.findall(r"`(jaxnn/[\w/]*mlp)\.py`", TEXTS["README.md"]):
        yield path.replace("/", ".")


def test_the_backward_pass_is_quoted_and_the_library_example_runs(capsys):
    """The test above would not miss them."""
    backward, library = (
        next(code for code in blocks("README.md", "python") if word in code)
        for word in ("loss.derivative", "jaxnn.init_params")
    )
    assert is_in_the_source(backward)
    assert not is_in_the_source(library)
    exec(compile(library, "README.md", "exec"), {})
    assert "RIGHT" in capsys.readouterr().out


def test_figures_that_the_code_knows():
    equations = TEXTS[CLAIMS].count("\\tag{")
    assert f"{equations} numbered equations" in TEXTS["README.md"]
    assert f"| {equations} equations" in TEXTS["docs/results.md"]
    for page in ("README.md", "docs/doctor.md", "docs/results.md"):
        (found,) = re.findall(r"(\d+) planted faults and (\d+) correct variants", TEXTS[page])
        assert int(found[0]) <= len(FAULTS)
        assert int(found[1]) <= len(CORRECT)
