"""What an examination found: verdict, table, cause, and what to change."""

import html
import math
from dataclasses import dataclass
from typing import Any

from jaxnn.errors import JaxnnError
from jaxnn.gradcheck.compare import LeafReport


class GradientError(JaxnnError, AssertionError):
    """A gradient is wrong, or cannot be judged. The message is the whole report, on its lines."""

    def __init__(self, report: "GradientReport") -> None:
        Exception.__init__(self, str(report))
        self.report = report


@dataclass(frozen=True)
class Finding:
    """One mistake: its stable code, the equation or leaf that has it, and what to change.

    `right` is the equation to write, as code. `ordered` says that `equation` is the first wrong one
    of a derivation; else it is one of the leaves that show the mistake.
    """

    code: str
    equation: str
    sentence: str
    factor: float | None = None
    places: tuple[str, ...] = ()
    right: str = ""
    ordered: bool = False

    def __str__(self) -> str:
        return f"{self.sentence} Write {self.right}." if self.right else self.sentence


#: A witness's status as a predicate of its subject.
SAID = {
    "confirms": "agrees with autodiff",
    "kink": "has a kink here",
    "disputes": "disputes what autodiff claims",
    "silent": "could not be evaluated nearby",
}


@dataclass(frozen=True)
class Witness:
    """What the loss itself says, in float64, along one direction v through the point.

    `status` is "confirms" where autodiff is the derivative of the loss, "kink" where the loss has
    none at this point, "disputes" where autodiff claims another derivative than the loss has, and
    "silent" where the loss could not be evaluated nearby.
    """

    status: str
    difference: float  #: (f(p + hv) − f(p − hv)) / 2h, extrapolated
    autodiff: float  #: ⟨autodiff's gradient, v⟩
    given: float  #: ⟨the gradient under test, v⟩
    slope: float  #: Taylor remainder's order with autodiff: 2 where it is the derivative
    given_slope: float  #: the same with the gradient under test: 1 where wrong, NaN where hidden
    subject: str = "The loss"  #: the scalar function that was evaluated

    def __str__(self) -> str:
        yours = (
            "none with yours, which rounding hides"
            if math.isnan(self.given_slope)
            else f"{self.given_slope:.2f} with yours"
        )
        return (
            f"{self.subject} {SAID[self.status]}: central difference {self.difference:.10g}, "
            f"autodiff {self.autodiff:.10g}, yours {self.given:.10g}; Taylor slope "
            f"{self.slope:.2f} with autodiff, {yours}"
        )


