"""A line of the derivation in Python: what it says in LaTeX, and whether it holds.

A line is a claim, `left == right` (or `<=`), perhaps under a condition, `if l < L: …`. It holds if
both sides have the same value for every value of its free indices. Their ranges are those of the
array on the left, or else those that `DOMAIN` among the names has.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import product
from typing import Any

import numpy as np

Names = Mapping[str, Any]

#: float64 keeps 16 digits, and no claim here loses more than five of them.
RTOL, ATOL = 1e-11, 1e-11


class Off:
    """value + O(bound): any number that is no further than the bound from the value."""

    __array_ufunc__ = None  # so that an array that is added does not take it for an element

    def __init__(self, bound: Any, value: Any = 0.0) -> None:
        self.bound, self.value = bound, value

    def __radd__(self, other: Any) -> "Off":
        return Off(self.bound, other + self.value)


# --------------------------------------------------------------------------------- does it hold?


def paragraphs(source: str) -> Iterator[tuple[ast.expr | None, list[ast.Compare]]]:
    """The claims that stand under one condition, or under none, and the condition."""
    for statement in ast.parse(source).body:
        condition = statement.test if isinstance(statement, ast.If) else None
        body = statement.body if isinstance(statement, ast.If) else [statement]
        claims = [line.value for line in body if isinstance(line, ast.Expr)]
        compared = [claim for claim in claims if isinstance(claim, ast.Compare)]
        assert len(compared) == len(body), f"no claim: {ast.unparse(statement)}"
        yield condition, compared


def check(source: str, names: Names) -> None:
    """Raise AssertionError with the line and the indices where it does not hold."""
    for condition, claim in [(c, claim) for c, claims in paragraphs(source) for claim in claims]:
        line = ast.unparse(claim)
        operands = [_compiled(side) for side in (claim.left, *claim.comparators)]
        tolerance = names.get("RTOL", RTOL), names.get("ATOL", ATOL)
        examined = 0
        for indices in _settings(claim, condition, names):
            scope = {**names, **indices}
            values = [eval(code, scope) for code in operands]
            for left, sign, right in zip(values, claim.ops, values[1:], strict=False):
                assert _holds(left, sign, right, *tolerance), (
                    f"{line}\ndoes not hold at {indices}: {left} and {right}"
                )
            examined += 1
        assert examined, f"{line}\nsays nothing: no index meets its condition"


def _compiled(node: ast.expr) -> Any:
    return compile(ast.Expression(node), "docs/derivation.md", "eval")


def _holds(left: Any, sign: ast.cmpop, right: Any, rtol: float, atol: float) -> bool:
    if isinstance(sign, ast.LtE):
        return bool(np.all(left <= np.asarray(right) * (1 + RTOL)))
    if isinstance(right, Off):
        return bool(np.all(abs(np.asarray(left) - right.value) <= right.bound))
    if isinstance(left, list):
        return bool(left == right)
    left, right = np.asarray(left), np.asarray(right)
    scalar = left.ndim == 0 or right.ndim == 0
    assert left.dtype == np.float64 or left.dtype.kind in "ib", left.dtype
    atol = ATOL if right.any() else atol
    return (scalar or left.shape == right.shape) and np.allclose(left, right, rtol, atol)


def _settings(claim: ast.Compare, condition: Any, names: Names) -> Iterator[dict[str, Any]]:
    """Every value of the free indices: l, t and their like, then the places of the array."""
    nodes = [claim] if condition is None else [claim, condition]
    used = {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)}
    outer = [name for name in names["DOMAIN"] if name in used - _bound(claim)]
    for values in product(*(names["DOMAIN"][name] for name in outer)):
        first = dict(zip(outer, values, strict=True))
        if condition is not None and not eval(_compiled(condition), {**names, **first}):
            continue
        places = _places(claim.left, {**names, **first})
        for inner in product(*(range(size) for size in places.values())):
            yield first | dict(zip(places, inner, strict=True))


def _places(left: ast.expr, scope: Names) -> dict[str, int]:
    """The sizes of the indices i, j, k … of the arrays on the left."""
    places: dict[str, int] = {}
    for node in ast.walk(left):
        if isinstance(node, ast.Subscript):
            axes = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            names = [axis.id for axis in axes if isinstance(axis, ast.Name)]
            free = [name for name in names if name not in scope and name not in _bound(left)]
            if free:
                array = eval(_compiled(node.value), dict(scope))
                places |= dict(zip(names, np.shape(array), strict=False))
    return {name: size for name, size in places.items() if name not in scope}


def _bound(node: ast.AST) -> set[str]:
    inner = {c.target.id for c in ast.walk(node) if isinstance(c, ast.comprehension)}
    return inner | {a.arg for a in ast.walk(node) if isinstance(a, ast.arg)}


# ------------------------------------------------------------------------------- what it says

#: Names and whole expressions that mathematics writes in another way.
WRITTEN = {
    "σ": r"\sigma", "σ_prime": r"\sigma'", "g_prime": "g'", "tanh": r"\tanh",
    "tanh_prime": r"\tanh'", "ReLU": r"\mathrm{ReLU}", "ReLU_prime": r"\mathrm{ReLU}'",
    "softmax": r"\mathrm{softmax}", "log_A": r"\log A", "loss": r"\ell",
    "mean_loss": r"\mathcal{L}", "penalised_loss": r"\mathcal{L}_\lambda",
    "grad_L": r"\nabla\mathcal{L}", "δ": r"\delta", "β": r"\beta", "β2": r"\beta_2",
    "λ": r"\lambda", "ε": r"\varepsilon", "π": r"\pi", "Φ": r"\Phi", "φ": r"\varphi",
    "erfc": r"\mathrm{erfc}", "Var": r"\mathrm{Var}", "Mean": r"\mathrm{E}",
    "precision": r"\mathrm{precision}", "recall": r"\mathrm{recall}", "TP": r"\mathrm{TP}",
    "FP": r"\mathrm{FP}", "FN": r"\mathrm{FN}", "Y_smooth": r"Y^\varepsilon",
    "W_new": r"W^{\mathrm{new}}", "batch": r"\mathrm{batch}", "order": r"\mathrm{order}",
    "f_linear": r"f_{\mathrm{linear}}", "f_cosine": r"f_{\mathrm{cosine}}", "cos": r"\cos",
    "f_one_cycle": r"f_{\mathrm{one\ cycle}}", "rate": r"\mathrm{rate}",
    "dA_dZ[i, j, k]": r"\frac{\partial A_{L,ij}}{\partial Z_{L,ik}}",
    "dloss_dZ[i, k]": r"\frac{\partial\ell_i}{\partial Z_{L,ik}}",
    "dL_dW[l]": r"\frac{\partial\mathcal{L}_\lambda}{\partial W_l}",
    "dropped[l][i, j]": r"\text{with probability } p",
}  # fmt: skip

SIGNS: dict[type, str] = {
    ast.Eq: "=", ast.LtE: r"\le", ast.Lt: "<", ast.Gt: ">", ast.GtE: r"\ge",
    ast.Add: "+", ast.Sub: "-",
}  # fmt: skip

#: Letters whose values are matrices where they carry no more than the layer's number.
MATRICES = {"Z", "A", "W", "X", "Y", "D", "P", "dZ", "dA", "dW"}

SUM, ELEMENTWISE, PRODUCT, POWER, ATOM = range(5)


def latex(source: str) -> str:
    """The lines in LaTeX, separated by commas."""
    written = []
    for condition, claims in paragraphs(source):
        text = r",\qquad ".join(_text(claim)[0] for claim in claims)
        where = "" if condition is None else rf"\quad\text{{for }} {_text(condition)[0]}"
        written.append(text + where)
    return ",\\qquad\n".join(written)


def squeezed(mathematics: str) -> str:
    """LaTeX without what is only spacing, size, layout or a word between two formulas."""
    words = r"\\text\{(?:that is|so|and)\}|\\(?:begin|end)\{aligned\}|\\tag\{\d+\}"
    spaces = r"\\(?:left|right|big|Big)(?![a-z])|\\q?quad|\\[,;:!]|\\cdot(?![a-z])|&|\\\\|\s"
    text = re.sub(words, "", mathematics).replace(r"\tfrac", r"\frac")
    text = re.sub(spaces, "", text.replace(r"\ ", ""))
    text = re.sub(r"\{(\w|\\[a-zA-Z]+)\}", r"\1", text).replace("[", "(").replace("]", ")")
    return text.strip(",")


def _text(node: ast.expr, inline: bool = False) -> tuple[str, int]:
    """LaTeX, and how tightly it holds together."""
    whole = WRITTEN.get(ast.unparse(node))
    if whole is not None:
        return whole, ATOM
    match node:
        case ast.Compare():
            sides = [_text(node.left)[0]]
            for sign, right in zip(node.ops, node.comparators, strict=True):
                sides += [SIGNS[type(sign)], _text(right)[0]]
            return " ".join(sides), SUM
        case ast.Name():
            return node.id, ATOM
        case ast.Constant():
            return re.sub(r"(?<=[a-zA-Z])(\d+)", r"_\1", str(node.value)), ATOM
        case ast.UnaryOp(op=ast.USub()):
            return "-" + _at_least(PRODUCT, node.operand, inline), SUM
        case ast.Attribute(attr="T"):
            return _at_least(ATOM, node.value) + r"^{\top}", POWER
        case ast.Subscript():
            return _subscripted(node), ATOM
        case ast.BinOp():
            return _operation(node, inline)
        case ast.IfExp():
            no = _text(_negated(node.test))[0]
            yes = rf"{_text(node.body)[0]} {_text(node.test)[0]}"
            return rf"\begin{{cases}}{yes} {_text(node.orelse)[0]} {no}\end{{cases}}", ATOM
        case ast.Call():
            return _call(node, inline)
        case ast.List():
            return "(" + ", ".join(_text(item)[0] for item in node.elts) + ")", ATOM
        case ast.ListComp(generators=[ast.comprehension(ifs=[condition])]):
            return rf"\{{{_text(node.elt)[0]} : {_text(condition)[0]}\}}", ATOM
    raise AssertionError(f"no LaTeX for {ast.unparse(node)}")


def _at_least(tightness: int, node: ast.expr, inline: bool = False) -> str:
    text, own = _text(node, inline)
    return text if own >= tightness else rf"\left({text}\right)"


def _subscripted(node: ast.Subscript) -> str:
    """A[l - 1][i, k] as A_{l-1,ik}; [:, None] makes a column of a vector and is not written."""
    base: ast.expr = node
    groups: list[str] = []
    while isinstance(base, ast.Subscript) and ast.unparse(base) not in WRITTEN:
        parts = base.slice.elts if isinstance(base.slice, ast.Tuple) else [base.slice]
        kept = [part for part in parts if not isinstance(part, ast.Slice)]
        kept = [part for part in kept if ast.unparse(part) != "None"]
        groups.insert(0, "".join(_text(part)[0] for part in kept))
        base = base.value
    text, places = _text(base)[0], ",".join(group for group in groups if group)
    return f"{text}_{{{places}}}" if places else text


def _operation(node: ast.BinOp, inline: bool) -> tuple[str, int]:
    left, right = node.left, node.right
    match node.op:
        case ast.Add() | ast.Sub():
            after = ELEMENTWISE if isinstance(node.op, ast.Sub) else SUM
            sign = SIGNS[type(node.op)]
            return _at_least(SUM, left, inline) + sign + _at_least(after, right, inline), SUM
        case ast.Mult() | ast.MatMult():
            if isinstance(node.op, ast.Mult) and _is_matrix(left) and _is_matrix(right):
                return rf"{_at_least(POWER, left)} \circ {_at_least(POWER, right)}", ELEMENTWISE
            factors = _at_least(PRODUCT, left), _at_least(PRODUCT, right, inline)
            # A sum over an index ends where its factors end: none may follow it.
            first = rf"\left({factors[0]}\right)" if _is_sum(left) else factors[0]
            return rf"{first}\, {factors[1]}", PRODUCT
        case ast.Div() if inline:
            return _at_least(PRODUCT, left, True) + "/" + _at_least(ATOM, right, True), PRODUCT
        case ast.Div():
            return rf"\frac{{{_text(left, True)[0]}}}{{{_text(right, True)[0]}}}", ATOM
        case ast.Pow():
            return f"{_at_least(ATOM, left)}^{{{_text(right, inline=True)[0]}}}", POWER
    raise AssertionError(f"no LaTeX for {ast.unparse(node)}")


def _is_sum(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "sum"


def _is_matrix(node: ast.expr) -> bool:
    """Whether `*` is the product of element by element if the other factor is a matrix too."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and any(map(_is_matrix, node.args))
    if isinstance(node, ast.Subscript):
        return ast.unparse(node.value) in MATRICES and not isinstance(node.slice, ast.Tuple)
    if isinstance(node, ast.BinOp | ast.Attribute | ast.UnaryOp):
        return any(map(_is_matrix, ast.iter_child_nodes(node)))  # type: ignore[arg-type]
    return ast.unparse(node) in MATRICES


