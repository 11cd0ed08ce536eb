"""The second witness: the loss itself, in float64, by differences, Taylor remainders and kinks."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.report import Witness

Point = dict[str, Float64Array]
Loss = Callable[[Point], float]
Gradient = Callable[[Point], Point]

#: The steps along the direction, relative to the point: from the largest, each half of the last.
STEPS = 2.0 ** -np.arange(8.0, 14.0)

#: Where those steps cross a kink, which in a wide ReLU network is likely, they are tried so much
#: smaller.
SMALLER = (1.0, 2.0**-5, 2.0**-10)

#: At how many entries of a leaf differences are taken, where autodiff is in doubt.
PARTIALS = 200

#: How far from the point the derivatives beside a kink are taken, relative to the point.
ASIDE = 1e-7


def direction(point: Point, seed: int = 0) -> Point:
    """A random direction in which each leaf moves by about its own size (or 1, where it is 0)."""
    rng = np.random.default_rng(seed)
    return {
        path: rng.standard_normal(value.shape)
        * (float(np.sqrt(np.mean(np.abs(value) ** 2))) if value.any() else 1.0)
        for path, value in point.items()
    }


def moved(point: Point, along: Point, t: float) -> Point:
    """point + t · along."""
    return {path: value + t * along[path] for path, value in point.items()}


def inner(a: Point, b: Point) -> float:
    """⟨a, b⟩ over all leaves; NaN where a shape does not fit."""
    if any(a[path].shape != b[path].shape for path in b):
        return float("nan")
    return float(sum(float(np.real(np.sum(a[path] * b[path]))) for path in b))


def examine(loss: Loss, point: Point, truth: Point, given: Point) -> Witness:
    """Central differences and Taylor slopes along one random direction.

    The remainder |f(p + tv) − f(p) − t⟨g, v⟩| falls like t² where g is the derivative and like t
    where it is not; no step has to be chosen. A loss that disputes what autodiff claims does so at
    all sizes of the steps; beside a kink only the larger ones cross it.
    """
    found = [_at(loss, point, truth, given, STEPS)]
    for factor in SMALLER[1:]:
        if found[-1].status == "silent" or (
            found[-1].status == "confirms" and not found[-1].slope < 1.5
        ):
            break
        found.append(_at(loss, point, truth, given, factor * STEPS))
    order = ("confirms", "silent", "kink", "disputes")
    return min(found, key=lambda one: (order.index(one.status), one.slope < 1.5))


def _at(loss: Loss, point: Point, truth: Point, given: Point, steps: Float64Array) -> Witness:
    """The testimony of some steps."""
    v = direction(point)
    here = loss(point)
    ahead = np.array([loss(moved(point, v, t)) for t in steps])
    behind = np.array([loss(moved(point, v, -t)) for t in steps])
    by_autodiff, by_given = inner(truth, v), inner(given, v)
    nan = float("nan")
    if not np.isfinite([here, *ahead, *behind, by_autodiff]).all():
        return Witness("silent", nan, by_autodiff, by_given, nan, nan)
    noise = 8 * np.finfo(np.float64).eps * max(abs(here), float(np.abs(ahead).max()))
    central = (ahead - behind) / (2 * steps)
    # Richardson: the error of a central difference is a t² + b t⁴ …; the best pair of steps agrees.
    extrapolated = (4 * central[1:] - central[:-1]) / 3
    best = int(np.abs(np.diff(extrapolated)).argmin())
    difference = float(extrapolated[best + 1])
    scale = max(abs(difference), abs(by_autodiff), noise / steps[-1])
    # At an optimum the difference quotient is all rounding: it can dispute only what is larger.
    tolerance = 1e-6 * scale + noise / steps[-1]
    status = "confirms" if abs(difference - by_autodiff) <= tolerance else "disputes"
    one_sided = (ahead - here) / steps, (here - behind) / steps
    jump = np.abs(one_sided[0] - one_sided[1])
    # Beside a smooth point the two differ by t f″ and less with each step; at a kink they do not.
    if jump[-1] > 0.5 * jump[0] and jump[-1] > tolerance:
        status = "kink"
    slope, given_slope = (
        taylor_slope(ahead - here - steps * g, noise, steps) if np.isfinite(g) else nan
        for g in (by_autodiff, by_given)
    )
    return Witness(status, difference, by_autodiff, by_given, slope, given_slope)


def partials(
    loss: Loss, point: Point, path: str, disputed: NDArray[np.bool_]
) -> tuple[Float64Array, Float64Array]:
    """Central differences by the disputed entries of a leaf, and their errors; NaN elsewhere."""
    found, error = np.full(disputed.shape, np.nan), np.zeros(disputed.shape)
    for index in map(tuple, np.argwhere(disputed)[:PARTIALS]):
        unit = {p: np.zeros_like(value) for p, value in point.items()}
        unit[path][index] = 1.0
        h = 2.0**-10 * max(abs(float(point[path][index])), 0.1)
        coarse, fine = (
            (loss(moved(point, unit, t)) - loss(moved(point, unit, -t))) / (2 * t)
            for t in (h, h / 2)
        )
        found[index] = (4 * fine - coarse) / 3
        error[index] = abs(fine - coarse) + 1e-9 * abs(fine) + 1e-12
    return found, error


def taylor_slope(remainder: Float64Array, noise: float, steps: Float64Array = STEPS) -> float:
    """The order of the remainder in t; 2 where it is rounding from the start (a linear loss)."""
    size = np.abs(remainder)
    usable = size > 16 * noise
    if usable.sum() < 2:
        return 2.0
    logs = np.log2(size[usable])
    return float(np.polyfit(np.log2(steps[usable]), logs, 1)[0])


def kinks(
    gradient: Gradient, point: Point, truth: Point, given: Point
) -> dict[str, tuple[Any, Any]]:
    """The least and the greatest derivative of each entry beside the point; equal where smooth.

    A smooth derivative changes in proportion to the distance from the point; at a kink it changes
    at once, by the same amount at any distance. These are some of the derivatives beside the point,
    not all: they tell where a kink is, and `kinks.Kinks` tells what is right there.
    """
    ways = _ways(point, given)
    low, high = _beside(gradient, point, ways, ASIDE)
    far_low, far_high = _beside(gradient, point, ways, 16 * ASIDE)
    found = {}
    for path, true in truth.items():
        least, most = np.minimum(low[path], true), np.maximum(high[path], true)
        near = most - least
        far = np.maximum(far_high[path], true) - np.minimum(far_low[path], true)
        scale = max(float(np.abs(true).max(initial=0.0)), float(near.max(initial=0.0)))
        kinked = (near > far / 4) & (near > 1e-9 * scale)
        found[path] = np.where(kinked, least, true), np.where(kinked, most, true)
    return found


def _ways(point: Point, given: Point, draws: int = 6) -> list[Point]:
    """Directions to look along: all parameters up together, so that all units of a network open,
    random ones, and the given gradient. Of many equal entries those win by the last to which it
    gives something, which no random direction would find.
    """
    ways = [direction(point, seed) for seed in range(draws)]
    ways[0] = {path: np.abs(value) for path, value in ways[0].items()}
    sizes = [float(np.abs(value).max(initial=0.0)) for value in given.values()]
    if np.isfinite(sizes).all() and max(sizes, default=0.0) > 0:
        size = max((float(np.abs(value).max(initial=0.0)) for value in point.values()), default=0.0)
        scale = (size or 1.0) / max(sizes)
        way = {p: np.zeros_like(value) for p, value in point.items()}
        for path, value in given.items():
            if path in way and value.shape == way[path].shape and not np.iscomplexobj(way[path]):
                way[path] = scale * value
        ways.append(way)
    return ways


def _beside(gradient: Gradient, point: Point, ways: list[Point], t: float) -> tuple[Point, Point]:
    """The least and the greatest of each entry of the gradient, on both sides along each way."""
    low: Point = {}
    high: Point = {}
    for v in ways:
        for side in (t, -t):
            for path, value in gradient(moved(point, v, side)).items():
                low[path] = np.minimum(low.get(path, value), value)
                high[path] = np.maximum(high.get(path, value), value)
    return low, high
