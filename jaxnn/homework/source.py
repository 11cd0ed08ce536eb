"""A file as it is read: imports, definitions, constants; what trains, plots or reads is left out.

Needs no more than the standard library: it runs in the process of the file itself.
"""

import ast
import importlib
import importlib.abc
import importlib.util
import json
import re
import symtable
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any


class UnreadableError(Exception):
    """The file is no Python, no notebook, or too large; told in one line."""


#: A homework is a page or two; what is longer than this is something else.
LONGEST = 4_000_000

#: NumPy's functions that touch the disk.
DISK = {"load", "loadtxt", "genfromtxt", "fromfile", "memmap", "save", "savetxt", "savez"}
DISK |= {"savez_compressed", "tofile", "open_memmap", "DataSource"}

#: Builtins that a constant may call.
PLAIN = {"abs", "bool", "dict", "enumerate", "float", "int", "len", "list", "max", "min", "pow"}
PLAIN |= {"range", "reversed", "round", "set", "sorted", "str", "sum", "tuple", "zip"}

#: Modules whose functions a constant may call.
MATHEMATICS = {"numpy", "math", "cmath", "random"}

#: Calls that stand alone and are kept.
SETTINGS = {"seed", "seterr", "set_printoptions"}

MAGIC = re.compile(r"^\s*[%!?]|\?\s*$|=\s*[%!]\w")


class Source:
    """The text of a file or a notebook, and the place of a line in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: list[int] = []  #: the line before each cell's first
        try:
            if path.stat().st_size > LONGEST:
                raise UnreadableError(f"the file is larger than {LONGEST // 10**6} MB")
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UnreadableError("expected text in UTF-8, found other bytes") from None
        except OSError as error:
            raise UnreadableError(f"the file cannot be read: {error.strerror}") from None
        self.text = self._cells(text) if path.suffix == ".ipynb" else text

    def _cells(self, text: str) -> str:
        """A notebook's cells of code, one below the other; magics are empty lines."""
        try:
            notebook = json.loads(text)
            parts = notebook.get("cells") or notebook["worksheets"][0]["cells"]
            codes = [
                "".join(cell.get("source", cell.get("input", "")))
                for cell in parts
                if cell["cell_type"] == "code"
            ]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            raise UnreadableError(
                "expected a Jupyter notebook: JSON with a list of cells, each with its source"
            ) from None
        lines: list[str] = []
        for code in codes:
            self.cells.append(len(lines))
            lines += _without_magics(code)
        return "\n".join(lines) + "\n"

    def place(self, line: int) -> str:
        """ "line 12"; of a notebook "cell 3, line 2", where cells of code are counted from 1."""
        cell = sum(start < line for start in self.cells)
        return f"cell {cell}, line {line - self.cells[cell - 1]}" if cell else f"line {line}"

    def tree(self) -> ast.Module:
        """The whole file, parsed."""
        try:
            return ast.parse(self.text, str(self.path))
        except SyntaxError as error:
            where = f"{self.place(error.lineno)}: " if error.lineno else ""
            raise UnreadableError(f"{where}SyntaxError: {error.msg}") from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise UnreadableError(f"the file is no Python: {error}") from None


def _without_magics(code: str) -> list[str]:
    lines = code.splitlines()
    if lines and lines[0].startswith("%%") and not re.match(r"%%(time|timeit|capture)\b", lines[0]):
        return [""] * len(lines)  # A cell of a shell or of another language.
    return ["" if MAGIC.search(line) and not _is_comment(line) else line for line in lines]


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


# -- What is kept ----------------------------------------------------------------------------------


class Kept:
    """Which statements of a file are run: imports, definitions, and constants.

    An assignment that calls a function or class of the file itself is run only if a function reads
    the name as a global. `left_out` has the line and the first words of everything else.
    """

    def __init__(self, source: Source, tree: ast.Module) -> None:
        self.source = source
        self.left_out: list[tuple[int, str]] = []
        self.known: dict[str, str] = {}  #: names that are bound, and what by
        self.read = set(_globals(symtable.symtable(source.text, str(source.path), "exec")))
        self.mentioned = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        self.statements = list(self._kept(tree.body))

    def _kept(self, body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
        for node in body:
            if self._runs(node):
                yield node
            elif isinstance(node, ast.Try):
                yield from self._kept(node.body)
            elif isinstance(node, ast.If) and not _is_main(node) and self._is_plain(node.test):
                yield ast.copy_location(
                    ast.If(node.test, [*self._kept(node.body)] or [ast.Pass()],
                           [*self._kept(node.orelse)]), node
                )  # fmt: skip
            elif not _says_nothing(node):
                self.left_out.append((node.lineno, _first_words(node)))

    def _runs(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                root = (getattr(node, "module", None) or alias.name).split(".")[0]
                own = (self.source.path.parent / f"{root}.py").is_file()
                self.known[alias.asname or alias.name.split(".")[0]] = "definition" if own else root
            return True
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            self.known[node.name] = "definition"
            return True
        if isinstance(node, ast.Expr):
            called = node.value.func if isinstance(node.value, ast.Call) else None
            setting = isinstance(called, ast.Attribute) and called.attr in SETTINGS
            return setting and self._is_plain(node.value)
        if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) or node.value is None:
            return False
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        if not self._is_plain(node.value, own=bool(names & self.read)):
            return False
        self.known |= dict.fromkeys(names, "constant")
        return True

    def _is_plain(self, value: ast.expr, *, own: bool = False) -> bool:
        """Does it compute with what is known, and call mathematics alone (or `own` definitions)?"""
        bound = {a.arg for n in ast.walk(value) if isinstance(n, ast.Lambda) for a in n.args.args}
        bound |= {
            n.id
            for c in ast.walk(value)
            if isinstance(c, ast.comprehension)
            for n in ast.walk(c.target)
            if isinstance(n, ast.Name)
        }
        for node in ast.walk(value):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                if node.id not in self.known and node.id not in bound and node.id not in PLAIN:
                    return node.id == "__name__"
            elif (isinstance(node, ast.Call) and not self._may_call(node.func, own)) or isinstance(
                node, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr
            ):
                return False
        return True

    def _may_call(self, function: ast.expr, own: bool) -> bool:
        root: ast.expr = function
        last = ""
        while isinstance(root, ast.Attribute):
            last = last or root.attr
            root = root.value
        if not isinstance(root, ast.Name):
            return last not in DISK  # A method of a value: `(…).reshape(…)`.
        by = self.known.get(root.id, "")
        if root.id in PLAIN and not by:
            return True
        if by == "definition":
            return own
        return by in MATHEMATICS | {"constant"} and last not in DISK


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    """The names that functions read from the module."""
    for child in table.get_children():
        if child.get_type() == "function":
            yield from (s.get_name() for s in child.get_symbols() if s.is_global())
        yield from _globals(child)


def _is_main(node: ast.If) -> bool:
    return "__name__" in {n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)}