def _negated(test: ast.expr) -> ast.expr:
    opposite = {ast.Gt: ast.LtE, ast.Lt: ast.GtE}
    if isinstance(test, ast.Compare):
        return ast.Compare(test.left, [opposite[type(test.ops[0])]()], test.comparators)
    return ast.Name(r"\text{otherwise}")


def _call(node: ast.Call, inline: bool) -> tuple[str, int]:
    function, arguments = ast.unparse(node.func), node.args
    first = arguments[0] if arguments else ast.Constant(0)
    if isinstance(first, ast.GeneratorExp):
        return _over_an_index(function, first), PRODUCT
    match function:
        case "exp":
            return f"e^{{{_text(first, inline=True)[0]}}}", POWER
        case "sqrt":
            return rf"\sqrt{{{_text(first, inline)[0]}}}", ATOM
        case "ceil":
            return rf"\lceil {_text(first, True)[0]} \rceil", ATOM
        case "I":
            return "I", ATOM
        case "abs":
            return rf"\left|{_text(first)[0]}\right|", ATOM
        case "norm":
            return rf"\|{_text(first)[0]}\|", ATOM
        case "dot":
            return rf"{_at_least(PRODUCT, first)} \cdot {_at_least(PRODUCT, arguments[1])}", PRODUCT
        case "log":
            simple = isinstance(first, ast.Name | ast.Subscript | ast.Call)
            return r"\log " + (_text(first)[0] if simple else f"({_text(first)[0]})"), PRODUCT
        case "min" | "max":
            function = "\\" + function
        case "grad":
            return _by_a_zero(first), ATOM
    name = function if function in ("\\min", "\\max") else _text(node.func)[0]
    return rf"{name}\left({', '.join(_text(a)[0] for a in arguments)}\right)", ATOM


