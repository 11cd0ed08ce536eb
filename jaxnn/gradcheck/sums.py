"""Edits of sums and copies: overwritten for added, over another axis or other windows, in part."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np

from jaxnn.gradcheck.backward import Reverse
from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.places import Context, Label, Trial, along, by_result, inside
from jaxnn.gradcheck.sites import Group
from jaxnn.gradcheck.tape import (
    Contract,
    Move,
    Op,
    Tape,
    reduction,
    windows,
    windows_of,
)


def moves(context: Context, group: Group) -> Iterator[Trial]:
    """Sums and copies: overwritten for added, one row for all, summed over everything."""
    if not context.uniform(group):
        return
    tape = context.tape
    op = tape.ops[group.ops[-1]]
    for k, pull in op.pulls.items():
        if not context.suspect(op.inputs[k]):
            continue
        if op.name == "cumsum":
            yield _not_reversed(context, group, op)
        if not isinstance(pull, Move):
            continue
        ops = [tape.ops[n] for n in group.ops if k in tape.ops[n].pulls]
        labels = [Label("path_missing", "is missing", 0.05, 0.0)]
        variants: list[list[Any]] = [[lambda ct, p=o.pulls[k]: 0 * p(ct) for o in ops]]
        counted = len(pull.cols) > len(np.unique(pull.cols))
        if counted:
            for which, at in (("last", -1), ("first", 0)):
                summed = op.name in ("broadcast_in_dim",)
                said = (
                    f"is not summed: only the {which} of the places that it was broadcast to counts"
                    if summed
                    else f"is overwritten where it must be added up: of entries that are used more "
                    f"than once only the {which} use counts"
                )
                labels.append(Label("partial" if summed else "duplicates_overwritten", said, 0.3))
                variants.append([_kept(o.pulls[k], at) for o in ops])
        if op.name == "broadcast_in_dim" and len(pull.shape) > 0 and np.prod(pull.shape) > 1:
            labels.append(
                Label(
                    "sum_without_axis",
                    "is summed over everything, one number for all: sum over what it was "
                    "broadcast to",
                    0.2,
                )
            )
            variants.append([_summed_over_everything(o.pulls[k]) for o in ops])
            for dims in _other_axes(op, pull.shape, tape.shape(op.output)):
                labels.append(Label("wrong_axis", "is summed over the wrong axis", 0.3))
                variants.append([_over(dims, pull.shape) for _ in ops])
        if op.name in ("reduce_max", "reduce_min") and pull.weights is not None:
            labels.append(
                Label(
                    "ties",
                    "goes whole to each of several equal entries: they must share it",
                    0.2,
                )
            )
            variants.append(
                [lambda ct, p=o.pulls[k]: Move(p.rows, p.cols, p.shape)(ct) for o in ops]
            )
        if op.name == "gather":
            out = tape.shape(op.output)
            if len(pull.cols) == np.prod(out, dtype=int):
                for axis in [a for a, n in enumerate(out) if n > 1]:
                    for by, d in product((1, -1), range(len(pull.shape))):
                        said = f"takes the indices into axis {d} shifted by one"
                        labels.append(Label("wrong_value", said, 0.8))
                        variants.append([_shifted(o.pulls[k], out, by, axis, d) for o in ops])
        if op.name in ("reduce_max", "reduce_min", "reduce_window_max"):
            said = "goes to all entries: only the largest one may receive it"
            labels.append(Label("wrong_mask", said, 0.3))
            variants.append([_to_all(o, o.pulls[k]) for o in ops])
        if op.name in ("transpose", "reshape"):
            said = (
                "is reshaped where it must be transposed back"
                if op.name == "transpose"
                else "is reshaped back in another order than it was reshaped in"
            )
            labels.append(Label("wrong_axis", said, 0.3))
            variants.append([_reshaped(o.name, o.pulls[k]) for o in ops])
        if op.name == "reduce_sum":
            labels.append(
                Label("wrong_axis", "is spread as if the sum were over another axis", 0.9)
            )
            variants.append([_spread_elsewhere(o, o.pulls[k], tape) for o in ops])

        def message(i: int, op: Op, ct: Float64Array, variants: Any = variants) -> Any:
            n = max(len(ct), 1)
            if n == 1:
                return np.concatenate([variant[i](ct) for variant in variants])
            return np.concatenate([variant[i](ct[j : j + 1]) for j, variant in enumerate(variants)])

        numbers = [o.number for o in ops]
        yield Trial(
            replace(group, ops=tuple(numbers)),
            along(context, op, k),
            op,
            labels,
            context.on_use(numbers, k, message),
            linear=context.sites.parallel(numbers),
            key=("move", op.name),
        )


def _not_reversed(context: Context, group: Group, op: Op) -> Trial:
    """A cumulative sum whose derivative is summed from the same end."""
    axis = op.params["axis"] + 1

    def message(i: int, op: Op, ct: Float64Array) -> Any:
        forward = np.cumsum(ct, axis)
        if op.params["reverse"]:
            forward = np.flip(np.cumsum(np.flip(ct, axis), axis), axis)
        return np.concatenate([0 * forward[:1], forward[-1:]])

    labels = [
        Label("path_missing", "is missing", 0.05, 0.0),
        Label("wrong_axis", "is summed up from the same end as in the forward pass", 0.3),
    ]
    edits = context.on_use(group.ops, 0, message)
    return Trial(group, along(context, op, 0), op, labels, edits, key=("cumsum",))


def _to_all(op: Op, pull: Any) -> Callable[[Float64Array], Float64Array]:
    """The cotangent of an extreme spread over all that it was taken of."""
    if "window_dimensions" not in op.params:
        return reduction(pull.shape, tuple(op.params["axes"]))
    index = windows_of(op.params, pull.shape)
    size = int(np.prod(index.shape[1:], dtype=int))
    places = np.broadcast_to(np.arange(size).reshape(index.shape[1:]), index.shape).ravel()
    inside = np.flatnonzero(index.ravel() >= 0)
    return Move(places[inside], index.ravel()[inside], pull.shape)


def _shifted(
    pull: Any, out: tuple[int, ...], by: int, axis: int, d: int
) -> Callable[[Float64Array], Float64Array]:
    cols = np.empty(len(pull.cols), np.intp)
    cols[pull.rows] = pull.cols
    places = list(np.unravel_index(cols, pull.shape))
    places[d] = np.roll(places[d].reshape(out), by, axis).ravel()
    moved = np.ravel_multi_index(tuple(places), pull.shape)
    return Move(np.arange(cols.size), moved, pull.shape)


def _reshaped(name: str, pull: Any) -> Callable[[Float64Array], Float64Array]:
    def turned(ct: Float64Array) -> Float64Array:
        if name == "transpose":
            return ct.reshape(len(ct), *pull.shape)
        return np.stack([one.reshape(pull.shape, order="F") for one in ct])

    return turned


def _kept(pull: Any, at: int) -> Callable[[Float64Array], Float64Array]:
    """Of several uses of an entry only the first or the last."""
    order = np.argsort(pull.rows, kind="stable")
    rows, cols = np.asarray(pull.rows)[order], np.asarray(pull.cols)[order]
    if at == -1:
        rows, cols = rows[::-1], cols[::-1]
    _, keep = np.unique(cols, return_index=True)
    weights = None if pull.weights is None else np.asarray(pull.weights)[order][keep]
    return Move(rows[keep], cols[keep], pull.shape, weights)


def _summed_over_everything(pull: Any) -> Callable[[Float64Array], Float64Array]:
    def total(ct: Float64Array) -> Float64Array:
        whole = ct.reshape(len(ct), -1).sum(1)
        return np.broadcast_to(whole.reshape(-1, *[1] * len(pull.shape)), (len(ct), *pull.shape))

    return total


def _other_axes(op: Op, shape: tuple[int, ...], out: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Other axes of the result that an array of one axis could have been broadcast from."""
    dims = tuple(op.params["broadcast_dimensions"])
    wide = [(i, d) for i, d in enumerate(dims) if shape[i] > 1]
    if len(wide) == 1:
        i, d = wide[0]
        for axis, size in enumerate(out):
            if axis != d and size == shape[i]:
                yield (axis,)


