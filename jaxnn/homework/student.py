"""A student's backward pass, found in a file and called: functions, or a class.

Runs in the process of the file, with NumPy alone. Every form answers the same two questions: what
are the parameters called, and what are the gradients at a point?
"""

import ast
import builtins
import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from jaxnn.homework import forms
from jaxnn.homework.forms import plain, role
from jaxnn.homework.source import Reader

#: The learning rate that a backward pass is given which makes the step itself: exact in binary.
RATE = 0.5

Arrays = dict[str, np.ndarray]


class Stop(Exception):
    """Why the file cannot be examined: what was expected, what was found, what to do."""


class Raised(Stop):
    """A function of the file raised an exception."""


@dataclass
class Point:
    """Where the gradient is taken, in the file's own shapes."""

    leaves: Arrays
    X: np.ndarray
    Y: np.ndarray
    m: int
    l2: float = 0.0
    cache: Arrays | None = None  #: given in place of what the file's own forward pass returns


@dataclass
class Answer:
    """What the file said at a point."""

    gradient: Arrays = field(default_factory=dict)
    forward: Arrays = field(default_factory=dict)  #: the arrays of its forward pass
    extra: Arrays = field(default_factory=dict)  #: what came with the gradient: dZ2, dA1
    loss: float | None = None
    how: str = ""  #: how the gradient was found in what came back
    problem: str = ""  #: "structure: …" or "dtype: …", what is wrong with what came back


# -- What the forms share --------------------------------------------------------------------------


def calling(
    reader: Reader, name: str, function: Callable[..., Any], arguments: dict[str, Any]
) -> Any:
    """Call a function; whatever it raises, exit included, is told in one line."""
    try:
        with np.errstate(all="ignore"):
            return function(**arguments)
    except SystemExit as error:
        raise Raised(f"{name} ended the program with exit({error.code})") from None
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [(f.filename, f.lineno) for f in frames if f.filename in reader.sources]
        where = f"{reader.place(lines[-1][0], lines[-1][1] or 1)}: " if lines else ""
        told = (str(error).splitlines() or [""])[0]
        raise Raised(f"{name} raised {where}{type(error).__name__}: {told}") from None


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The arguments that can be given by name or place, without self."""
    try:
        found = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise Stop(f"{getattr(function, '__name__', 'it')} has no signature to be read") from None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD,
             inspect.Parameter.KEYWORD_ONLY)  # fmt: skip
    return {name: p for name, p in found.items() if p.kind in kinds}


def matched(
    name: str, function: Callable[..., Any], known: Mapping[str, Any], *, forward: bool = False
) -> dict[str, Any]:
    """The arguments of a function by their names; `known` has values by plain names and roles.

    The one argument of a forward pass is its input, whatever its name.
    """
    given = {}
    taken = parameters_of(function)
    only = next(iter(taken)) if len(taken) == 1 else ""
    if forward and only and not {plain(only), f"={role(only)}"} & set(known):
        return {only: known["=X"]}
    for argument, parameter in taken.items():
        by_name = plain(argument)
        stands_for = role(argument)
        if by_name in known:
            given[argument] = known[by_name]
        elif f"={stands_for}" in known:
            given[argument] = known[f"={stands_for}"]
        elif parameter.default is parameter.empty:
            names = [n for n in known if n[0] != "="]
            names += [n for names in forms.ARGUMENTS.values() for n in names]
            close = forms.near(argument, names)
            raise Stop(
                f"{name} takes {argument}, and nothing of that name is known"
                + (f"; is it {close}?" if close else "")
                + ": rename it, or write an adapter of five lines (docs/homework.md)"
            )
    return given


def attributes(made: Any) -> dict[str, Any]:
    """The attributes of an object; none where it has no room for others than its own."""
    found: dict[str, Any] = getattr(made, "__dict__", {})
    return found


def own_rate(reader: Reader, function: Callable[..., Any]) -> float | None:
    """A learning rate that is written into a function: `lr = 0.1`."""
    node = reader.node(function)
    for n in ast.walk(node) if node else ():
        if isinstance(n, ast.Assign) and isinstance(n.value, ast.Constant):
            names = [t.id for t in n.targets if isinstance(t, ast.Name)]
            if any(role(name) == "rate" for name in names) and _scalar(n.value.value):
                return float(n.value.value)  # type: ignore[arg-type]
    return None


def set_globals(reader: Reader, known: Mapping[str, Any]) -> None:
    """Globals that functions read and the file sets where it trains: `m_batch`, X, Y."""
    for path, module in reader.modules.items():
        for name in reader.kept[path].read:
            stands_for = f"={role(name)}"
            missing = name not in module.__dict__ and not hasattr(builtins, name)
            if stands_for == "=m" or (missing and stands_for in known):
                module.__dict__[name] = known[stands_for]


def signature(name: str, function: Callable[..., Any]) -> str:
    return f"{name}({', '.join(parameters_of(function))})"


def returned_names(reader: Reader, function: Callable[..., Any]) -> Any:
    """The names in a function's last `return`: a string, or a list of the same."""
    node = reader.node(function)
    if node is None:
        return ""
    assigned = {
        n.targets[0].id: n.value
        for n in ast.walk(node)
        if isinstance(n, ast.Assign) and len(n.targets) == 1 and isinstance(n.targets[0], ast.Name)
    }
    returns = [n.value for n in ast.walk(node) if isinstance(n, ast.Return) and n.value]

    def names(value: ast.expr, depth: int = 0) -> Any:
        if isinstance(value, ast.Tuple | ast.List):
            return [names(e, depth) for e in value.elts]
        if isinstance(value, ast.Name):
            inner = assigned.get(value.id)
            if isinstance(inner, ast.Tuple | ast.List) and inner.elts and depth < 3:
                return names(inner, depth + 1)
            return value.id
        return value.attr if isinstance(value, ast.Attribute) else ""

    return names(returns[-1]) if returns else ""