@dataclass(frozen=True)
class GradientReport:
    """The verdict on a gradient. `print` it, or look at it in a notebook."""

    ok: bool
    leaves: tuple[LeafReport, ...]
    findings: tuple[Finding, ...] = ()
    witness: Witness | None = None
    notes: tuple[str, ...] = ()
    precision: str = "float64"  #: the dtype in which the comparison was made
    title: str = "gradient"
    not_judged: str = ""  #: why it can be called neither right nor wrong; then `ok` is False
    scope: str = ""  #: in what sense it is right, where not every derivative was compared by itself

    @property
    def cause(self) -> str | None:
        """The code of what is wrong; of several mistakes at once the codes, joined by "+"."""
        return "+".join(dict.fromkeys(finding.code for finding in self.findings)) or None

    @property
    def factor(self) -> float | None:
        """By what the wrong derivative is multiplied, where the cause is a constant."""
        return next((f.factor for f in self.findings if f.factor is not None), None)

    @property
    def first_wrong(self) -> str | None:
        """The first wrong equation of a derivation, in the order in which back-propagation computes
        them; of any other loss, a leaf that is wrong."""
        return next((f.equation for f in self.findings if f.equation), None)

    @property
    def explanation(self) -> str:
        """What is wrong and what to change, in a sentence for each cause; empty where ok."""
        return " ".join(map(str, self.findings))

    @property
    def max_relative_error(self) -> float:
        """The largest of the leaves' relative errors; NaN where one could not be compared."""
        errors = [leaf.relative_error for leaf in self.leaves]
        return math.nan if any(map(math.isnan, errors)) else max(errors, default=0.0)

    def raise_if_wrong(self) -> "GradientReport":
        """Itself where ok; else a `GradientError` (an AssertionError) with the whole report."""
        if not self.ok:
            raise GradientError(self)
        return self

    def to_dict(self) -> dict[str, Any]:
        """For JSON: a number that is not finite becomes None."""
        return {
            "ok": self.ok,
            "first_wrong": self.first_wrong,
            "cause": self.cause,
            "factor": _finite(self.factor),
            "explanation": self.explanation,
            "not_judged": self.not_judged or None,
            "leaves": [
                {
                    "path": leaf.path,
                    "shape": list(leaf.shape),
                    "relative_error": _finite(leaf.relative_error),
                    "ratio": _finite(leaf.ratio),
                    "cosine": _finite(leaf.cosine),
                    "worst_index": None if leaf.worst_index is None else list(leaf.worst_index),
                    "ok": leaf.ok,
                }
                for leaf in self.leaves
            ],
            "witness": None
            if self.witness is None
            else {
                name: value if isinstance(value, str) else _finite(value)
                for name, value in vars(self.witness).items()
            },
        }

    @property
    def verdict(self) -> str:
        """One line: right, and how closely; wrong, where first, and the cause; or not judged."""
        if self.not_judged:
            return f"CANNOT BE JUDGED  {self.title}, because {self.not_judged}"
        if self.ok:
            worst = max((leaf.noise for leaf in self.leaves), default=0.0)
            scope = f", {self.scope}" if self.scope else ""
            return (
                f"RIGHT  {self.title}{scope}: "
                f"largest relative error {self.max_relative_error:.1e}, "
                f"{worst:.2f} of what rounding in {self.precision} explains"
            )
        return f"WRONG  {self.title}{self._where()}, cause: {self.cause}"

    def _where(self) -> str:
        """The first wrong equation of a derivation; else the wrong leaves, in no order."""
        first = next((f for f in self.findings if f.equation), None)
        if first is None:
            return ""
        if first.ordered:
            return f", first wrong: {first.equation}"
        places = dict.fromkeys(p for f in self.findings for p in (f.places or (f.equation,)) if p)
        return f", in {', '.join(places)}"

    def __str__(self) -> str:
        lines = [*_aligned(_table(self.leaves)), "", self.verdict]
        lines += [f"  {finding}" for finding in self.findings]
        if self.witness is not None:
            lines.append(f"  {self.witness}.")
        lines += [f"  Note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head, *rows = _table(self.leaves)
        cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        after = str(self).split("\n\n", 1)[1]
        return (
            f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
            f"<pre>{html.escape(after)}</pre>"
        )


#: What the table has in the place of figures where nothing was judged.
NOT_JUDGED = "not judged"


def _table(leaves: tuple[LeafReport, ...]) -> list[list[str]]:
    """Head and rows. `noise` is the worst error in multiples of what rounding explains."""
    rows = [["", "leaf", "shape", "error", "noise", "ratio", "cosine", "worst at", "yours", "true"]]
    for leaf in leaves:
        mark = ("ok" if not leaf.kinks else "kink") if leaf.ok else "WRONG"
        mark = "" if leaf.problem == NOT_JUDGED else mark
        shape = "×".join(map(str, leaf.shape)) or "1"
        at = "" if leaf.worst_index is None else ",".join(map(str, leaf.worst_index))
        if leaf.problem:
            rows.append([mark, leaf.path, shape, leaf.problem, *[""] * 6])
            continue
        figures = [f"{leaf.relative_error:.1e}", f"{leaf.noise:.2g}", f"{leaf.ratio:.6g}"]
        figures += [f"{leaf.cosine:.6f}", at, f"{leaf.given:.6g}", f"{leaf.true:.6g}"]
        rows.append([mark, leaf.path, shape, *figures])
    return rows


def _aligned(rows: list[list[str]]) -> list[str]:
    """Columns of equal width; a problem told in words may run over the empty cells behind it."""
    whole = [row for row in rows if any(row[4:])] or rows
    widths = [max(len(row[i]) for row in whole) for i in range(len(rows[0]))]
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