def _over(dims: tuple[int, ...], shape: tuple[int, ...]) -> Callable[[Float64Array], Float64Array]:
    def total(ct: Float64Array) -> Float64Array:
        axes = tuple(a for a in range(1, ct.ndim) if a - 1 not in dims)
        summed: Float64Array = ct.sum(axes).reshape(len(ct), *shape)
        return summed

    return total


def _spread_elsewhere(op: Op, pull: Any, tape: Tape) -> Callable[[Float64Array], Float64Array]:
    """The cotangent of a sum over one axis spread along another of the same length."""
    axes = tuple(op.params["axes"])
    shape = pull.shape
    for axis in range(len(shape)):
        if axis not in axes:
            other = (axis,)
            move = reduction(shape, other)
            if len(axes) == 1 and tuple(n for a, n in enumerate(shape) if a != axis) == tape.shape(
                op.output
            ):
                return move
    return lambda ct: 0 * pull(ct)


def positions(context: Context, group: Group) -> Iterator[Trial]:
    """Only some entries of a value pass their cotangent on."""
    if not context.uniform(group):
        return
    op = context.tape.ops[group.ops[-1]]
    shape = context.tape.shape(op.output)
    if not shape or np.prod(shape) < 2 or not context.suspect(op.output):
        return
    labels = [Label("path_missing", "is missing", 0.1, 0.0)]
    masks: list[Any] = [np.zeros(shape)]
    for told, mask in _masks(shape):
        labels.append(Label("partial", told, 0.6))
        masks.append(mask)
    stacked = np.stack(masks)
    size = np.abs(context.backward.ct(op.output))
    # Where all that are not 0 are of one size, a clip is a factor, and is told as that.
    top, low = size.max(initial=0.0), size.min(initial=np.inf, where=size > 0)
    varied = len(group.ops) == 1 and top - low > 1e-9 * top
    limits = [c for c in CLIPPED if c < top] if varied else []
    labels += [Label("clipped", f"is clipped at ±{c:g}", 0.5) for c in limits]

    def change(i: int, op: Op, ct: Float64Array) -> Float64Array:
        wide = np.broadcast_to(ct, (len(labels), *ct.shape[1:]))
        kept = wide[: len(stacked)] * stacked
        cut = [np.clip(wide[len(stacked) + j], -c, c)[None] for j, c in enumerate(limits)]
        return np.concatenate([kept, *cut])

    yield Trial(
        group,
        by_result(context, op),
        op,
        labels,
        context.on_result(group.ops, change),
        linear=context.sites.parallel(group.ops),
        key=("positions", op.name),
    )


