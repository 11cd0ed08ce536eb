"""What a person can get wrong in a backward pass: the table of the families of edits.

A family is a function that goes through a group of places and yields trials. To add one, write the
function and add it to FAMILIES.
"""

import math
from collections.abc import Callable, Iterator
from itertools import combinations

from jaxnn.gradcheck.jacobians import jacobians
from jaxnn.gradcheck.operands import operands
from jaxnn.gradcheck.places import Context, Trial
from jaxnn.gradcheck.routes import constants, masks, rerouted, uses
from jaxnn.gradcheck.sites import Group
from jaxnn.gradcheck.slopes import slopes
from jaxnn.gradcheck.sums import moves, patches, positions

#: The table of families. Each goes through one group of places; add yours here.
FAMILIES: tuple[Callable[[Context, Group], Iterator[Trial]], ...] = (
    uses,
    constants,
    slopes,
    operands,
    moves,
    patches,
    masks,
    jacobians,
    rerouted,
    positions,
)


def named_constants(context: Context) -> dict[str, float]:
    """Factors that a reader knows: the sizes of all axes, and what is made of them."""
    sizes: dict[int, str] = {}
    for value, name in context.tape.given_names.items():
        shape = context.tape.shape(value)
        for axis, n in enumerate(shape):
            told = f"len({name})" if len(shape) == 1 else f"{name}.shape[{axis}]"
            sizes.setdefault(n, told if name.isidentifier() else f"axis {axis} of {name}")
    for op in context.tape.ops:
        for n in context.tape.shape(op.output):
            sizes.setdefault(n, "the length of an axis")
    found: dict[str, float] = {}

    def put(name: str, value: float) -> None:
        if value not in found.values() and value not in (0.0, 1.0):
            found[name] = value

    put("2", 2.0)
    put("1/2", 0.5)
    for n, told in sorted(sizes.items()):
        if n > 1:
            put(f"{n} = {told}", float(n))
            put(f"1/{n}, {n} = {told}", 1 / n)
    for name, c in (
        ("4", 4.0),
        ("1/4", 0.25),
        ("3", 3.0),
        ("1/3", 1 / 3),
        ("3/2", 1.5),
        ("2/3", 2 / 3),
    ):
        put(name, c)
    for n, told in sorted(sizes.items()):
        if n > 1:
            put(f"√{n}, {n} = {told}", math.sqrt(n))
            put(f"1/√{n}, {n} = {told}", 1 / math.sqrt(n))
            put(f"2/{n}, {n} = {told}", 2 / n)
            put(f"{n}/2, {n} = {told}", n / 2)
            put(f"1/{n}², {n} = {told}", 1 / n**2)
            if n > 2:
                put(f"{n}/{n - 1} = n/(n − 1), n = {told}", n / (n - 1))
                put(f"{n - 1}/{n} = (n − 1)/n, n = {told}", (n - 1) / n)
                put(f"1/({n} − 1), {n} = {told}", 1 / (n - 1))
    several = sorted((n, told) for n, told in sizes.items() if n > 1)
    for (a, p), (b, q) in combinations(several, 2):
        put(f"{a * b} = {p} · {q}", float(a * b))
        put(f"1/{a * b}, {a * b} = {p} · {q}", 1 / (a * b))
        put(f"{a}/{b} = {p} / {q}", a / b)
        put(f"{b}/{a} = {q} / {p}", b / a)
        put(f"2 · {a}/{b}, {p} / {q}", 2 * a / b)
        put(f"2 · {b}/{a}, {q} / {p}", 2 * b / a)
    for beta in (0.9, 0.99, 0.999):
        put(f"1 − β for β = {beta}", round(1 - beta, 9))
        put(f"β = {beta}", beta)
    put("ln 2", math.log(2))
    put("1/ln 2", 1 / math.log(2))
    put("1/255, the scale of pixels", 1 / 255)
    put("255, the scale of pixels", 255.0)
    return found
