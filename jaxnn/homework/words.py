"""A finding in the file's own words: its names, its shapes, and no line that it has already."""

import ast
import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from jaxnn.gradcheck.explanations import sentence
from jaxnn.gradcheck.report import Finding, GradientReport
from jaxnn.homework.reading import Layout

#: How a finding names the program that the file was read as, which its author has not written.
PROGRAM = re.compile(r"^<the loss of [^>]*>: | \(line \d+[^)]*\)")


#: A finding at a use of a value, and its remedy, as the doctor writes them of any loss.
USE = re.compile(r"the derivative along `(\w+)` in `([^`]*)`")
REMEDY = re.compile(r" Write `([^`]+)`, with `g` the derivative by `[^`]*`\.")


def as_equation(finding: Finding) -> Finding:
    """A finding at `W2 @ A1` as one about dW2, with dZ2 for what comes from above."""
    used = USE.search(finding.sentence)
    layer = re.search(r"\bW(\d+)", used[2]) if used else None
    if used is None or layer is None or len(USE.findall(finding.sentence)) > 1:
        return finding
    told = USE.sub(rf"d{used[1]}", finding.sentence)
    remedy = REMEDY.search(told)
    if remedy is None:
        return replace(finding, sentence=told)
    product = re.sub(r"\bg\b", f"dZ{layer[1]}", remedy[1])
    right = f"d{used[1]} = {product}"
    return replace(finding, sentence=REMEDY.sub("", told), right=right)


def renamed(text: str, names: Mapping[str, str]) -> str:
    """W2, dW2 and dA1 by the file's names for W2 and A1."""
    if not names:
        return text
    pattern = r"\b(d?)(" + "|".join(map(re.escape, names)) + r")\b"
    return re.sub(pattern, lambda found: found[1] + names[found[2]], text)


def in_its_names(report: GradientReport, names: Mapping[str, str]) -> GradientReport:
    """The report with the file's own letters for the parameters and what is between them."""
    findings = tuple(
        replace(
            finding,
            equation=renamed(_as_gradient(finding.equation), names),
            sentence=renamed(PROGRAM.sub("", finding.sentence), names),
            right=renamed(finding.right, names),
            places=tuple(renamed(_as_gradient(place), names) for place in finding.places),
        )
        for finding in report.findings
    )
    leaves = tuple(replace(leaf, path=renamed(leaf.path, names)) for leaf in report.leaves)
    return replace(report, findings=findings, leaves=leaves)


def _as_gradient(name: str) -> str:
    """dW1, where a finding names the parameter W1 that shows it."""
    return f"d{name}" if re.fullmatch(r"[Wb]\d+", name) else name


def misshapen(
    bias: str, given: tuple[int, ...], wanted: tuple[int, ...], layout: Layout
) -> Finding:
    """A bias's gradient of another shape than the bias: what was summed, and what to write."""
    n, layer = int(np.prod(wanted)), bias[1:]
    axis = 1 if layout.columns else 0
    keep = ", keepdims=True" if len(wanted) == 2 else ""
    total = f"np.sum(dZ{layer}, axis={axis}{keep})"
    size = int(np.prod(given))
    if size == 1:
        why = f"one number for all {n} units: np.sum(dZ{layer}) sums over the units as well"
    elif size == n:
        why = "the numbers are there, in another shape"
        keeps = len(wanted) == 2 and len(given) == 1
        why = (
            "the sum over the examples has lost its axis: keepdims=True keeps it" if keeps else why
        )
    else:
        why = "it is summed over the units, where it is to be summed over the examples"
    told = sentence("shape", f"d{bias}", detail=f"expected {wanted}, found {given}; {why}")
    right = f"d{bias} = {total}" + " / m (without / m if dZ has it already)"
    return Finding("shape", f"d{bias}", told, None, (f"d{bias}",), right, ordered=True)


# -- Nobody is told to write the line that is there ------------------------------------------------


class _Plain(ast.NodeTransformer):
    """An expression in one way of writing: cache["A1"], self.a1 and A1 are a1; products are @."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            return ast.Name(node.slice.value.lower())
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(node.id.lower())

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return ast.Name(node.attr.lower())
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        module = isinstance(node.func, ast.Attribute) and _is_numpy(node.func.value)
        operands = [*([] if module or not name else [node.func.value]), *node.args]  # type: ignore[attr-defined]
        operator = {"dot": ast.MatMult, "matmul": ast.MatMult, "multiply": ast.Mult,
                    "add": ast.Add, "subtract": ast.Sub}.get(name)  # fmt: skip
        if operator and len(operands) == 2:
            return ast.BinOp(operands[0], operator(), operands[1])
        if name == "transpose" and len(operands) == 1:
            return ast.Attribute(operands[0], "T")
        if name == "sum" and operands:
            options = sorted(node.keywords, key=lambda k: str(k.arg))
            return ast.Call(ast.Name("sum"), operands, options)
        return node


def _is_numpy(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("np", "numpy", "npr")


def _written(node: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(_Plain().visit(node)))


def has(text: str, equation: str) -> bool:
    """Does a file already have this equation, however it writes products and names?"""
    left, _, right = equation.partition(" (")[0].partition(" = ")
    try:
        wanted = _written(ast.parse(right.removesuffix(" / m"), mode="eval").body)
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = _written(node.targets[0])
            value = _written(node.value)
            parts = {_written(part) for part in ast.walk(node.value) if isinstance(part, ast.expr)}
            if value == wanted or (target == left.lower() and wanted in parts):
                return True
    return False


def without_what_is_there(report: GradientReport, text: str) -> GradientReport:
    """A finding whose remedy is in the file says what is wrong and no more."""
    findings = [as_equation(finding) for finding in report.findings]
    findings = [replace(f, right="") if f.right and has(text, f.right) else f for f in findings]
    return replace(report, findings=tuple(findings))
