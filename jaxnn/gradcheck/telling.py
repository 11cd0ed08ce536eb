"""What the search found, in sentences at the user's line."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn.gradcheck.backward import Backward
from jaxnn.gradcheck.places import Context
from jaxnn.gradcheck.report import Finding
from jaxnn.gradcheck.search import Explained, Hit
from jaxnn.gradcheck.tape import Op

#: An explanation that is only so much more far-fetched is told as well.
DOUBT = 0.15


def findings(explained: Explained) -> list[Finding]:
    """One finding for each mistake, the same mistake at several places being one."""
    context = explained.context
    habits: dict[Any, list[list[Hit]]] = {}
    for hits in explained.findings:
        best = hits[0]
        same = best.label.said if best.label.code != "swapped_leaves" else ""
        key = best.label.code, same, best.trial.line.frames[:1], best.trial.group.part
        habits.setdefault(key, []).append(hits)
    found = [_finding(context, members) for members in habits.values()]
    right = _list(explained.right)
    if found and right:
        last = found[-1]
        found[-1] = Finding(
            last.code,
            last.equation,
            f"{last.sentence} Right up to there: {right}.",
            last.factor,
            last.places,
        )
    return found


def _finding(context: Context, members: Sequence[Sequence[Hit]]) -> Finding:
    best = members[0][0]
    label, trial = best.label, best.trial
    subjects = list(dict.fromkeys(hits[0].trial.subject for hits in members))
    role = context.role(trial.group) if len(members) == 1 else ""
    subject = f"{subjects[0]}{role}"
    said = f"{subject} {label.said}{context.steps(trial.group)}."
    whole = _of_everything(context, members)
    if whole:
        said = f"{whole}. So it would be if {said}" if label.free == 0 else f"{whole}."
    also = "".join(f" So it is with {subject}." for subject in subjects[1:])
    if label.code == "swapped_leaves":
        pairs = dict.fromkeys(f"{h[0].trial.subject} {h[0].label.said}" for h in members)
        said, also = f"{', and '.join(pairs)}.", ""
    leaves = tuple(dict.fromkeys(leaf for hits in members for leaf in hits[0].leaves))
    file = _file(trial.line)
    sentence = f"{file}{said if file else said[0].upper() + said[1:]}{also}"
    if not whole:
        sentence += _write(context, best) + _doubt(context, members[0])
    place = _place(context, trial.line, trial.level)
    if len(leaves) == 1 and _at_leaf(context, trial.line, leaves[0]):
        place = leaves[0]
    return Finding(label.code, place, sentence, label.factor, leaves)


def _of_everything(context: Context, members: Sequence[Sequence[Hit]]) -> str:
    """Of a gradient that is a multiple of the true one."""
    best = members[0][0]
    if len(members) > 1 or best.label.code not in ("scale", "wrong_constant") or not best.factor:
        return ""
    others = set(context.tape.leaves) - set(best.leaves)
    zero = {p for p in others if not np.any(context.given.get(p, 1.0))}
    if others - zero or len(best.leaves) < 2:
        return ""
    c, norm = best.factor, _norm(context)
    if norm and abs(abs(c) * norm - 1) < 1e-9:
        return f"the whole gradient is divided by its norm, {norm:.6g}"
    return (
        f"the whole gradient is multiplied by {c:.6g}, which the loss has not (a learning rate, a "
        "mean, a norm?)"
    )


def _norm(context: Context) -> float:
    """The norm of the true gradient."""
    true = Backward(context.tape, [seed[0] for seed in context.backward.seeds]).gradient()
    return float(np.sqrt(sum(float((g * g).sum()) for g in true.values())))


def _at_leaf(context: Context, op: Op, path: str) -> bool:
    """Does an operation use a parameter itself, and not something made of it?"""
    tape = context.tape
    same = {tape.leaves[path]}
    for other in tape.ops:
        if other.name in REARRANGED and other.inputs[0] in same:
            same.add(other.output)
    return bool(same & set(op.inputs))


#: Operations that only rearrange a parameter.
REARRANGED = ("broadcast_in_dim", "reshape", "transpose", "squeeze", "convert_element_type")


def _file(op: Op) -> str:
    if not op.frames or not Path(op.frames[0].file).suffix:
        return ""
    return f"{Path(op.frames[0].file).name}: "


def _place(context: Context, op: Op, level: int) -> str:
    if not op.frames:
        return op.name
    return f"{context.source.expression(op, level)} ({context.source.line(op, level)})"


def _list(paths: Sequence[str]) -> str:
    few = ", ".join(paths[:8])
    return few + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")


# -- What to write instead ------------------------------------------------------------------------


def _write(context: Context, hit: Hit) -> str:
    """The right message as code, where one operation has it."""
    trial = hit.trial
    if trial.key is None or trial.key[0] not in ("use", "operand", "stale"):
        return ""
    right = message(context, trial.line, trial.key[-1])
    if right is None:
        return ""
    code, where = right
    given = f", with `g` the derivative by {where}" if where else ""
    if hit.label.code == "path_missing":
        return f" It must also receive `{code}`{given}."
    return f" Write `{code}`{given}."


def message(context: Context, op: Op, k: int) -> tuple[str, str] | None:
    """What operand k of an operation receives, as code, and what `g` stands for in it."""
    source, tape = context.source, context.tape
    name = source.names.get(op.output, "")
    if name.isidentifier():
        g, where = f"d{name}", ""
    else:
        g, where = "g", f"`{source.expression(op)}`"
    if op.name in ("add", "add_any"):
        return g, where
    if op.name == "sub":
        return (g if k == 0 else f"-{g}"), where
    if len(op.inputs) != 2 or not source.infix(op):
        return None
    other = source.operand(op, 1 - k)
    if not other or "…" in other:
        return None
    if not other.replace(".", "").replace("_", "").isalnum() and "[" not in other[-4:]:
        other = f"({other})"
    if op.name == "mul":
        return f"{g} * {other}", where
    if op.name == "div" and k == 0:
        return f"{g} / {other}", where
    if op.name == "dot_general" and "lhs" not in op.params:
        left, right = np.ndim(tape.values[op.inputs[0]]), np.ndim(tape.values[op.inputs[1]])
        contracted = op.params.get("spec")
        if contracted is None or max(left, right) > 2:
            return None
        a, b, _ = contracted
        if a[-1:] != b[:1]:
            return None
        if k == 0:
            if right == 2:
                return f"{g} @ {other}.T", where
            return (f"np.outer({g}, {other})" if left == 2 else f"{g} * {other}"), where
        if left == 2:
            return f"{other}.T @ {g}", where
        return (f"np.outer({other}, {g})" if right == 2 else f"{g} * {other}"), where
    return None


# -- What cannot be told apart ---------------------------------------------------------------------


def _doubt(context: Context, hits: Sequence[Hit]) -> str:
    """Other explanations of the same numbers, as good as the first."""
    best = hits[0]
    line = context.source.line(best.trial.line, best.trial.level)
    same: list[str] = []
    others: list[str] = []
    known: set[tuple[str, str]] = set()
    for hit in hits[1:]:
        if hit.cost > best.cost + DOUBT:
            continue
        where = context.source.line(hit.trial.line, hit.trial.level)
        if hit.label.code == best.label.code:
            told = f"{where}"
            if where != line and told not in same:
                same.append(told)
        else:
            told = f"{hit.trial.subject} {hit.label.said}{context.steps(hit.trial.group)}"
            if (hit.label.code, where) not in known:
                others.append(told)
                known.add((hit.label.code, where))
    text = ""
    if same:
        text += f" Or so at {' or '.join(same[:3])}: the numbers are the same."
    if others:
        text += f" Equally well explained here: {'; or '.join(others[:2])}."
    return text


# -- Where no edit fits ----------------------------------------------------------------------------


def proved_place(explained: Explained, path: str) -> tuple[str, str, Op | None]:
    """Between what and what a leaf goes wrong that nothing explains: sentence, place, operation."""
    context = explained.context
    tape, sites, source = context.tape, context.sites, context.source
    leaf = tape.leaves[path]
    right = {tape.leaves[p] for p in tape.leaves if p not in explained.unexplained}
    below = sites.leaves_above
    suspects = {v for v, leaves in enumerate(below) if leaf in leaves and not leaves & right}
    ops = [op for op in tape.ops if op.output in suspects or _enters(op, suspects)]
    edge = [op for op in ops if op.output not in suspects]
    last = (edge or ops or [None])[-1]  # type: ignore[list-item]
    if last is None:
        return f"the derivative by `{path}` is wrong", path, None
    lines = sorted({op.frames[0].line for op in ops if op.frames})
    told = (
        f"line {lines[0]}"
        if len(lines) == 1
        else f"lines {lines[0]} to {lines[-1]}"
        if lines
        else ""
    )
    first = source.expression(last)
    proof = [p for p in explained.right if tape.leaves[p] in below[last.output]]
    begins = f"`{first}` ({source.line(last)})"
    if proof:
        why = f"what comes after it is right, as {_list(proof)} show" + (
            "s" if len(proof) == 1 else ""
        )
        sentence = f"the mistake lies between `{path}` and {begins}: {why}"
    else:
        sentence = (
            f"the derivative by `{path}` is wrong, and no leaf that is right narrows down where: "
            f"it may be anywhere in {told or 'the loss'}"
        )
    return sentence, f"{first} ({source.line(last)})", last


def _enters(op: Op, suspects: set[int]) -> bool:
    return any(op.inputs[k] in suspects for k in op.pulls)


#: Operations that have no derivative, or an infinite one, somewhere.
SINGULAR = ("sqrt", "rsqrt", "log", "log1p", "div", "pow", "cbrt", "asin", "acos", "atanh")


def _not_finite(explained: Explained, path: str) -> Finding:
    """NaN or infinite entries, and which operations may make them."""
    tape, source = explained.context.tape, explained.context.source
    leaf, value = tape.leaves[path], np.asarray(explained.context.given[path])
    among = [
        op
        for op in tape.ops
        if op.name in SINGULAR
        and op.pulls
        and leaf in explained.context.sites.leaves_above[op.output]
        and not (op.name == "div" and 1 not in op.pulls)
    ]
    bad = f"{int((~np.isfinite(value)).sum())} of {value.size}"
    text = f"the derivative by `{path}` has NaN or infinite entries ({bad})."
    told = dict.fromkeys(f"`{source.expression(op)}` ({source.line(op)})" for op in among)
    if told:
        text += (
            f" Look at {', '.join(list(told)[:3])}: where that has an infinite derivative, a "
            "cotangent of 0 does not help (0 · ∞ is NaN); its input must be masked, too."
        )
    file = _file(among[0]) if among else ""
    sentence = f"{file}{text}" if file else text[0].upper() + text[1:]
    return Finding("non_finite", path, sentence, None, (path,))


def unexplained(explained: Explained) -> Iterator[Finding]:
    """The leaves that no edit explains, those at one place in one finding."""
    groups: dict[str, tuple[str, str, list[str]]] = {}
    for path in explained.unexplained:
        if not np.isfinite(explained.context.given.get(path, 0.0)).all():
            yield _not_finite(explained, path)
            continue
        sentence, place, op = proved_place(explained, path)
        groups.setdefault(place, (sentence, _file(op) if op else "", []))[2].append(path)
    for place, (sentence, file, paths) in groups.items():
        told = sentence if file else sentence[0].upper() + sentence[1:]
        more = f" Seen in {_list(paths)}." if len(paths) > 1 else ""
        text = f"{file}{told}. No known mistake gives these numbers.{more}"
        first = paths[0] if len(paths) == 1 else place
        yield Finding("unknown", first, text, None, tuple(paths))
