"""Which edit of the true backward pass gives the numbers at hand.

Every trial is evaluated; an edit is a hit where a leaf that was wrong becomes right, in all of its
entries to the noise floor, and none that was right becomes wrong. Of the hits the one that
explains most is adopted, and the search goes on with what is left.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from jaxnn.gradcheck.backward import Backward, Edits, add
from jaxnn.gradcheck.compare import Float64Array, largest
from jaxnn.gradcheck.edits import FAMILIES, named_constants
from jaxnn.gradcheck.masks import any_mask
from jaxnn.gradcheck.places import Context, Label, Trial
from jaxnn.gradcheck.reference import float64_rules
from jaxnn.gradcheck.routes import constants, uses
from jaxnn.gradcheck.sites import Group, Sites
from jaxnn.gradcheck.slopes import slopes
from jaxnn.gradcheck.source import Source
from jaxnn.gradcheck.tangents import DIRECTIONS, Tangents
from jaxnn.gradcheck.tape import Tape
from jaxnn.gradcheck.whole import wholes

#: So many numbers more than it has free ones must an edit explain.
EVIDENCE = 2

#: The search's own time: a busy machine takes nothing away from it.
clock = time.thread_time

#: After so many seconds the search stops and says how far it came.
SECONDS = 10.0

#: After so many seconds it says that it is still at work.
PATIENCE = 2.0


class Hit(NamedTuple):
    """An edit that makes wrong leaves right."""

    trial: Trial
    label: Label
    factor: float  #: on the edited message
    edits: Edits
    leaves: tuple[str, ...]  #: that it makes right
    cost: float
    numbers: int  #: how many entries it accounts for


class Target:
    """The gradient at hand in one row, and what the pass gives as it stands."""

    def __init__(
        self,
        tape: Tape,
        given: Mapping[str, Float64Array],
        floors: Mapping[str, Float64Array | float],
    ) -> None:
        self.paths = tuple(tape.leaves)
        sizes = [int(np.prod(tape.shape(tape.leaves[p]), dtype=int)) for p in self.paths]
        self.bounds = np.cumsum([0, *sizes])
        known = [
            p in given and np.shape(given[p]) == tape.shape(tape.leaves[p]) for p in self.paths
        ]
        self.comparable = np.array(known, bool)
        self.given = np.concatenate(
            [
                np.asarray(given[p], np.float64).ravel() if ok else np.full(n, np.nan)
                for p, n, ok in zip(self.paths, sizes, known, strict=True)
            ]
        )
        self.floor = np.concatenate(
            [
                np.broadcast_to(
                    np.asarray(floors[p], np.float64), tape.shape(tape.leaves[p])
                ).ravel()
                for p in self.paths
            ]
        )
        self.now = np.zeros_like(self.given)
        self.accepted: set[str] = set()  #: leaves that are explained by themselves

    def stand(self, backward: Backward) -> None:
        self.now = np.concatenate([v.ravel() for v in backward.gradient().values()])
        #: Numbers larger than the true ones are rounded more.
        finite = np.where(np.isfinite(self.given), self.given, 0.0)
        grown = largest(finite) / max(largest(self.now), 1e-300)
        self.limit = self.floor * max(1.0, grown)
        self.settled = np.array([path in self.accepted for path in self.paths], bool)
        self.right = self.leaves_right(self.now[None])[0]

    def leaves_right(self, rows: Float64Array) -> Any:
        """(edits, leaves): which leaves are what was given, in every entry."""
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(rows - self.given) <= self.limit)
        starts = self.bounds[:-1]
        if not len(starts):
            return np.zeros((len(rows), 0), bool)
        full = np.zeros((len(rows), len(starts)), bool)
        some = self.bounds[1:] > starts
        if some.any():
            full[:, some] = np.logical_or.reduceat(wrong, starts[some], axis=1)
        return ~full | self.settled

    def part(self, i: Any) -> slice:
        return slice(int(self.bounds[i]), int(self.bounds[i + 1]))


class Progress:
    """A line on the terminal, beyond the first seconds of a search."""

    def __init__(self) -> None:
        self.next = time.monotonic() + PATIENCE
        self.shown = False

    def tell(self, tried: int) -> None:
        if time.monotonic() > self.next and sys.stderr.isatty():
            self.next, self.shown = time.monotonic() + 0.5, True
            print(f"\rlooking for the mistake: {tried} edits tried", end="", file=sys.stderr)

    def end(self) -> None:
        if self.shown:
            print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)


class Search:
    """The search for the edits that explain a gradient."""

    def __init__(self, context: Context, target: Target, seconds: float = SECONDS) -> None:
        self.context, self.target = context, target
        self.deadline = clock() + seconds
        self.tried = 0
        self.progress = Progress()
        self.stand()

    @cached_property
    def constants(self) -> list[tuple[str, float]]:
        return list(named_constants(self.context).items())

    # -- Trials ------------------------------------------------------------------------------------

    def trials(self, groups: Iterable[Group], families: Any = FAMILIES) -> Iterator[Trial]:
        for group in groups:
            active = all(self.context.tape.ops[n].pulls for n in group.ops)
            if not active or not self.context.free(group.ops):
                continue
            for family in families:
                for trial in family(self.context, group):
                    yield trial
                    self.progress.tell(self.tried)
                    if clock() > self.deadline:
                        return

    def screened(self, trial: Trial) -> list[int] | None:
        """The edits that may make a leaf right, by a few directions in each; None for all."""
        tangents, backward, t = self.tangents, self.context.backward, self.target
        if not trial.linear and len(trial.edits) != 1:
            return None
        changes: dict[int, Float64Array] = {}
        for number, edit in trial.edits.items():
            ct = backward.ct(self.context.tape.ops[number].output)
            old = backward.messages.get(number, {})
            new = edit(ct)
            for value in {**old, **new}:
                if not tangents.known(value):
                    return None
                before, after = old.get(value, 0.0), new.get(value, 0.0)
                add(changes, value, np.asarray(after - before))
        shown, error = tangents.shown(changes)
        n = len(trial.labels)
        shown = np.broadcast_to(shown, (n, tangents.rows))
        error = np.broadcast_to(error, (n, tangents.rows)) + self.slack
        per_leaf = (n, len(t.paths), DIRECTIONS)
        still = (np.abs(shown) <= error).reshape(per_leaf).all(2)
        keeps = still | ~t.right | t.settled
        match = (np.abs(shown - self.wanted) <= error).reshape(per_leaf).all(2) & ~t.right
        passing = keeps.all(1) & match.any(1)
        if trial.linear:
            without = shown[trial.zero]
            rest = self.wanted - (0.0 if trial.affine else without)
            effect, slack = shown - without, error + error[trial.zero]
            if trial.fitted is not None:
                effect, slack = effect.copy(), slack.copy()
                effect[trial.zero] = -without
            first = (slice(None), slice(0, None, DIRECTIONS))
            with np.errstate(all="ignore"):
                c = np.where(effect[first] != 0, np.broadcast_to(rest, effect.shape)[first], 0.0)
                c = c / np.where(effect[first] != 0, effect[first], 1.0)
            wide = np.repeat(c, DIRECTIONS, axis=1)
            unsure = slack * (1 + np.abs(wide)) * 8
            first_size = np.repeat(np.abs(effect[first]), DIRECTIONS, axis=1)
            with np.errstate(all="ignore"):
                unsure = unsure * (
                    1 + np.abs(effect) / np.where(first_size > 0, first_size, np.inf)
                )
            fits = (np.abs(wide * effect - rest) <= unsure).reshape(per_leaf).all(2)
            passing |= (fits & ~t.right & (c != 0)).any(1)
        return [int(i) for i in np.flatnonzero(passing)]

    def rows(self, trial: Trial) -> Float64Array:
        """What each edit of a trial adds to the gradient."""
        backward, n = self.context.backward, len(trial.labels)
        self.tried += n
        return backward.leaves(backward.difference(trial.edits), n)

    def hits(self, trial: Trial) -> Iterator[Hit]:
        chosen = self.screened(trial)
        if chosen is not None:
            self.tried += len(trial.labels)
            if not chosen:
                return
            if not trial.affine:
                trial = trial.only([*{trial.zero, *chosen}])
        rows = self.rows(trial)
        t = self.target
        yield from self._exact(trial, rows)
        if not trial.linear:
            return
        without = rows[0]
        rest = t.given - t.now - without
        if trial.affine:
            # given = now + (η of the third edit in the place of the true one)
            yield from self._fit(trial, 2, rows[2] - without, t.given - t.now)
            return
        which = [
            i for i, label in enumerate(trial.labels) if i and label.factor is None and label.fit
        ]
        if which:
            effects = rows[which] - without
            for n, factors in self._factors(effects, rest):
                yield from self._fit(trial, which[n], effects[n], rest, factors)
        if trial.fitted is not None:
            yield from self._fit(trial, -1, -without, rest)

    def _exact(self, trial: Trial, rows: Float64Array) -> Iterator[Hit]:
        t = self.target
        right = t.leaves_right(t.now + rows)
        good = ~(t.right & ~right).any(1) & (right & ~t.right).any(1)
        for i in np.flatnonzero(good):
            if trial.affine and i:
                continue
            yield from self._hit(trial, int(i), trial.labels[int(i)], 1.0, rows[i], right[i])

    def _hit(
        self, trial: Trial, i: int, label: Label, factor: float, row: Float64Array, right: Any
    ) -> Iterator[Hit]:
        t = self.target
        mended = right & ~t.right
        changed = np.abs(row) > t.limit
        numbers = sum(int(changed[t.part(j)].sum()) for j in np.flatnonzero(mended))
        if numbers < (label.free + EVIDENCE if label.free else 1):
            return
        cost = label.cost - 0.01 * trial.named + PARTS.get(trial.group.part, 0.6)
        if label.factor == 0 and self._only_rounded(row, mended):
            cost += 0.3
        paths = tuple(t.paths[j] for j in np.flatnonzero(mended))
        if label.code == "path_missing" and not any(self.context.given[p].any() for p in paths):
            # Of one way among several, something is left. Here nothing is.
            label = replace(label, code="zero", said=f"{label.said}, and zero is all that is left")
        elif label.code == "path_missing" and self._penalty(row, paths):
            label = replace(label, code="missing_regularisation")
        yield Hit(trial, label, factor, self._chosen(trial, i, factor), paths, cost, numbers)

    def _penalty(self, row: Float64Array, paths: Sequence[str]) -> bool:
        """Is what is missing a multiple of the parameter itself, as of Σ‖W‖²?"""
        t, tape = self.target, self.context.tape
        for i, path in enumerate(t.paths):
            if path not in paths:
                continue
            w = np.asarray(tape.values[tape.leaves[path]], np.float64).ravel()
            part = row[t.part(i)]
            square = float(w @ w)
            if w.size < 4 or not square:
                return False
            if (np.abs(part - (part @ w) / square * w) > 2 * t.limit[t.part(i)]).any():
                return False
        return True

    def _only_rounded(self, row: Float64Array, mended: Any) -> bool:
        """Is a leaf 0 but for rounding? What was never computed is 0 exactly."""
        t = self.target
        now = t.now + row
        return any(
            not np.abs(now[t.part(j)]).max(initial=0.0) > t.limit[t.part(j)].max(initial=0.0)
            and t.given[t.part(j)].any()
            for j in np.flatnonzero(mended)
        )

    def _chosen(self, trial: Trial, i: int, factor: float) -> Edits:
        """The one edit of the batch, with a factor on what it changes."""
        base = self.context.backward

        def only(number: int) -> Callable[[Float64Array], Mapping[int, Float64Array]]:
            every, plain = trial.edits[number], base.reverse(number)

            def one(ct: Float64Array) -> dict[int, Float64Array]:
                messages = every(ct)
                n = len(trial.labels)

                def row(m: Float64Array, j: int) -> Float64Array:
                    return m[j : j + 1] if len(m) == n else m

                if not trial.affine and factor == 1.0 and i >= 0:
                    return {v: row(m, i) for v, m in messages.items()}
                true = plain(ct) if trial.affine or i < 0 else {}
                found = {}
                for v, m in messages.items():
                    without = row(m, 0)
                    if trial.affine:
                        found[v] = true[v] + factor * (row(m, i) - without)
                    elif i < 0:
                        found[v] = without + factor * (true.get(v, 0.0) - without)
                    else:
                        found[v] = without + factor * (row(m, i) - without)
                return found

            def reverse(ct: Float64Array) -> dict[int, Float64Array]:
                rows = [one(ct[j : j + 1]) for j in range(len(ct))]
                return {v: np.concatenate([row[v] for row in rows]) for v in rows[0]}

            return reverse

        return {number: only(number) for number in trial.edits}

    def _fit(
        self,
        trial: Trial,
        i: int,
        effect: Float64Array,
        rest: Float64Array,
        factors: Sequence[float] | None = None,
    ) -> Iterator[Hit]:
        """A factor c with rest = c · effect, on the leaves that one c makes right."""
        t = self.target
        if factors is None:
            factors = next((found for _, found in self._factors(effect[None], rest)), [])
        for c in factors:
            label = self._factor_label(trial, i, c)
            if label is None:
                continue
            for value in (label.factor, c):
                row = t.now - t.given + rest  # = −(what leaves it out)
                row = (value or 0.0) * effect - rest + (t.given - t.now)
                right = t.leaves_right((t.now + row)[None])[0]
                if (t.right & ~right).any() or not (right & ~t.right).any():
                    continue
                yield from self._hit(trial, i, label, float(value or 0.0), row, right)
                break

    def _factors(
        self, effects: Float64Array, rest: Float64Array
    ) -> Iterator[tuple[int, list[float]]]:
        """For each row the factors c by which it explains a leaf: rest = c · effect there."""
        t = self.target
        weight = 1 / np.maximum(t.limit, 1e-300)
        for j in np.flatnonzero(~t.right & t.comparable):
            if t.bounds[j] == t.bounds[j + 1]:
                return
        found: dict[int, list[float]] = {}
        for j in np.flatnonzero(~t.right & t.comparable):
            part = t.part(j)
            e, r = effects[:, part] * weight[part], rest[part] * weight[part]
            if not np.isfinite(r).all():
                continue
            size = (e * e).sum(1)
            c = np.where(size > 0, e @ r / np.where(size > 0, size, 1.0), 0.0)
            near = (np.abs(r - c[:, None] * e) <= 2 * np.maximum(1.0, np.abs(c))[:, None]).all(1)
            for n in np.flatnonzero(near & np.isfinite(c) & (size > 0)):
                known = found.setdefault(int(n), [])
                if not any(np.isclose(c[n], f, rtol=1e-9, atol=0) for f in known):
                    known.append(float(c[n]))
        yield from found.items()

    def _factor_label(self, trial: Trial, i: int, c: float) -> Label | None:
        base = trial.fitted if i < 0 else trial.labels[i]
        if base is None or abs(c) < 1e-12:
            return None
        if trial.affine:
            return replace(base, said=base.said.replace("{factor}", f"{-c:.6g}"), factor=c)
        name, value = self.named(abs(c))
        if i >= 0 and abs(c - 1) < 1e-9:
            return None
        if i < 0 and abs(abs(c) - 1) < 1e-9:
            return None
        constant = self._constant(trial, c) if i < 0 else None
        if constant is not None:
            return constant
        mean = self._mean(trial, c, value) if i < 0 and name else None
        if mean is not None:
            return mean
        minus = "minus " if c < 0 else ""
        signed = -value if c < 0 else value
        cost = base.cost + (0.15 if name else 0.9) + (0.1 if c < 0 else 0.0)
        told = f"{minus}{name or f'{value:.6g}'}"
        if i < 0:
            return replace(
                base,
                said=base.said.replace("{factor}", told),
                cost=cost,
                factor=signed,
                free=0 if name else 1,
            )
        return replace(
            base,
            said=f"{base.said}, and multiplied by {told}",
            cost=cost + 0.7,
            factor=signed,
            free=0 if name else 1,
        )

    @cached_property
    def means(self) -> frozenset[int]:
        """The numbers that the loss divides by."""
        tape = self.context.tape
        found = set()
        for op in tape.ops:
            if op.name in ("div", "mul") and len(op.inputs) == 2 and 0 in op.pulls:
                array = np.asarray(tape.values[op.inputs[1]])
                if array.size == 1 and not tape.active[op.inputs[1]]:
                    c = float(array.ravel()[0])
                    n = c if op.name == "div" else 1 / c if c else 0.0
                    if n > 1 and abs(n - round(n)) < 1e-9:
                        found.add(round(n))
        return frozenset(found)

    def _mean(self, trial: Trial, c: float, value: float) -> Label | None:
        """The 1/n of a mean, once too often or left out."""
        n = round(value) if value > 1 else round(1 / value)
        if c < 0 or abs((value if value > 1 else 1 / value) - n) > 1e-9:
            return None
        told = self.named(float(n))[0]
        op, tape = trial.line, self.context.tape
        if value < 1 and op.name == "broadcast_in_dim":
            places = np.size(tape.values[op.output]) / max(1, np.size(tape.values[op.inputs[0]]))
            if places == n:
                said = f"is averaged over what it was broadcast to, {told}, where it must be summed"
                return Label("bias_mean_for_sum", said, 0.55, 1 / n)
        if n not in self.means:
            return None
        if value > 1:
            return Label("missing_mean", f"is not divided by {told}", 0.7, float(n))
        said = f"is divided by {told} once too often: the loss does that once"
        return Label("extra_mean", said, 0.7, 1 / n)

    def _constant(self, trial: Trial, c: float) -> Label | None:
        """Another constant in the place of the loss's own: 0.01 for 0.2."""
        op, tape = trial.line, self.context.tape
        if trial.key is None or trial.key[0] != "use" or op.name not in ("mul", "div"):
            return None
        k = trial.key[2]
        if len(op.inputs) != 2 or tape.active[op.inputs[1 - k]]:
            return None
        array = np.asarray(tape.values[op.inputs[1 - k]], np.float64)
        if array.size == 0 or np.ptp(array) != 0 or (op.name == "div" and k == 1):
            return None
        true = float(array.flat[0])
        used = true * c if op.name == "mul" else true / c
        short = float(f"{used:.3g}")
        if true == 0 or used == 1 or abs(used - short) > 1e-9 * abs(used):
            return None
        verb = "divided by" if op.name == "div" else "multiplied by"
        said = f"is {verb} {short:.6g} where the loss has {true:.6g}"
        return Label(
            "wrong_constant", said, 0.6, short / true if op.name == "mul" else true / short
        )

    def named(self, c: float) -> tuple[str, float]:
        if abs(c - 1) < 1e-9:
            return "1", 1.0
        for name, value in self.constants:
            if abs(c - value) <= 1e-7 * value:
                return name, value
        return "", c

    # -- The search --------------------------------------------------------------------------------

    def best(self, groups: Iterable[Group], families: Any = FAMILIES) -> list[Hit]:
        """All hits, those that explain most numbers most simply first."""
        found = [hit for trial in self.trials(groups, families) for hit in self.hits(trial)]
        return _sorted(found)

    def run(self) -> list[list[Hit]]:
        """One list of equally good explanations after another; the first of each is adopted.

        First what one place after another explains; where that leaves something unexplained, all
        over again with pairs, single steps and places that right leaves speak for.
        """
        wholes = self.wholes()
        simple = self.greedy(1)
        if self.target.right.all() or clock() > self.deadline:
            return wholes + simple
        before, missing = dict(self.context.backward.adopted), int((~self.target.right).sum())
        self.restore({})
        thorough = self.greedy(9)
        if int((~self.target.right).sum()) < missing:
            return wholes + thorough
        self.restore(before)
        return wholes + simple

    def stand(self) -> None:
        """Begin anew with the backward pass as it stands now."""
        self.target.stand(self.context.backward)
        self.tangents = Tangents(self.context.backward)
        t = self.target
        wanted, slack = [], []
        for i, path in enumerate(t.paths):
            r = self.tangents.directions[path].reshape(DIRECTIONS, -1)
            part = t.part(i)
            wanted += list(r @ (t.given[part] - t.now[part]))
            slack += list(4 * np.abs(r) @ t.limit[part])
        self.wanted, self.slack = np.array(wanted), np.array(slack)

    def restore(self, adopted: Edits) -> None:
        self.context.backward.adopted = dict(adopted)
        self.context.backward.run()
        self.stand()

    def greedy(self, depth: int) -> list[list[Hit]]:
        explained: list[list[Hit]] = []
        context, target = self.context, self.target
        while not target.right.all() and len(explained) < 8:
            wrong = int((~target.right).sum())
            hits: list[Hit] = []
            for look in list(self.looks())[:depth]:
                hits = _sorted([*hits, *look()])
                if (hits and len(hits[0].leaves) == wrong) or clock() > self.deadline:
                    break
            if not hits:
                break
            first = hits[0]
            explained.append([h for h in hits if set(h.leaves) == set(first.leaves)])
            context.backward.adopt(first.edits)
            self.stand()
        return explained

    def wholes(self) -> list[list[Hit]]:
        """Leaves that are explained by themselves; they are out of the search from then on."""
        target, tape = self.target, self.context.tape
        wrong = [p for p, ok in zip(target.paths, target.right, strict=True) if not ok]
        limits = {
            p: target.limit[target.part(i)].reshape(tape.shape(tape.leaves[p]))
            for i, p in enumerate(target.paths)
        }
        given = {p: self.context.given[p] for p in wrong if p in self.context.given}
        found = []
        for whole in wholes(self.context, given, [p for p in wrong if p in given], limits):
            if set(whole.leaves) & target.accepted:
                continue
            line = whole.line or tape.ops[-1]
            trial = Trial(Group((), "role", 1), lambda w=whole: w.about, line, [whole.label], {})  # type: ignore[misc]
            found.append(
                [Hit(trial, whole.label, 1.0, {}, whole.leaves, whole.label.cost, whole.numbers)]
            )
            target.accepted |= set(whole.leaves)
        self.stand()
        return found

    def looks(self) -> Iterator[Callable[[], list[Hit]]]:
        """Where to look, one after another: until everything is explained."""
        context, target = self.context, self.target
        right = {
            target_leaf
            for path, ok in zip(target.paths, target.right, strict=True)
            if ok
            for target_leaf in [context.tape.leaves[path]]
        }
        below = context.sites.leaves_above
        suspects = frozenset(v for v, leaves in enumerate(below) if leaves and not leaves & right)

        def among(suspects: frozenset[int] | None, groups: Any, families: Any = FAMILIES) -> Any:
            def look() -> list[Hit]:
                context.suspects = suspects
                return self.best(groups, families)

            return look

        parts = [part for role in context.sites.roles for part in context.sites.parts(role)]
        yield among(suspects, context.groups)
        yield self.pairs
        yield among(suspects, [p for p in parts if len(p.ops) > 1], STEPWISE)
        yield among(suspects, [p for p in parts if len(p.ops) == 1], (uses, constants))
        yield self.another_mask
        if len(suspects) < len(below):
            others = frozenset(range(len(below))) - suspects
            yield among(others, context.groups)

    def another_mask(self) -> list[Hit]:
        """A mask of 0 and one other number that is not the forward pass's."""
        found: list[Hit] = []
        target = self.target
        for group in self.context.groups:
            if len(group.ops) > 1 or not self.context.free(group.ops):
                continue
            for trial, solve in any_mask(self.context, group):
                rows = self.rows(trial)
                chosen = solve(rows, target.given - target.now, target.limit, ~target.right)
                if chosen is None or clock() > self.deadline:
                    continue
                trial = chosen
                row = self.rows(trial)
                right = target.leaves_right(target.now + row)
                if not (target.right & ~right[0]).any() and (right[0] & ~target.right).any():
                    found += self._hit(trial, 0, trial.labels[0], 1.0, row[0], right[0])
        return _sorted(found)

    def pairs(self) -> list[Hit]:
        """Two places at which the derivative is missing at once.

        Each alone leaves what is right as it is. Where neither lies above the other their effects
        add up; the others are tried.
        """
        context, target = self.context, self.target
        context.suspects = None
        until = min(self.deadline, clock() + (self.deadline - clock()) / 2)
        kept = np.repeat(target.right & target.comparable, np.diff(target.bounds))
        distinct: dict[bytes, tuple[Trial, Edits, Float64Array]] = {}
        for group in context.groups:
            if group.part != "role" or not context.free(group.ops):
                continue
            for trial in (*uses(context, group), *constants(context, group)):
                trial = trial.only([trial.zero])
                row = self.rows(trial)[0]
                changed = np.abs(row) > target.limit
                if changed.any() and not changed[kept].any():
                    mark = (row / target.limit / 64).round().tobytes()
                    distinct.setdefault(mark, (trial, trial.edits, row))
        found = []
        for (a, first, one), (b, second, other) in combinations(distinct.values(), 2):
            if set(first) & set(second):
                continue
            edits = {**first, **second}
            row = one + other
            if not context.sites.parallel(list(edits)):
                if clock() > until:
                    continue
                row = context.backward.leaves(context.backward.difference(edits), 1)[0]
            right = target.leaves_right(target.now + row[None])[0]
            if (target.right & ~right).any() or not (right & ~target.right).any():
                continue
            label = replace(a.labels[0], said=f"is missing, and so is {b.subject}")
            for hit in self._hit(a, 0, label, 1.0, row, right):
                found.append(hit._replace(edits=edits, cost=hit.cost + 0.5))
        return _sorted(found)


