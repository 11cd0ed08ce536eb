"""docs/derivation.md is executed: each equation holds for what the code computes.

Under an equation stand the same equation in Python, a function that computes it, and a test.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from ..formula import check, latex, squeezed, wrong_versions
from ..symbols import symbols

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "derivation.md").read_text(encoding="utf-8")

FENCE = re.compile(r"^```math\n(.*?)^```\n\n```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
TAG = re.compile(r"\\tag\{(\d+)\}")
LINES = r"((?:(?!\n\n).)*?)"
CREDIT = re.compile(
    rf"^\((\d+)\) computed\sby {LINES},\sverified\sby\s{LINES}\.\n\n", re.DOTALL | re.MULTILINE
)
FUNCTION = re.compile(r"`(jaxnn(?:\.\w+)+)`")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")

EQUATIONS = {int(TAG.findall(fence)[0]): (fence, python) for fence, python in FENCE.findall(TEXT)}
EVERY_EQUATION = pytest.mark.parametrize("number", EQUATIONS)


def faults(text: str) -> Iterator[str]:
    """What is wrong with a derivation, in one line each."""
    yield from faulty_numbers(text)
    yield from faulty_credits(text)
    yield from (f"no function {name}" for name in FUNCTION.findall(text) if not exists(name))
    for path, name in TEST.findall(text):
        if functions_in(path)[name] != 1:
            yield f"{functions_in(path)[name]} tests {path}::{name}"
    yield from unrendered_mathematics(text)


def faulty_numbers(text: str) -> Iterator[str]:
    numbers = [TAG.findall(fence) for fence, _ in FENCE.findall(text)]
    expected = [[str(n)] for n in range(1, len(numbers) + 1)]
    for found, wanted in zip(numbers, expected, strict=True):
        if found != wanted:
            yield f"numbered {found} where {wanted} was due"
    for reference in re.findall(r"\((\d+)\)", FENCE.sub("", text)):
        if [reference] not in expected:
            yield f"no equation ({reference})"


def faulty_credits(text: str) -> Iterator[str]:
    """The paragraph after an equation carries its number, a function and a test."""
    for fence in FENCE.finditer(text):
        numbers = TAG.findall(fence[1])
        credit = CREDIT.match(text, fence.end() + 1)
        if credit is None or [credit[1]] != numbers:
            yield f"no credit under {numbers}"
        elif not FUNCTION.search(credit[2]):
            yield f"no function under {numbers}"
        elif not TEST.search(credit[3]):
            yield f"no test under {numbers}"


def unrendered_mathematics(text: str) -> Iterator[str]:
    """Only fences and $`…`$ are safe from Markdown: nothing else may hold a dollar or a fence."""
    prose = re.sub(r"\$`[^`\n]+`\$", "", FENCE.sub("", text))
    yield from (f"stray {mark}" for mark in ("$", "```") if mark in prose)


def exists(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    try:
        return hasattr(import_module(module), attribute)
    except ModuleNotFoundError:
        return False


@cache
def functions_in(path: str) -> Counter[str]:
    """How often each test is defined; one that is defined twice is shadowed by its twin."""
    if not (ROOT / path).is_file():
        return Counter()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = (node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    return Counter(name for name in names if name.startswith("test_"))


def test_the_derivation_is_sound() -> None:
    assert list(faults(TEXT)) == []


def test_every_equation_was_found() -> None:
    """The patterns above miss none: as many fences, numbers and credits as the text has."""
    counts = {TEXT.count(mark) for mark in ("```math", "```python", "\\tag{")}
    assert counts == {len(CREDIT.findall(TEXT))} == {len(EQUATIONS)}
    assert len(EQUATIONS) >= 50


@EVERY_EQUATION
def test_an_equation_holds(number: int) -> None:
    """Both sides have the same value, worked out in NumPy from what the code computes."""
    check(EQUATIONS[number][1], symbols(number))


@EVERY_EQUATION
def test_an_equation_and_its_python_are_the_same(number: int) -> None:
    """The Python, printed as mathematics, but for spaces and the size of brackets."""
    mathematics, python = EQUATIONS[number]
    assert squeezed(mathematics) == squeezed(latex(python))


@pytest.mark.sampled(10)
@EVERY_EQUATION
def test_a_wrong_equation_is_noticed(number: int) -> None:
    """Another sign, factor, index or transposition: in Python it does not hold, and as mathematics
    it is not what the Python says."""
    mathematics, python = EQUATIONS[number]
    wrong = list(wrong_versions(python))
    assert wrong
    unnoticed = [version for version in wrong if holds(version, number)]
    assert unnoticed == [], f"{len(unnoticed)} of {len(wrong)}"
    assert all(squeezed(latex(version)) != squeezed(mathematics) for version in wrong)


def holds(python: str, number: int) -> bool:
    try:
        check(python, symbols(number))
    except Exception:  # another shape, a layer that is not there, a function of the wrong thing
        return False
    return True


BROKEN = {
    "a stale function": (
        "`jaxnn.nn.mlp.back_propagate`, v",
        "`jaxnn.nn.mlp.backprop`, v",
        "no function j",
    ),
    "a stale module": (
        "`jaxnn.nn.losses.softmax`",
        "`jaxnn.loss.softmax`",
        "no function jaxnn.loss.",
    ),
    "a stale test": ("::test_dW`", "::test_dW_l`", "0 tests tests/nn/test_equations.py::test_dW_l"),
    "a stale test in prose": ("::test_back_propagate_reads_the_cache`", "::test_reads`", "0 tests"),
    "a stale file": (
        "tests/nn/test_equations.py::test_db`",
        "tests/nn/test_eq.py::test_db`",
        "0 tests",
    ),
    "a helper, no test": (
        "::test_db`",
        "::problem`",
        "0 tests tests/nn/test_equations.py::problem",
    ),
    "a gap": ("\\tag{18}", "\\tag{31}", "numbered ['31'] where ['18'] was due"),
    "a twin": ("\\tag{18}", "\\tag{17}", "numbered ['17'] where ['18'] was due"),
    "no number": ("\\tag{18}", "", "numbered [] where ['18'] was due"),
    "a lost reference": ("with (8)", "with (88)", "no equation (88)"),
    "another equation's credit": ("\n(19) computed", "\n(18) computed", "no credit under ['19']"),
    "no credit": ("\n(19) computed by", "\nComputed by", "no credit under ['19']"),
    "no function": (
        "(13) computed by `jaxnn.nn.mlp.back_propagate`",
        "(13) computed by hand",
        "no fun",
    ),
    "no test": (
        "verified by `tests/nn/test_equations.py::test_dA`",
        "verified by hand",
        "no test under",
    ),
    "a dollar sign": ("$`dZ_{l+1}`$", "$dZ_{l+1}$", "stray $"),
    "an open fence": ("\\tag{50}\n```\n", "\\tag{50}\n", "stray ```"),
    "a fence open in between": ("\\tag{30}\n```\n", "\\tag{30}\n", "numbered ['30', '31']"),
}


@pytest.mark.parametrize(("old", "new", "fault"), BROKEN.values(), ids=BROKEN)
def test_a_broken_derivation_is_noticed(old: str, new: str, fault: str) -> None:
    assert old in TEXT
    assert any(fault in found for found in faults(TEXT.replace(old, new, 1)))
