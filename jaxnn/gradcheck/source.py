"""The user's own words: the text, the line and the names of the values on a tape."""

import ast
import linecache
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path

from jaxnn.gradcheck.tape import Frame, Frames, Op, Tape

#: A longer expression is told by its operation.
LONGEST = 48

#: What an infix operation is called on the tape.
INFIX = {
    "mul": ast.Mult, "div": ast.Div, "add": ast.Add, "sub": ast.Sub, "dot_general": ast.MatMult,
    "pow": ast.Pow, "integer_pow": ast.Pow, "square": ast.Pow,
}  # fmt: skip


@lru_cache(maxsize=512)
def text(frame: Frame) -> str:
    """The source of a frame on one line; empty where it cannot be had."""
    lines = [linecache.getline(frame.file, n) for n in range(frame.line, frame.end_line + 1)]
    if not lines or not all(lines):
        return ""
    raw = [line.encode() for line in lines]
    raw[-1] = raw[-1][: frame.end_column]
    raw[0] = raw[0][frame.column :]
    return " ".join(part.decode(errors="replace").strip() for part in raw)


@lru_cache(maxsize=512)
def _parsed(frame: Frame) -> ast.expr | None:
    try:
        return ast.parse(f"({text(frame)})", mode="eval").body
    except (SyntaxError, ValueError):
        return None


@lru_cache(maxsize=32)
def _assigned(file: str) -> dict[tuple[int, int, int, int], str]:
    """The names that the expressions of a file are given, by their place."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return {}
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.NamedExpr) and node.value:
            target, value = node.target, node.value
        else:
            continue
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=False))
        for to, what in pairs:
            if isinstance(to, ast.Name | ast.Attribute | ast.Subscript):
                place = node if isinstance(node, ast.AugAssign) else what
                names[_place_of(place)] = ast.unparse(to)
    return names


Place = tuple[int, int, int, int]


@lru_cache(maxsize=32)
def _unpacked(file: str) -> dict[Place, tuple[Place, list[str]]]:
    """Generators that are unpacked: by the place of their names, that of the element, and these."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return {}
    return {
        _place_of(t): (_place_of(node.value.elt), [ast.unparse(e) for e in t.elts])
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.GeneratorExp)
        for t in node.targets
        if isinstance(t, ast.Tuple)
    }


def _place_of(node: ast.expr | ast.stmt) -> Place:
    return node.lineno, node.col_offset, node.end_lineno or node.lineno, node.end_col_offset or 0


def _place(frame: Frame) -> tuple[int, int, int, int]:
    return frame.line, frame.column, frame.end_line, frame.end_column


def _repeated(op: Op, following: Op | None, level: int, later: Frames) -> bool:
    """Does the expression of a frame go on with the next operation?

    It does not where it begins again, as a generator's does for its next element.
    """
    tail = op.frames[level:]
    if following is None or later[len(later) - len(tail) :] != tail:
        return False
    inner, before = later[: len(later) - len(tail)], op.frames[:level]
    return bool(inner) or not before