def _by_a_zero(function: ast.expr) -> str:
    """grad(lambda E: L(Z={l: Z[l] + E}), …): the derivative of L by what is added to Z_l."""
    assert isinstance(function, ast.Lambda)
    assert isinstance(function.body, ast.Call)
    (moved,) = function.body.keywords
    assert isinstance(moved.value, ast.Dict)
    (layer,), (value,) = moved.value.keys, moved.value.values
    assert layer is not None
    of, by = _text(function.body.func)[0], function.args.args[0].arg
    at = rf"{moved.arg}_{_text(layer)[0]} \to {_text(value)[0]}"
    derivative = rf"\frac{{\partial}}{{\partial {by}}}"
    return rf"\left.{derivative}\, {of}\big|_{{{at}}}\right|_{{{by} = 0}}"


def _over_an_index(function: str, terms: ast.GeneratorExp) -> str:
    """Σ_k and max_k; from s = 1 to t where a sum begins at 1, else over the whole range."""
    (loop,) = terms.generators
    span = loop.iter
    assert isinstance(span, ast.Call)
    sign, index = {"sum": r"\sum", "max": r"\max", "min": r"\min"}[function], _text(loop.target)[0]
    limits = f"_{{{index}}}"
    if len(span.args) == 2:
        start, end = span.args
        assert isinstance(end, ast.BinOp)
        assert ast.unparse(end).endswith(" + 1")
        limits = f"_{{{index}={_text(start)[0]}}}^{{{_text(end.left)[0]}}}"
    return f"{sign}{limits} {_at_least(PRODUCT, terms.elt)}"