def names_m(reader: Reader, function: Callable[..., Any]) -> bool:
    """Does a function name the number of examples, as one does for a mean?"""
    node = reader.node(function)
    names = [n.id for n in ast.walk(node) if isinstance(n, ast.Name)] if node else []
    return any(role(name) == "m" for name in [*names, *parameters_of(function)])


def arrays_in(value: Any, names: Any = "", depth: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of numbers in nested dicts, tuples and lists, by keys and names if known."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from arrays_in(inner, str(key), depth + 1)
    elif isinstance(value, tuple | list) and not _is_vector(value):
        for i, inner in enumerate(value):
            name = names[i] if isinstance(names, list) and len(names) == len(value) else ""
            name = name or (f"{names}[{i}]" if isinstance(names, str) and names else "")
            if depth < 5:
                yield from arrays_in(inner, name, depth + 1)
    elif isinstance(value, np.ndarray | np.generic | float | int | list | tuple):
        array = np.asarray(value)
        if array.dtype.kind in "biufc":
            yield (names if isinstance(names, str) else ""), array


def _is_vector(value: Sequence[Any]) -> bool:
    """A list of plain numbers."""
    return bool(value) and all(isinstance(v, float | int) for v in value)


def numbered(found: Iterator[tuple[str, np.ndarray]]) -> Arrays:
    """Copies by name; what has none, or one that is taken, is numbered."""
    arrays: Arrays = {}
    for i, (name, array) in enumerate(found):
        arrays[name if name and name not in arrays else f"{name}#{i}"] = np.array(array)
    return arrays


def _number(name: str) -> int:
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else -1


# -- From what comes back to gradients -------------------------------------------------------------


def gradient_in(result: Any, names: Any, leaves: Arrays, takes_rate: bool) -> Answer | None:
    """The gradient in what a backward pass returned; None if there is none in it."""
    by_name = {plain(leaf): leaf for leaf in leaves}
    answer = Answer()
    if isinstance(result, tuple | list) and len(result) == 2 and _scalar(result[0]) is not None:
        inner = gradient_in(result[1], names[1] if isinstance(names, list) and len(names) == 2
                            else "", leaves, takes_rate)  # fmt: skip
        if inner is not None:
            inner.loss = _scalar(result[0])
            return inner
    lists = _by_lists(result, leaves)
    if lists:
        answer.gradient, answer.how = lists, "lists of layers"
        return answer
    found = dict(numbered(arrays_in(result, names)))
    if not found and not _objects(result):
        return None
    values = [*found.values()]
    for name, value in found.items():
        leaf = forms.of_gradient(name.split("[")[0] if "#" in name else name, by_name)
        if leaf and leaf not in answer.gradient:
            answer.gradient[leaf] = value
        else:
            answer.extra[name] = value
    for name in _objects(result):
        if forms.of_gradient(name, by_name):
            answer.problem = f"dtype: {name} is no array of numbers"
    if answer.gradient:
        kind = "dict" if isinstance(result, Mapping) else "tuple"
        answer.how = f"a {kind} with {', '.join(n for n in found if n not in answer.extra)}"
        if takes_rate and not set(found) - set(answer.extra) - set(leaves):
            answer.gradient = {k: (leaves[k] - v) / RATE for k, v in answer.gradient.items()
                               if v.shape == leaves[k].shape}  # fmt: skip
            answer.how = "(W - W') / rate, of the parameters that it returns"
    elif not isinstance(result, Mapping) and len(values) == len(leaves):
        answer.gradient, answer.extra = dict(zip(leaves, values, strict=True)), {}
        answer.how = f"a tuple without names, taken in the order {', '.join(leaves)}"
    return answer if answer.gradient or answer.problem else None


def _scalar(value: Any) -> float | None:
    """One number, or the one that a tuple has."""
    if isinstance(value, tuple):
        found = [number for number in map(_scalar, value) if number is not None]
        return found[0] if len(found) == 1 else None
    if isinstance(value, float | int | np.number) or (
        isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "fiu"
    ):
        return float(np.squeeze(value))
    return None


def _objects(result: Any) -> list[str]:
    """Keys whose values are no arrays of numbers."""
    if not isinstance(result, Mapping):
        return []
    return [str(k) for k, v in result.items() if not [*arrays_in(v)]]


def _by_lists(result: Any, leaves: Arrays) -> Arrays:
    """(nabla_b, nabla_w), two lists as long as the parameters' own, told apart by their shapes."""
    groups: dict[str, list[str]] = {}
    for leaf in leaves:
        groups.setdefault(leaf.split("[")[0], []).append(leaf)
    if not (isinstance(result, tuple | list) and len(result) == len(groups) > 0):
        return {}
    if not all(isinstance(part, list | tuple) for part in result):
        return {}
    parts, found = list(result), dict[str, np.ndarray]()
    for members in groups.values():
        wanted = [leaves[leaf].shape for leaf in members]

        def fits(part: Any, wanted: Any = wanted) -> int:
            if len(part) != len(wanted):
                return -1
            pairs = [(np.shape(v), w) for v, w in zip(part, wanted, strict=True)]
            return sum((v == w) + (len(v) == len(w) and v[:1] == w[:1]) for v, w in pairs)

        best = max(parts, key=fits, default=None)
        if best is None or fits(best) < 0:
            return {}
        parts = [part for part in parts if part is not best]
        found |= {leaf: np.asarray(v) for leaf, v in zip(members, best, strict=True)}
    return {leaf: found[leaf] for leaf in leaves}


# -- Functions -------------------------------------------------------------------------------------


@dataclass
class Functions:
    """`backward_propagation(parameters, cache, X, Y)` and its relatives."""

    reader: Reader
    module: ModuleType
    backward: Callable[..., Any]
    names: dict[str, str]  #: role of a function -> its name in the file
    leaves: list[str]  #: the parameters' names, in order
    shapes: dict[str, tuple[int, ...]]  #: none: any will do
    holds: str  #: how the parameters are passed: "dict", "list", "arguments", "lists", "globals"

    @property
    def form(self) -> str:
        told = signature(self.names["backward"], self.backward)
        forward = self.names.get("forward")
        return told + (
            f" with {signature(forward, getattr(self.module, forward))}" if forward else ""
        )

    @property
    def takes_rate(self) -> bool:
        return any(role(name) == "rate" for name in parameters_of(self.backward))

    @property
    def takes_m(self) -> bool:
        return names_m(self.reader, self.backward)

    def run(self, point: Point) -> Answer:
        reader, module = self.reader, self.module
        leaves = {k: v.copy() for k, v in point.leaves.items()}
        held = self._held(leaves)
        known: dict[str, Any] = {plain(k): v for k, v in leaves.items()} if held is None else {}
        known |= {plain(k): v for k, v in leaves.items()}
        known |= {"=X": point.X.copy(), "=Y": point.Y.copy(), "=m": point.m, "=rate": RATE,
                  "=l2": point.l2, "=keep": 1.0}  # fmt: skip
        if isinstance(held, dict) and self.holds == "lists":
            known |= {"=weights": held["weights"], "=biases": held["biases"]}
        elif held is not None:
            known |= {"=params": held, "=weights": held}
        set_globals(reader, known)
        if self.holds == "globals":
            module.__dict__.update(leaves)
        answer = Answer()
        cache: Any = point.cache
        forward = self.names.get("forward")
        if forward:
            function = getattr(module, forward)
            cache = calling(
                reader, forward, function, matched(forward, function, known, forward=True)
            )
            names = returned_names(reader, function)
            answer.forward = numbered(arrays_in(cache, names))
            answer.forward |= {
                k: v for k, v in module.__dict__.items()
                if isinstance(v, np.ndarray) and k not in leaves and v.dtype.kind == "f"
            } if self.holds == "globals" else {}  # fmt: skip
            if point.cache is not None:
                cache = _corrected(cache, point.cache)
        known |= _cached(cache)
        for name, value in answer.forward.items():
            if role(name) not in ("X", "Y", "m", "rate"):  # An output may be called Y too.
                known.setdefault(plain(name), value)
        if answer.forward:
            known.setdefault("=output", [*answer.forward.values()][-1])
        answer.loss = self._loss(known)
        before = {k: v.copy() for k, v in leaves.items()}
        backward = self.names["backward"]
        result = calling(reader, backward, self.backward, matched(backward, self.backward, known))
        found = gradient_in(result, returned_names(reader, self.backward), before, self.takes_rate)
        now = leaves if self.holds != "globals" else {k: module.__dict__[k] for k in leaves}
        if isinstance(held, dict) and self.holds == "dict":
            now = {k: np.asarray(held.get(k)) for k in leaves}
        if found is None:
            found = _by_update(before, now, self._rate())
        if found is None:
            raise Stop(_nothing(backward, result, [*leaves]))
        return Answer(found.gradient, answer.forward, found.extra,
                      answer.loss if answer.loss is not None else found.loss, found.how,
                      found.problem)  # fmt: skip

    def _rate(self) -> float:
        if self.takes_rate:
            return RATE
        if own := own_rate(self.reader, self.backward):
            return own
        rates = [v for k, v in self.module.__dict__.items()
                 if role(k) == "rate" and isinstance(v, float | int)]  # fmt: skip
        return float(rates[0]) if rates else 1.0

    def _held(self, leaves: Arrays) -> Any:
        if self.holds == "dict":
            return dict(leaves)
        if self.holds == "list":
            return list(leaves.values())
        if self.holds == "lists":
            return {
                kind: [v for k, v in leaves.items() if k.split("[")[0] == kind]
                for kind in ("weights", "biases")
            }
        return None

    def _loss(self, known: Mapping[str, Any]) -> float | None:
        name = self.names.get("loss")
        if not name:
            return None
        function = getattr(self.module, name)
        try:
            return _scalar(calling(self.reader, name, function, matched(name, function, known)))
        except Stop:
            return None


def _nothing(name: str, result: Any, leaves: list[str]) -> str:
    what = f"a {type(result).__name__}" if result is not None else "None"
    if isinstance(result, Mapping):
        what = f"a dict with the keys {', '.join(map(str, result)) or '(none)'}"
    elif isinstance(result, tuple | list):
        what = f"a {type(result).__name__} of {len(result)}"
    return (
        f"structure: {name} returned {what}, and changed no parameter; expected gradients for "
        f"{', '.join(leaves)}, as d{leaves[0]} … in a dict, a tuple or attributes"
    )


def _by_update(before: Arrays, after: Mapping[str, np.ndarray], rate: float) -> Answer | None:
    """(W − W′)/rate, where the parameters were changed in place."""
    same = {k: v for k, v in before.items() if np.shape(after[k]) == v.shape}
    if all(np.array_equal(after[k], v) for k, v in same.items()):
        return None
    gradient = {k: (v - after[k]) / rate if k in same else np.asarray(after[k])
                for k, v in before.items()}  # fmt: skip
    return Answer(gradient, how=f"(W - W') / {rate:g}, as it changes its weights in place")


def _cached(cache: Any) -> dict[str, Any]:
    """What a forward pass returned, for the arguments of the backward pass."""
    known: dict[str, Any] = {}
    if cache is None:
        return known
    parts = cache if isinstance(cache, tuple) else (cache,)
    rest = [p for p in parts if not isinstance(p, np.ndarray)]
    arrays = [p for p in parts if isinstance(p, np.ndarray)]
    known["=cache"] = rest[0] if len(rest) == 1 else cache
    if arrays:
        known["=output"] = arrays[-1] if len(arrays) == len(parts) else arrays[0]
    return known


def _corrected(cache: Any, right: Arrays) -> Any:
    """The same structure with the right values of what it has under their names."""
    by_name = {plain(k): v for k, v in right.items()}
    if isinstance(cache, dict):
        return {
            k: by_name[plain(str(k))].copy()
            if plain(str(k)) in by_name and np.shape(v) == by_name[plain(str(k))].shape
            else _corrected(v, right)
            for k, v in cache.items()
        }
    return cache


# -- Classes ---------------------------------------------------------------------------------------


@dataclass
class Instance:
    """A class with `loss(X, y)`, `forward` and `backward`, or `backprop(x, y)`."""

    reader: Reader
    module: ModuleType
    kind: type
    names: dict[str, str]
    sizes: dict[str, Any]
    leaves: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    holds: str = "attributes"

    @property
    def form(self) -> str:
        name = self.names["backward"]
        told = signature(f"{self.kind.__name__}.{name}", getattr(self.kind, name))
        told = told.replace("(self, ", "(").replace("(self)", "()")
        forward = self.names.get("forward")
        return told + (f" after {forward}" if forward else "")

    @property
    def takes_m(self) -> bool:
        return names_m(self.reader, getattr(self.kind, self.names["backward"]))

    def make(self, X: np.ndarray, Y: np.ndarray) -> Any:
        """An object of the class, with sizes, data and rate by the constructor's names."""
        name = self.kind.__name__
        given: dict[str, Any] = {}
        for argument, parameter in parameters_of(self.kind).items():
            size = role(argument, forms.SIZES) or role(argument.rstrip("0123456789"), forms.SIZES)
            stands_for = role(argument)
            if parameter.default is parameter.empty or size in ("n_x", "n_h", "C", "sizes", "n_hs"):
                values = {"X": X, "Y": Y, "rate": RATE, "l2": 0.0, "keep": 1.0}
                if size and not (stands_for in ("X", "Y") and self._wants_data()):
                    number = _number(argument) if size == "n_h" else 0
                    given[argument] = self.sizes["widths"][number - 1] if number > 0 \
                        else self.sizes[size]  # fmt: skip
                elif stands_for in values:
                    given[argument] = values[stands_for]
                elif parameter.default is parameter.empty:
                    raise Stop(
                        f"{name} takes {argument}, and nothing of that name is known: give it a "
                        "default, or write an adapter of five lines (docs/homework.md)"
                    )
        return calling(self.reader, name, self.kind, given)

    def _wants_data(self) -> bool:
        roles = {role(a) for a in parameters_of(self.kind)}
        return {"X", "Y"} <= roles

    def run(self, point: Point) -> Answer:
        reader = self.reader
        made = self.make(point.X.copy(), point.Y.copy())
        slots = dict(slots_of(made))
        for leaf, value in point.leaves.items():
            slots[leaf].set(value.copy())
        known: dict[str, Any] = {
            "=X": point.X.copy(), "=Y": point.Y.copy(), "=m": point.m, "=rate": RATE,
            "=l2": point.l2, "=keep": 1.0, "=once": 1,
        }  # fmt: skip
        set_globals(reader, known)
        for held in ("X", "Y"):
            for name in list(attributes(made)):
                if role(name) == held and isinstance(getattr(made, name), np.ndarray | type(None)):
                    setattr(made, name, known[f"={held}"])
        answer = Answer()
        if forward := self.names.get("forward"):
            function = getattr(made, forward)
            result = calling(
                reader, forward, function, matched(forward, function, known, forward=True)
            )
            answer.forward = numbered(arrays_in(result, returned_names(reader, function)))
            known |= _cached(result)
            own = self._holders() | {n for n in attributes(made) if role(n) in ("X", "Y")}
            for name, value in attributes(made).items():
                if isinstance(value, np.ndarray) and value.dtype.kind == "f" and name not in own:
                    answer.forward.setdefault(name, value.copy())
                    known.setdefault(plain(name), value)
                elif isinstance(value, list | dict) and name not in self._holders():
                    for key, array in numbered(arrays_in(value, name)).items():
                        answer.forward.setdefault(key, array.copy())
        answer.loss = self._loss(made, known)
        before = {leaf: np.array(slots[leaf].get()) for leaf in self.leaves}
        backward = self.names["backward"]
        function = getattr(made, backward)
        result = calling(reader, backward, function, matched(backward, function, known))
        takes_rate = any(role(a) == "rate" for a in parameters_of(function))
        found = gradient_in(result, returned_names(reader, function), before, takes_rate)
        found = found if found and len(found.gradient) == len(before) else None
        after = {leaf: slot.get() for leaf, slot in slots_of(made) if leaf in before}
        found = found or _by_update(before, {**before, **after}, self._rate(made, takes_rate))
        found = found or self._in_attributes(made, before)
        if found is None:
            raise Stop(_nothing(f"{self.kind.__name__}.{backward}", result, self.leaves))
        loss = answer.loss if answer.loss is not None else found.loss
        return Answer(found.gradient, answer.forward, found.extra, loss, found.how, found.problem)

    def _holders(self) -> set[str]:
        return {re.split(r"[.\[]", leaf.removeprefix("self."))[0] for leaf in self.leaves}

    def _rate(self, made: Any, takes_rate: bool) -> float:
        if takes_rate:
            return RATE
        if own := own_rate(self.reader, getattr(self.kind, self.names["backward"])):
            return own
        for name, value in [*attributes(made).items(), *self.module.__dict__.items()]:
            if role(name) == "rate" and isinstance(value, float | int) and value:
                return float(value)
        return 1.0

    def _in_attributes(self, made: Any, before: Arrays) -> Answer | None:
        """self.dW1, self.grads["W1"], self.grad_w[0]: whatever is named after a parameter."""
        by_name = {plain(leaf): leaf for leaf in before}
        by_name |= {plain(leaf.removeprefix("self.")): leaf for leaf in before}
        gradient: Arrays = {}
        sources: list[str] = []
        holders = [slot.holder for _, slot in slots_of(made)]
        for name, value in attributes(made).items():
            if f"self.{name}" in before or any(value is holder for holder in holders):
                continue  # The parameters themselves.
            for key, array in numbered(arrays_in(value, name)).items():
                leaf = forms.of_gradient(key, by_name)
                if leaf and leaf not in gradient:
                    gradient[leaf] = np.array(array)
                    sources.append(f"self.{name}" + ("" if key == name else f"[{key!r}]"))
        if not gradient:
            return None
        gradient = {leaf: gradient[leaf] for leaf in before if leaf in gradient}
        return Answer(gradient, how=f"attributes: {', '.join(sources)}")

    def _loss(self, made: Any, known: Mapping[str, Any]) -> float | None:
        name = self.names.get("loss")
        if not name:
            return None
        function = getattr(made, name, None) or getattr(self.module, name)
        try:
            return _scalar(calling(self.reader, name, function, matched(name, function, known)))
        except Stop:
            return None


@dataclass
class Slot:
    """A place in an object that holds a parameter."""

    holder: Any
    key: Any

    def get(self) -> Any:
        return getattr(self.holder, self.key) if self._is_object() else self.holder[self.key]

    def set(self, value: Any) -> None:
        if self._is_object():
            setattr(self.holder, self.key, value)
        else:
            self.holder[self.key] = value

    def _is_object(self) -> bool:
        return not isinstance(self.holder, dict | list)


#: Attributes of numbers that are no parameters.
NO_PARAMETER = re.compile(
    r"^(d|grad|delta|nabla|v|vel|m|mom|velocity|momentum|cache|prev|last)_?(w|b|W|B|\d|s?$)"
    r"|^(z|a|h|o)\d*s?$|velocity|momentum|grad|loss|err|history|layer\d"
    r"|hidden(?!.*weight)(_?output|_?layer)?$"
)


def slots_of(made: Any) -> Iterator[tuple[str, Slot]]:
    """The parameters of an object: arrays in attributes, dicts, lists, and lists of layers."""
    for name, value in attributes(made).items():
        if NO_PARAMETER.search(name) or role(name) in ("X", "Y", "output", "cache"):
            continue
        if _is_parameter(value):
            yield f"self.{name}", Slot(made, name)
        elif isinstance(value, dict) and value:
            for key, inner in value.items():
                if _is_parameter(inner):
                    yield str(key), Slot(value, key)
        elif isinstance(value, list) and value:
            for i, inner in enumerate(value):
                if _is_parameter(inner):
                    yield f"{name}[{i}]", Slot(value, i)
                elif hasattr(inner, "__dict__"):
                    for key, deep in vars(inner).items():
                        if _is_parameter(deep) and not NO_PARAMETER.search(key):
                            yield f"{name}[{i}].{key}", Slot(inner, key)
        elif hasattr(value, "__dict__") and not callable(value) and not isinstance(value, type):
            for key, deep in vars(value).items():
                if _is_parameter(deep) and not NO_PARAMETER.search(key):
                    yield f"{name}.{key}", Slot(value, key)


def _is_parameter(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and 1 <= value.ndim <= 2


# -- Which form is it? -----------------------------------------------------------------------------


def find(
    reader: Reader, module: ModuleType, asked: str, sizes: dict[str, Any]
) -> Functions | Instance:
    """The backward pass of a module, by the tables of `forms`, or the one that was asked for."""
    functions = {
        k: v
        for k, v in vars(module).items()
        if isinstance(v, FunctionType) and v.__code__.co_filename in reader.sources
    }
    classes = {k: v for k, v in vars(module).items()
               if isinstance(v, type) and v.__module__ == module.__name__}  # fmt: skip
    if asked:
        return _asked(reader, module, asked, functions, classes, sizes)
    own = sorted((n for n in functions if plain(n) in forms.BACKWARD),
                 key=lambda n: forms.rank(n, forms.BACKWARD))  # fmt: skip
    if own and not _is_of_a_layer(functions[own[0]]):
        return _functions(reader, module, own[0], functions, sizes)
    for name, kind in classes.items():
        method = _backward_method(kind)
        if method and not _is_of_a_layer(getattr(kind, method)):
            return _instance(reader, module, name, method, classes, functions, sizes)
    raise Stop(_not_found(functions, classes))


def _asked(
    reader: Reader, module: ModuleType, asked: str, functions: Mapping[str, Any],
    classes: Mapping[str, type], sizes: dict[str, Any],
) -> Functions | Instance:  # fmt: skip
    name, _, method = asked.partition(".")
    if name in functions and not method:
        return _functions(reader, module, name, functions, sizes)
    if name in classes:
        method = method or _backward_method(classes[name]) or ""
        if method and callable(getattr(classes[name], method, None)):
            return _instance(reader, module, name, method, classes, functions, sizes)
    there = [*functions, *(f"{c}.{m}" for c, k in classes.items() for m in _methods(k))]
    raise Stop(f"it defines no {asked}; it has {', '.join(there) or 'no function at all'}")


def _methods(kind: type) -> list[str]:
    return [m for m in dir(kind) if m[0] != "_" and callable(getattr(kind, m))]


def _backward_method(kind: type) -> str:
    """The backward pass of a class; a `loss` that takes X and y and returns gradients, if none."""
    found = sorted((m for m in _methods(kind) if plain(m) in forms.BACKWARD),
                   key=lambda m: forms.rank(m, forms.BACKWARD))  # fmt: skip
    if found:
        return found[0]
    return _loss_method(kind) or next(
        (m for name in forms.TRAINING for m in _methods(kind) if plain(m) == name), ""
    )


def _loss_method(kind: type) -> str:
    for method in _methods(kind):
        roles = {role(a) for a in parameters_of(getattr(kind, method))}
        if plain(method) in ("loss", "lossandgrad", *forms.FORWARD) and {"X", "Y"} <= roles:
            return method
    return ""


#: What a layer's backward pass calls the derivative that comes from above.
ABOVE = re.compile(r"(d(out|values?|inputs?|a|z|y|output)?|grad\w*|delta|upstream|output_grad\w*)$")


def _is_of_a_layer(function: Callable[..., Any]) -> bool:
    """backward(self, dout): a layer's, which takes what comes from above."""
    names = [n for n in parameters_of(function) if n != "self"]
    above = [n for n in names if ABOVE.match(n.lower())]
    return bool(above) and not any(role(n) == "Y" for n in names)


def _not_found(functions: Mapping[str, Any], classes: Mapping[str, type]) -> str:
    there = [*functions, *(f"{c}.{m}" for c, k in classes.items() for m in _methods(k))]
    layers = [c for c, k in classes.items() if (m := _backward_method(k))
              and _is_of_a_layer(getattr(k, m))]  # fmt: skip
    if layers:
        return (
            f"{', '.join(layers)} {'is a layer' if len(layers) == 1 else 'are layers'}, whose "
            "backward takes what comes from above; write an adapter that puts them together "
            "(docs/homework.md)"
        )
    close = [n for n in there if forms.near(n.split(".")[-1], forms.BACKWARD)]
    close = close or [n for n in there if re.search("back|grad", n.lower())]
    told = "it defines no backward pass under a usual name (back_propagate, backward, …)"
    if close:
        return (
            f"{told}; found {', '.join(close)}: if that is it, name it with `function` {close[0]}"
        )
    if there:
        return f"{told}; it has {', '.join(there[:12])}: name one with `function`"
    return f"{told}, nor any other function"


def _relatives(functions: Mapping[str, Any], backward: str) -> dict[str, str]:
    names = {"backward": backward}
    for what, table in (
        ("forward", forms.FORWARD),
        ("loss", forms.LOSS),
        ("initial", forms.INITIAL),
    ):
        found = sorted(
            (n for n in functions if plain(n) in table), key=lambda n: forms.rank(n, table)
        )
        if found:
            names[what] = found[0]
    return names


def _instance(
    reader: Reader, module: ModuleType, name: str, method: str, classes: Mapping[str, type],
    functions: Mapping[str, Any], sizes: dict[str, Any],
) -> Instance:  # fmt: skip
    kind = classes[name]
    names = {"backward": method}
    for what, table in (("forward", forms.FORWARD), ("loss", forms.LOSS)):
        found = [m for m in _methods(kind) if plain(m) in table and m != method]
        found = sorted(found, key=lambda n: forms.rank(n, table))
        if found:
            names[what] = found[0]
        elif what == "loss":
            names |= {k: v for k, v in _relatives(functions, method).items() if k == "loss"}
    instance = Instance(reader, module, kind, names, sizes)
    m, n_x, C = sizes["m"], sizes["n_x"], sizes["C"]
    made = instance.make(np.ones((m, n_x)), np.ones((m, C)))
    shapes = {leaf: np.shape(slot.get()) for leaf, slot in slots_of(made)}
    instance.leaves, instance.shapes = [*shapes], shapes
    if not shapes:
        raise Stop(f"{name} keeps no arrays of weights in its attributes after it is made")
    return instance


def _functions(
    reader: Reader, module: ModuleType, name: str, functions: Mapping[str, Any],
    sizes: Mapping[str, Any],
) -> Functions:  # fmt: skip
    """Where its parameters come from: an argument, arguments one by one, or globals."""
    names = _relatives(functions, name)
    arguments = [a for f in ("forward", "backward") if f in names
                 for a in parameters_of(functions[names[f]])]  # fmt: skip
    roles = {role(a) for a in arguments}
    single = [a for a in dict.fromkeys(arguments) if _names_one(a)]
    nodes = [reader.node(functions[names[f]]) for f in ("forward", "backward") if f in names]
    if "params" in roles or ("weights" in roles and "biases" not in roles and not single):
        holders = {a for a in arguments if role(a) in ("params", "weights")}
        keys = [k for node in nodes if node for k in _keys(node, holders)]
        leaves, holds = list(dict.fromkeys(keys)), "dict"
        leaves = _all_layers(leaves, alone="forward" not in names)
        if not leaves:
            leaves = _initialised(reader, names, functions, sizes)
    elif {"weights", "biases"} <= roles and not single:
        leaves, holds = [], "lists"
    elif single:
        leaves, holds = single, "arguments"
    else:
        read = [n for node in nodes if node for n in _loaded(node)]
        leaves = [n for n in dict.fromkeys(read) if _names_one(n)]
        holds = "globals"
    return Functions(reader, module, functions[name], names, leaves, {}, holds)


def _all_layers(leaves: list[str], *, alone: bool) -> list[str]:
    """W1, b1, W2 … of every layer, where some of them are read: a bias may be forgotten.

    A backward pass alone does not read the first W; nothing is known where names have no number.
    """
    layers = [_number(leaf) for leaf in leaves]
    kinds = {re.sub(r"\d+$", "", leaf) for leaf in leaves}
    if not leaves or min(layers) < 1 or {plain(kind) for kind in kinds} - {"w", "b"}:
        return [] if alone else leaves
    W = "w" if "w" in kinds else "W"
    b = "B" if "B" in kinds else "b"
    kept = [W, b] if alone or b in kinds else [W]
    return [f"{kind}{i}" for i in range(1, max(layers) + 1) for kind in kept]


def _initialised(
    reader: Reader, names: Mapping[str, str], functions: Mapping[str, Any],
    sizes: Mapping[str, Any],
) -> list[str]:  # fmt: skip
    """The keys of the dict that the file initialises; none where it cannot be called."""
    if "initial" not in names:
        return []
    function = functions[names["initial"]]
    given = {a: sizes[size] for a in parameters_of(function) if (size := role(a, forms.SIZES))}
    try:
        made = calling(reader, names["initial"], function, given)
    except Stop:
        return []
    if not isinstance(made, dict):
        return []
    return [str(k) for k, v in made.items() if isinstance(v, np.ndarray)]


def _names_one(name: str) -> bool:
    """W1, b2, weights1, bias_2: one layer's parameter."""
    return bool(re.fullmatch(r"(w|b|weights?|bias(es)?|theta|v|c|syn|synapse|u)\d+|wh|wo|bh|bo|whh",
                             plain(name)))  # fmt: skip


def _loaded(node: ast.FunctionDef) -> list[str]:
    """The names that a function reads, in the order of the text."""
    found = [n for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    return [n.id for n in sorted(found, key=lambda n: (n.lineno, n.col_offset))]


def _keys(node: ast.FunctionDef, holders: set[str]) -> list[str]:
    """The constant keys that a function looks up in one of the holders, in textual order."""
    found = [
        n
        for n in ast.walk(node)
        if isinstance(n, ast.Subscript)
        and isinstance(n.value, ast.Name)
        and n.value.id in holders
        and isinstance(n.slice, ast.Constant)
        and isinstance(n.slice.value, str)
    ]
    return [str(n.slice.value) for n in sorted(found, key=lambda n: (n.lineno, n.col_offset))  # type: ignore[attr-defined]
            ]  # fmt: skip