class Source:
    """A tape read beside the source that it was written from."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape

    @cached_property
    def names(self) -> dict[int, str]:
        """The user's names of the values that are assigned to one, and of leaves and arguments."""
        found: dict[int, str] = {}
        ops = self.tape.ops
        unpacked: dict[Frames, list[int]] = {}
        named_by: dict[Frames, list[str]] = {}
        for i, op in enumerate(ops):
            later = ops[i + 1].frames if i + 1 < len(ops) else ()
            for level, frame in enumerate(op.frames):
                if _repeated(op, ops[i + 1] if i + 1 < len(ops) else None, level, later):
                    continue  # The expression goes on.
                names = _assigned(frame.file)
                name = names.get(_place(frame))
                if name:
                    found.setdefault(op.output, name)
                # `f, i, o = (gate(k) for k in "fio")`: one name after another.
                outer = op.frames[level + 1 :]
                if outer and "<genexpr>" in frame.function:
                    element, targets = _unpacked(outer[0].file).get(_place(outer[0]), (None, []))
                    if element == _place(frame):
                        unpacked.setdefault(outer, []).append(op.output)
                        named_by[outer] = targets
        for outer, values in unpacked.items():
            if len(values) % len(named_by[outer]) == 0:
                for n, value in enumerate(values):
                    found.setdefault(value, named_by[outer][n % len(named_by[outer])])
        return {**found, **self.tape.given_names}

    def expression(self, op: Op, level: int = 0) -> str:
        """The user's expression that an operation comes from, shortened where it is long."""
        if not op.frames:
            return op.name
        level = min(level, len(op.frames) - 1)
        told = text(op.frames[level])
        if not told:
            return op.name
        return told if len(told) <= LONGEST else f"{told[: LONGEST - 1]}…"

    def line(self, op: Op, level: int = 0) -> str:
        """ "line 34"; of a function that is called at several lines also "called in line 40"."""
        if not op.frames:
            return "the loss"
        level = min(level, len(op.frames) - 1)
        told = f"line {op.frames[level].line}"
        calls = self._calls.get(op.frames[level], set())
        outer = op.frames[level + 1 :]
        if len(calls) > 1 and outer:
            other = outer[0].file != op.frames[level].file
            where = f" of {Path(outer[0].file).name}" if other else ""
            told += f", called in line {outer[0].line}{where}"
        return told

    @cached_property
    def _calls(self) -> dict[Frame, set[Frames]]:
        """From where each piece of source is reached."""
        found: dict[Frame, set[Frames]] = {}
        for op in self.tape.ops:
            for level, frame in enumerate(op.frames):
                found.setdefault(frame, set()).add(op.frames[level + 1 :])
        return found

    def file(self, op: Op) -> str:
        return Path(op.frames[0].file).name if op.frames else ""

    def value(self, value: int) -> str:
        """A value by the user's name for it; else by the expression that makes it."""
        if value in self.names:
            return self.names[value]
        producer = self.tape.producer[value]
        if producer < 0:
            return ""
        op = self.tape.ops[producer]
        inputs = {v for v in op.inputs if self.tape.active[v]}
        if op.name in ("broadcast_in_dim", "reshape", "convert_element_type", "squeeze"):
            inner = self.value(op.inputs[0])
            if inner:
                return inner
        told = text(op.frames[0]) if op.frames else ""
        if told and len(told) <= LONGEST:
            return told
        del inputs
        return ""

    def operand(self, op: Op, k: int) -> str:
        """What the user calls an operand of an operation."""
        value = op.inputs[k]
        if self.names.get(value, "").isidentifier():
            return self.names[value]
        node = _parsed(op.frames[0]) if op.frames else None
        told = ""
        if isinstance(node, ast.BinOp) and isinstance(node.op, INFIX.get(op.name, ())):
            told = ast.unparse(node.left if k == 0 else node.right)
        elif isinstance(node, ast.UnaryOp):
            told = ast.unparse(node.operand)
        elif isinstance(node, ast.Call):
            told = ast.unparse(self._argument(node, k))
        elif isinstance(node, ast.Subscript | ast.Attribute):
            told = ast.unparse(node.value)
        if told:
            return told if len(told) <= LONGEST else f"{told[: LONGEST - 1]}…"
        return self.value(value)

    def infix(self, op: Op) -> bool:
        """Is the operation written with its sign between its operands?"""
        node = _parsed(op.frames[0]) if op.frames else None
        return isinstance(node, ast.BinOp) and isinstance(node.op, INFIX.get(op.name, ()))

    @staticmethod
    def _argument(node: ast.Call, k: int) -> ast.expr:
        """The k-th array of a call: of a method, the object itself comes first."""
        function = node.func
        arrays = [a for a in node.args if not isinstance(a, ast.Constant | ast.Starred)]
        module = isinstance(function, ast.Attribute) and _is_module(function.value)
        if isinstance(function, ast.Attribute) and not module:
            arrays = [function.value, *arrays]
        return arrays[min(k, len(arrays) - 1)] if arrays else node


def _is_module(node: ast.expr) -> bool:
    parts = ast.unparse(node).split(".")
    return parts[0] in ("jnp", "jax", "np", "numpy", "lax", "nn", "math", "optax")


def common(frames: list[Frames]) -> Iterator[Frame]:
    """The frames that several operations share, the innermost first."""
    if not frames:
        return
    for level in range(min(map(len, frames)), 0, -1):
        tails = {f[len(f) - level :] for f in frames}
        if len(tails) == 1:
            yield frames[0][len(frames[0]) - level]