# ------------------------------------------------------------------------- and what it must not say


def wrong_versions(source: str) -> Iterator[str]:
    """The lines with one mistake each, as people make them: every sign, factor, index, exponent,
    transposition, number and letter in turn.

    Left alone are the ranges of sums, which mathematics does not write, and what would make a claim
    weaker and leave it true: the bound of an inequality or of an O."""
    tree = ast.parse(source)
    for node in _mathematics(tree):
        for mistake in _mistakes(node):
            yield ast.unparse(deepcopy(tree, {id(node): mistake}))


def _mathematics(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below, but for conditions, ranges, bounds, and the symbol that a claim is about."""
    yield node
    match node:
        case ast.If(body=children) | ast.comprehension(ifs=children):
            pass
        case ast.Compare(left, [*_, ast.LtE()], [*right, _]) | ast.Compare(left, _, right):
            children = [left, *right] if _is_formula(left) else right
        case ast.Call(func=ast.Name(id="O" | "I")):
            children = []
        case ast.Call(func=ast.Name(id="grad"), args=[function, _]):
            children = [function]
        case _:
            children = list(ast.iter_child_nodes(node))
    for child in children:
        yield from _mathematics(child)


def _is_formula(node: ast.expr) -> bool:
    return any(isinstance(part, ast.BinOp) for part in ast.walk(node))


def _mistakes(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.BinOp(left, op, right):
            swapped = ast.BinOp(right, op, left)
            other = {ast.Add: ast.Sub(), ast.Sub: ast.Add(), ast.Div: ast.Mult()}.get(type(op))
            yield from [] if other is None else [ast.BinOp(left, other, right)]
            yield from [swapped] if isinstance(op, ast.Sub | ast.Div | ast.MatMult) else []
            if isinstance(op, ast.Mult | ast.Div | ast.Pow):
                yield left
            if isinstance(op, ast.Mult):
                yield right
            if isinstance(op, ast.MatMult):
                yield ast.BinOp(left, op, ast.Attribute(right, "T"))
        case ast.UnaryOp(operand=positive):
            yield positive
        case ast.Attribute(value=matrix, attr="T"):
            yield matrix
        case ast.Subscript(array, ast.Tuple([ast.Name() as i, ast.Name() as j])):
            if ast.unparse(array) != "δ":
                yield ast.Subscript(array, ast.Tuple([j, i]))
        case ast.Subscript(value=array, slice=index) if ast.unparse(index)[0] in "lt":
            one = ast.Constant(1)
            yield from [
                ast.Subscript(array, moved)
                for moved in (ast.BinOp(index, ast.Add(), one), ast.BinOp(index, ast.Sub(), one))
            ]
        case ast.List(elts=[first, second, *others]):
            yield ast.List([second, first, *others])
        case ast.Call(func=ast.Name(id="min" | "max" as name), args=arguments, keywords=[]):
            yield ast.Call(ast.Name({"min": "max", "max": "min"}[name]), arguments, [])
        case ast.Call(args=[argument]) if not isinstance(argument, ast.GeneratorExp):
            yield argument
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Constant(value=int() | float() as number):
            yield ast.Constant(number + 1)
        case ast.Name(id="Z" | "A" as letter):
            yield ast.Name({"Z": "A", "A": "Z"}[letter])
