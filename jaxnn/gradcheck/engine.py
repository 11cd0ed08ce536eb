"""The doctor for any loss: its own backward pass, and the edit of it that gives wrong numbers."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

import numpy as np

from jaxnn.gradcheck import search
from jaxnn.gradcheck.backward import Backward
from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.report import Finding
from jaxnn.gradcheck.tape import Tape, UntapableError, write
from jaxnn.gradcheck.telling import findings, unexplained

Leaves = Mapping[str, Float64Array]
Floors = Mapping[str, Float64Array | float]
P = ParamSpec("P")
Findings = list[Finding] | None


def verdict_stands(explain: Callable[P, Findings]) -> Callable[P, Findings]:
    """A search that fails over a loss nobody has thought of costs the cause, not the verdict."""

    @wraps(explain)
    def explained(*args: P.args, **kwargs: P.kwargs) -> Findings:
        try:
            return explain(*args, **kwargs)
        except Exception as error:
            warnings.warn(
                f"the search for the cause failed, and the verdict stands: "
                f"{type(error).__name__}: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
            return None

    return explained


@verdict_stands
def explain_loss(
    loss: Callable[..., Any],
    point: Mapping[str, Any],
    names: Mapping[str, Any],
    truth: Leaves,
    given: Leaves,
    floors: Floors,
    seconds: float = search.SECONDS,
) -> list[Finding] | None:
    """What is wrong with the gradient `given` of a loss; None where the loss cannot be followed.

    Every leaf that is wrong is in one finding. One whose code is "unknown" says between which lines
    the mistake lies. `loss(point)` is a function of the real parameters by name, all in float64;
    `names` are the other arrays that the user has names for.
    """
    tape = tape_of(lambda own: write(loss, point, names, own), truth, floors)
    if tape is None:
        return None
    return told(tape, [np.ones(())], given, floors, seconds)


def tape_of(
    write: Callable[[bool], Tape],
    truth: Leaves,
    floors: Floors,
    seeds: Callable[[Tape], list[Float64Array]] | None = None,
) -> Tape | None:
    """The tape whose backward pass gives the true gradient; None where there is none.

    A function with a derivative rule of its own is inlined first; where the rule is another than
    that of the function's operations, it is one operation.
    """
    for own_rules in (False, True):
        try:
            tape = write(own_rules)
            ones = [np.ones(tape.shape(v)) for v in tape.outputs]
            with np.errstate(all="ignore"):
                gradient = Backward(tape, seeds(tape) if seeds else ones).gradient()
        except (UntapableError, NotImplementedError, TypeError, ValueError, KeyError):
            continue
        if all(
            gradient[path].shape == np.shape(true)
            and bool((np.abs(gradient[path] - true) <= np.asarray(floors[path])).all())
            for path, true in truth.items()
        ):
            return tape
    return None


def told(
    tape: Tape,
    seeds: Sequence[Float64Array],
    given: Leaves,
    floors: Floors,
    seconds: float = search.SECONDS,
) -> list[Finding]:
    """The findings, those that explain something first."""
    explained = search.explain(tape, seeds, given, floors, seconds)
    return [*findings(explained), *unexplained(explained)]


@verdict_stands
def explain_vjp(
    vector: Callable[..., Any],
    point: Mapping[str, Any],
    cotangents: Sequence[Float64Array],
    truths: Sequence[Leaves],
    given: Sequence[Leaves],
    floors: Sequence[Floors],
    seconds: float = search.SECONDS,
) -> list[Finding] | None:
    """What is wrong with a vector-Jacobian product; None where the function cannot be followed.

    `vector(point)` is one vector of results; `truths`, `given` and `floors` are of the products
    with each of the cotangents. The first is explained, and that must hold for the others too.
    """
    tape = tape_of(
        lambda own: write(vector, point, own_rules=own),
        truths[0],
        floors[0],
        lambda tape: [np.asarray(cotangents[0])],
    )
    if tape is None:
        return None
    explained = search.explain(tape, [np.asarray(cotangents[0])], given[0], floors[0], seconds)
    by_themselves = {p for hits in explained.findings if not hits[0].edits for p in hits[0].leaves}
    for i in range(1, len(cotangents)):
        again = Backward(tape, [np.asarray(cotangents[i])])
        again.adopted = dict(explained.context.backward.adopted)
        with np.errstate(all="ignore"):
            again.run()
        for path, value in again.gradient().items():
            if path in explained.unexplained or path in by_themselves:
                continue
            if not (np.abs(value - given[i][path]) <= 4 * np.asarray(floors[i][path])).all():
                return None
    return [*findings(explained), *unexplained(explained)]
