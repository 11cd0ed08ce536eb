"""Places on a tape that can be edited, and what a trial of edits there is.

A trial is one place and a batch of edits of it, each with a label: the code, what is said of the
place, and how far-fetched it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from jaxnn.gradcheck.backward import Backward, Edits, Reverse, add
from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.regions import Region, regions
from jaxnn.gradcheck.sites import Group, Sites
from jaxnn.gradcheck.source import Source
from jaxnn.gradcheck.stretches import Stretch, stretches
from jaxnn.gradcheck.tape import (
    Op,
    Tape,
)


@dataclass(frozen=True)
class Label:
    """One edit in words: `said` continues the sentence that begins with the place."""

    code: str
    said: str
    cost: float
    factor: float | None = None
    right: str = ""  #: what belongs there instead, if it is more than the true derivative
    free: int = 0  #: how many numbers are fitted
    fit: bool = True  #: may another factor come on top?


@dataclass(frozen=True, eq=False)
class Trial:
    """A batch of edits at one place. Where `linear`, the first leaves the place out, and the
    gradient is linear in a factor on it."""

    group: Group
    about: Callable[[], str]  #: "the derivative along `h` in `h @ Whh`"
    line: Op  #: the operation whose line is told
    labels: Sequence[Label]
    edits: Edits
    linear: bool = False
    fitted: Label | None = None  #: the label of the true message with another factor
    affine: bool = False  #: the second edit is the true one, the others are added to it by a factor
    level: int = 0  #: which of the operation's frames is told
    key: Any = None  #: what is the same for the same habit at other places
    zero: int = 0  #: the number of the edit that leaves the place out

    named: bool = False  #: has the user a name for what the derivative is taken along?

    def only(self, numbers: Sequence[int]) -> "Trial":
        """The trial with some of its edits. Where one of them lies above another they are all."""
        n = len(self.labels)
        if len(numbers) == n:
            return self
        at = np.array(sorted(numbers))

        def some(edit: Reverse) -> Reverse:
            def reverse(ct: Float64Array) -> dict[int, Float64Array]:
                if len(ct) > 1:  # One cotangent for each of the edits that are left.
                    wide = np.zeros((n, *ct.shape[1:]))
                    wide[at] = ct
                    ct = wide
                return {v: m[at] if len(m) == n else m for v, m in edit(ct).items()}

            return reverse

        return replace(
            self,
            labels=[self.labels[i] for i in at],
            edits={number: some(edit) for number, edit in self.edits.items()},
            zero=int(np.flatnonzero(at == self.zero)[0]) if self.zero in at else 0,
        )

    @cached_property
    def subject(self) -> str:
        return self.about()


@dataclass
class Context:
    """All that a family may look at."""

    tape: Tape
    backward: Backward
    sites: Sites
    source: Source
    given: Mapping[str, Float64Array] = field(default_factory=dict)
    suspects: frozenset[int] | None = None  #: the values that a cotangent may be wrong of

    def suspect(self, value: int) -> bool:
        return self.suspects is None or value in self.suspects

    def free(self, numbers: Sequence[int]) -> bool:
        """Is nothing adopted there yet?"""
        return not any(number in self.backward.adopted for number in numbers)

    def on_use(
        self, numbers: Sequence[int], k: int, message: Callable[[int, Op, Float64Array], Any]
    ) -> dict[int, Reverse]:
        """Edits that replace the message along operand k: message(instance, op, ct)."""
        edits: dict[int, Reverse] = {}
        for i, number in enumerate(numbers):
            op = self.tape.ops[number]

            def reverse(ct: Float64Array, i: int = i, op: Op = op) -> dict[int, Float64Array]:
                messages: dict[int, Float64Array] = {}
                for other, pull in op.pulls.items():
                    add(
                        messages,
                        op.inputs[other],
                        message(i, op, ct) if other == k else pull(ct),
                    )
                return messages

            edits[number] = reverse
        return edits

    def on_result(
        self, numbers: Sequence[int], change: Callable[[int, Op, Float64Array], Any]
    ) -> dict[int, Reverse]:
        """Edits that change the cotangent of a result before it is passed on."""
        edits: dict[int, Reverse] = {}
        for i, number in enumerate(numbers):
            op = self.tape.ops[number]
            base = self.backward.reverse(number)

            def reverse(
                ct: Float64Array, i: int = i, op: Op = op, base: Reverse = base
            ) -> Mapping[int, Float64Array]:
                return base(change(i, op, ct))

            edits[number] = reverse
        return edits

    def uniform(self, group: Group) -> bool:
        """Have all its instances the same shapes?"""
        ops = [self.tape.ops[n] for n in group.ops]
        return len({tuple(self.tape.shape(v) for v in (*op.inputs, op.output)) for op in ops}) == 1

    @cached_property
    def groups(self) -> list[Group]:
        return list(self.sites.groups())

    @cached_property
    def uses(self) -> list[int]:
        """How many operations use a value."""
        count = [0] * len(self.tape.values)
        for op in self.tape.ops:
            for k in op.pulls:
                count[op.inputs[k]] += 1
        return count

    @cached_property
    def regions(self) -> Mapping[int, list[Region]]:
        return regions(self.tape)

    @cached_property
    def stretches(self) -> dict[int, list[Stretch]]:
        """By the operation that they end with."""
        found: dict[int, list[Stretch]] = {}
        for stretch in stretches(self.tape, self.sites):
            found.setdefault(stretch.end, []).append(stretch)
        return found

    def alike(self, count: int, shape: tuple[int, ...]) -> list[tuple[str, Any, Any]]:
        """Other values of a shape, one for each instance: (name, numbers, arrays stacked)."""
        key = count, shape
        if key not in self._alike:
            found = []
            for role in self.sites.roles:
                values = [self.tape.ops[i].output for i in role]
                if len(values) == count + 1 and count > 1:
                    values = values[1:]  # Before the first step the state is a constant.
                if len(values) == count and self.tape.shape(values[0]) == shape:
                    arrays = np.stack([np.asarray(self.tape.values[v], np.float64) for v in values])
                    found.append((self.name(values[-1]), values, arrays))
            for value, name in self.tape.given_names.items():
                array = np.asarray(self.tape.values[value])
                if array.shape == shape and array.dtype.kind in "fbiu":
                    wide = np.broadcast_to(array.astype(np.float64), (count, *shape))
                    found.append((name, [value] * count, wide))
            self._alike[key] = found
        known: list[tuple[str, Any, Any]] = self._alike[key]
        return known

    @cached_property
    def _alike(self) -> dict[Any, Any]:
        return {}

    def name(self, value: int) -> str:
        found = self.source.value(value)
        if found:
            return found
        producer = self.tape.producer[value]
        if producer < 0:
            return "another value"
        return self.source.expression(self.tape.ops[producer])

    def steps(self, group: Group) -> str:
        """ ", in all 6 steps"; empty where there is only one."""
        if group.of < 2 or not group.ops:
            return ""
        if group.part == "role":
            return f", in all {group.of} steps"
        if group.part == "all":
            return f", at all {group.of} places"
        return f", in {group.part} of {group.of} steps"

    def role(self, group: Group) -> str:
        """Which of several things that one line of source is used for: ", for `W_f` and `b_f`"."""
        if not group.ops or group.part == "all":
            return ""
        number = group.ops[-1]
        members = self.sites.instances[self.sites.keys[number]]
        others = [r for r in self.sites.roles if r[0] in members and number not in r]
        if not others:
            return ""
        own = self.sites.role(number)
        shared = frozenset.union(*(self.sites.role(r[-1]) for r in others))
        names = sorted(self.tape.given_names[v] for v in own - shared)
        return f", for {' and '.join(f'`{n}`' for n in names)}" if 0 < len(names) < 4 else ""


def along(context: Context, op: Op, k: int) -> Callable[[], str]:
    def about() -> str:
        operand = context.source.operand(op, k) or op.name
        whole = context.source.expression(op)
        along = "" if operand == whole else f" along `{operand}`"
        return f"the derivative{along} in {inside(context, op)}"

    return about


def by_result(context: Context, op: Op) -> Callable[[], str]:
    def about() -> str:
        name = context.source.names.get(op.output)
        told = f"`{name}` = " if name else ""
        return f"the derivative by {told}{inside(context, op)}"

    return about


def inside(context: Context, op: Op, level: int = 0) -> str:
    return f"`{context.source.expression(op, level)}` ({context.source.line(op, level)})"


def wrapped(name: str, pattern: str) -> str:
    return name if name.isidentifier() or pattern == "{}" else f"({name})"