def _says_nothing(node: ast.stmt) -> bool:
    """A docstring, `pass`, and what runs only as a script: nobody expects these to be run."""
    if isinstance(node, ast.If) and _is_main(node):
        return True
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _first_words(node: ast.stmt) -> str:
    first = ast.unparse(node).splitlines()[0]
    return first if len(first) <= 40 else first[:39] + "…"


# -- Running it ------------------------------------------------------------------------------------


class Wanted:
    """A name of a module that is imported when it is used; plots and data sets never are."""

    def __init__(self, module: str, name: str = "") -> None:
        self.__dict__["_from"] = module, name

    def _found(self) -> Any:
        module, name = self.__dict__["_from"]
        try:
            found = importlib.import_module(module)
            return getattr(found, name) if name else found
        except Exception as error:
            what = f"{name} of {module}" if name else module
            raise ImportError(f"needs {what}, which cannot be imported here: {error}") from None

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__") and attribute.endswith("__"):
            raise AttributeError(attribute)
        return getattr(self._found(), attribute)

    def __call__(self, *args: Any, **options: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], FunctionType) and not options:
            return args[0]  # As a decorator (@jit): the function itself does the same.
        return self if not args and options else self._found()(*args, **options)


class Reader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads a file, and those beside it that it imports, without what is left out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sources: dict[str, Source] = {}
        self.kept: dict[str, Kept] = {}
        self.modules: dict[str, ModuleType] = {}
        self.failed: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        file = self.folder / f"{name}.py"
        if not file.is_file() or name in sys.stdlib_module_names:
            return None
        return importlib.util.spec_from_file_location(name, file, loader=self)

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        self.run(Path(str(module.__file__)), module)

    def run(self, path: Path, module: ModuleType) -> None:
        """Run a file's imports, definitions and constants in a module."""
        source = Source(path)
        tree = source.tree()
        kept = Kept(source, tree)
        self.sources[str(path)], self.kept[str(path)] = source, kept
        self.modules[str(path)] = module
        module.__dict__.setdefault("__file__", str(path))
        for node in kept.statements:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node, module, kept)
                continue
            code = compile(ast.Module([node], []), str(path), "exec")
            if isinstance(node, ast.FunctionDef):
                exec(code, module.__dict__)
            else:
                self._tried(code, node, module, kept)

    def _tried(self, code: CodeType, node: ast.stmt, module: ModuleType, kept: Kept) -> None:
        try:
            exec(code, module.__dict__)
        except Exception as error:
            told = (str(error).splitlines() or [""])[0]
            where = kept.source.place(node.lineno)
            self.failed.append(
                f"{where}: {_first_words(node)} raised {type(error).__name__}: {told}"
            )

    def _import(self, node: ast.Import | ast.ImportFrom, module: ModuleType, kept: Kept) -> None:
        """NumPy, the standard library and files beside this one now; others when they are used."""
        for alias in node.names:
            of = getattr(node, "module", None) or ""
            root = (of or alias.name).split(".")[0]
            name = alias.asname or (alias.name if of else root)
            here = root in ("numpy", "scipy", "__future__") or root in sys.stdlib_module_names
            here = here or (self.folder / f"{root}.py").is_file() or alias.name == "*"
            if here:
                single = (
                    ast.ImportFrom(of, [alias], 0)
                    if isinstance(node, ast.ImportFrom)
                    else ast.Import([alias])
                )
                ast.copy_location(single, node)
                ast.fix_missing_locations(single)
                code = compile(ast.Module([single], []), str(kept.source.path), "exec")
                self._tried(code, node, module, kept)
            elif name in kept.mentioned:
                module.__dict__[name] = Wanted(of, alias.name) if of else Wanted(alias.name)

    # -- Functions as text -------------------------------------------------------------------------

    def node(self, function: Callable[..., Any]) -> ast.FunctionDef | None:
        """The definition of a function of one of the files."""
        function = getattr(function, "__func__", function)
        code = getattr(function, "__code__", None)
        source = self.sources.get(getattr(code, "co_filename", ""))
        if code is None or source is None:
            return None
        found = [
            n
            for n in ast.walk(source.tree())
            if isinstance(n, ast.FunctionDef) and n.name == code.co_name
        ]
        return min(found, key=lambda n: abs(n.lineno - code.co_firstlineno), default=None)

    def place(self, file: str, line: int) -> str:
        """Where a line of one of the files is: "line 3", "line 3 of other.py"."""
        source = self.sources[file]
        first = next(iter(self.sources))
        return source.place(line) + ("" if file == first else f" of {Path(file).name}")
