"""Operations that stand at one place of the source: a step of a loop is one instance of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxnn.gradcheck.tape import Op, Tape


@dataclass(frozen=True)
class Group:
    """Some instances of one site, edited together."""

    ops: tuple[int, ...]
    part: str  #: "all", "role", "first", "last", "one" …: which of the site's instances
    of: int  #: how many instances the site, or the role, has


class Sites:
    """The sites of a tape, and what lies above what."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape

    @cached_property
    def keys(self) -> list[Any]:
        """The site of each operation: its place in the source, and its rank at that place."""
        ops = self.tape.ops
        keys: list[Any] = [None] * len(ops)
        i = 0
        while i < len(ops):
            j = i
            while j < len(ops) and _at(ops[j]) == _at(ops[i]):
                j += 1
            run = ops[i:j]
            period = _period([(op.name, op.inner, self.tape.shape(op.output)) for op in run])
            for n, op in enumerate(run):
                keys[op.number] = (op.frames, op.inner, op.name, n % period)
            i = j
        return keys

    @cached_property
    def instances(self) -> dict[Any, list[int]]:
        found: dict[Any, list[int]] = {}
        for op in self.tape.ops:
            if op.pulls:
                found.setdefault(self.keys[op.number], []).append(op.number)
        return found

    @cached_property
    def above(self) -> list[int]:
        """For each value, the operations that it is computed from, as bits."""
        bits = [0] * len(self.tape.values)
        for op in self.tape.ops:
            mask = 1 << op.number
            for k in op.pulls:
                mask |= bits[op.inputs[k]]
            bits[op.output] = mask
        return bits

    @cached_property
    def leaves_above(self) -> list[frozenset[int]]:
        """For each value, the parameters that it depends on."""
        found: list[frozenset[int]] = [frozenset()] * len(self.tape.values)
        for leaf in self.tape.leaves.values():
            found[leaf] = frozenset([leaf])
        for op in self.tape.ops:
            found[op.output] = frozenset().union(*(found[op.inputs[k]] for k in op.pulls))
        return found

    def parallel(self, ops: Sequence[int]) -> bool:
        """Does none of the operations lie above another?"""
        if len(ops) < 2:
            return True
        among = 0
        for number in ops:
            among |= 1 << number
        return not any(
            self.above[self.tape.ops[n].inputs[k]] & among
            for n in ops
            for k in self.tape.ops[n].pulls
        )

    def role(self, number: int) -> frozenset[int]:
        """The parameters that an instance depends on by itself, not through another instance."""
        key = self.keys[number]
        seen: set[int] = set()
        leaves: set[int] = set()
        todo = [self.tape.ops[number].inputs[k] for k in self.tape.ops[number].pulls]
        everything = set(self.tape.leaves.values())
        while todo:
            value = todo.pop()
            if value in seen:
                continue
            seen.add(value)
            if value in everything:
                leaves.add(value)
            producer = self.tape.producer[value]
            if producer < 0 or self.keys[producer] == key:
                continue
            op = self.tape.ops[producer]
            todo += [op.inputs[k] for k in op.pulls]
        return frozenset(leaves)

    @cached_property
    def roles(self) -> list[tuple[int, ...]]:
        """The instances of each site, divided by the parameters that they belong to.

        An instance that lacks some of the parameters that the others have, such as the first step
        of a loop whose state is still a constant, belongs to those.
        """
        found: list[tuple[int, ...]] = []
        for members in self.instances.values():
            if len(members) == 1:
                found.append(tuple(members))
                continue
            parts: dict[frozenset[int], list[int]] = {}
            for number in members:
                parts.setdefault(self.role(number), []).append(number)
            whole = sorted(parts, key=len, reverse=True)
            merged: dict[frozenset[int], list[int]] = {}
            for role in whole:
                home = [r for r in merged if role < r]
                merged.setdefault(home[0] if len(home) == 1 else role, []).extend(parts[role])
            found += [tuple(sorted(numbers)) for numbers in merged.values()]
        return found

    @cached_property
    def role_of(self) -> dict[int, tuple[int, ...]]:
        return {number: role for role in self.roles for number in role}

    def groups(self) -> Iterator[Group]:
        """Every role first, then whole sites of several roles."""
        for role in self.roles:
            yield Group(role, "role", len(role))
        for members in self.instances.values():
            if len(members) > 1 and tuple(members) not in self.roles:
                yield Group(tuple(members), "all", len(members))

    def parts(self, role: tuple[int, ...]) -> Iterator[Group]:
        """Some steps of a loop: all but one end, one end, each one."""
        n = len(role)
        if n < 2:
            return
        yield Group(role[1:], "all but the first", n)
        yield Group(role[:-1], "all but the last", n)
        if n <= 16:
            for i in range(n):
                yield Group((role[i],), f"step {i}", n)

    def shifted(self, values: Sequence[int], by: int) -> list[int | None]:
        """The values at the neighbouring step; None beyond the end."""
        n = len(values)
        return [values[i + by] if 0 <= i + by < n else None for i in range(n)]


def _at(op: Op) -> Any:
    return op.frames, op.inner[:-1]


def _period(names: list[Any]) -> int:
    """After how many operations the same ones come again, where they come again and again."""
    n = len(names)
    for p in range(1, n // 2 + 1):
        if n % p == 0 and names == names[:p] * (n // p):
            return p
    return n