def _sorted(hits: Iterable[Hit]) -> list[Hit]:
    """Those that explain most leaves most simply first; of a series the place nearest the loss."""
    return sorted(hits, key=lambda h: (-len(h.leaves), round(h.cost, 6), -h.trial.line.number))


#: The families that go wrong at some steps of a loop only.
STEPWISE = (uses, constants, slopes)

PARTS = {"role": 0.0, "all": 0.1}


@dataclass(frozen=True)
class Explained:
    """What the search found."""

    findings: list[list[Hit]]
    right: tuple[str, ...]  #: the leaves that were right from the outset
    unexplained: tuple[str, ...]
    tried: int
    context: Context


def explain(
    tape: Tape,
    seeds: Sequence[Float64Array],
    given: Mapping[str, Float64Array],
    floors: Mapping[str, Float64Array | float],
    seconds: float = SECONDS,
) -> Explained:
    """The edits of the tape's backward pass that turn the true gradient into `given`."""
    with float64_rules(), np.errstate(all="ignore"):
        backward = Backward(tape, seeds)
        context = Context(tape, backward, Sites(tape), Source(tape), given)
        target = Target(tape, given, floors)
        search = Search(context, target, seconds)
        right = tuple(p for p, ok in zip(target.paths, target.right, strict=True) if ok)
        findings = search.run()
        search.progress.end()
        left = tuple(p for p, ok in zip(target.paths, target.right, strict=True) if not ok)
    return Explained(findings, right, left, search.tried, context)