#: Limits that cotangents are clipped at.
CLIPPED = (0.01, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0)


def _masks(shape: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    axes = [a for a, n in enumerate(shape) if n > 1]
    for a in axes:
        n = shape[a]
        at = np.arange(n).reshape([n if i == a else 1 for i in range(len(shape))])
        for told, keep in (
            ("only the first", at == 0),
            ("only the last", at == n - 1),
            ("all but the first", at > 0),
            ("all but the last", at < n - 1),
            ("only every second", at % 2 == 0),
        ):
            yield (
                f"is there for {told} along axis {a}, and 0 for the others",
                np.broadcast_to(keep, shape) * 1.0,
            )
    for a, b in combinations(axes, 2):
        grid = np.indices(shape)
        yield (
            f"is there only for the first along axes {a} and {b}, and 0 for the others",
            ((grid[a] == 0) & (grid[b] == 0)) * 1.0,
        )
        yield (
            f"is there only for the last along axes {a} and {b}, and 0 for the others",
            ((grid[a] == shape[a] - 1) & (grid[b] == shape[b] - 1)) * 1.0,
        )
        if shape[a] == shape[b]:
            for told, keep in (
                ("on and below the diagonal (a causal mask)", grid[a] >= grid[b]),
                ("on and above the diagonal", grid[a] <= grid[b]),
                ("below the diagonal", grid[a] > grid[b]),
                ("above the diagonal", grid[a] < grid[b]),
                ("on the diagonal", grid[a] == grid[b]),
                ("off the diagonal", grid[a] != grid[b]),
            ):
                yield f"is there only {told}, and 0 elsewhere", keep * 1.0


def patches(context: Context, group: Group) -> Iterator[Trial]:
    """A convolution whose backward pass goes over the image with another stride or padding."""
    tape = context.tape
    for number in group.ops:
        product = tape.ops[number]
        made = tape.producer[product.inputs[0]]
        if product.name != "dot_general" or made < 0 or tape.ops[made].name != "patches":
            continue
        cut = tape.ops[made]
        if not context.free([made]):
            continue
        p = cut.params
        image = np.asarray(tape.values[cut.inputs[0]])
        dims = p["dimension_numbers"]
        size = [image.shape[a] for a in dims.lhs_spec[2:]]
        kernel = np.asarray(tape.values[product.inputs[1]])
        sizes = [kernel.shape[a] for a in dims.rhs_spec[2:]]
        spatial = len(size)
        found: list[tuple[str, Any]] = []
        for told, strides, padding in _other_windows(p, sizes, spatial):
            index = _same_places(
                size, sizes, strides, padding, p, tape.shape(cut.output)[-spatial:]
            )
            if index is not None:
                found.append((told, index))
        if not found:
            continue
        numbers = np.transpose(np.arange(image.size).reshape(image.shape), dims.lhs_spec)
        numbers = numbers.reshape(*numbers.shape[:2], -1)
        indices = [np.where(f >= 0, numbers[:, :, np.maximum(f, 0)], -1) for _, f in found]
        stacked = np.stack([np.where(i >= 0, image.ravel()[i], 0.0) for i in indices])
        maps = []
        for i in indices:
            rows = np.flatnonzero(i.ravel() >= 0)
            maps.append(Move(rows, i.ravel()[rows], image.shape))

        def residual(ct: Float64Array, op: Op = product, s: Any = stacked) -> Any:
            pull = op.pulls[1]
            assert isinstance(pull, Contract)
            left, rest = pull.spec.split(",")
            right, out = rest.split("->")
            wide = np.broadcast_to(ct, (len(s), *ct.shape[1:]))
            return {
                op.inputs[1]: np.einsum(f"{left},Z{right}->{out}", wide, s),
                **({op.inputs[0]: op.pulls[0](ct)} if 0 in op.pulls else {}),
            }

        def places(ct: Float64Array, op: Op = cut, maps: Any = maps) -> Any:
            wide = np.broadcast_to(ct, (len(maps), *ct.shape[1:]))
            return {
                op.inputs[0]: np.concatenate([move(wide[j : j + 1]) for j, move in enumerate(maps)])
            }

        labels = [Label("wrong_window", told, 0.3) for told, _ in found]
        both: dict[int, Reverse] = {}
        if 0 in cut.pulls:
            both[cut.number] = places
        if 1 in product.pulls:
            both[product.number] = residual
        for edits in (both, {cut.number: places}, {product.number: residual}):
            if set(edits) <= set(both):
                yield Trial(
                    Group(tuple(edits), "role", 1),
                    partial(_derivative_of, context, product),
                    product,
                    labels,
                    edits,
                    key=("patches",),
                )


def _derivative_of(context: Context, op: Op) -> str:
    return f"the derivative of {inside(context, op)}"


def _other_windows(p: Mapping[str, Any], sizes: Any, n: int) -> Iterator[tuple[str, Any, Any]]:
    strides, padding = tuple(p["window_strides"]), tuple(map(tuple, p["padding"]))
    for other in sorted({1, 2, 3} - set(strides)):
        yield (
            f"takes window i of the input at i * {other}, where the forward pass has it at "
            f"i * {strides[0]}: the stride is {strides[0]}",
            (other,) * n,
            padding,
        )
    if any(a or b for a, b in padding):
        yield "leaves out the padding", strides, ((0, 0),) * n
    for shift in (1, -1):
        yield (
            f"has its windows shifted by {shift}",
            strides,
            tuple((a - shift, b + shift) for a, b in padding),
        )


def _same_places(
    size: Any, sizes: Any, strides: Any, padding: Any, p: Any, places: tuple[int, ...]
) -> Any:
    """The windows with other strides, as many as the forward pass has."""
    wide = []
    for a in range(len(size)):
        window = (sizes[a] - 1) * p["rhs_dilation"][a] + 1
        spread = (size[a] - 1) * p["lhs_dilation"][a] + 1
        need = (places[a] - 1) * strides[a] + window
        wide.append((padding[a][0], need - spread - padding[a][0]))
    try:
        return windows(size, sizes, strides, wide, p["lhs_dilation"], p["rhs_dilation"])
    except (ValueError, IndexError):
        return None
