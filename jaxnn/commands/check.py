"""Verify hand-written gradients: our own network, or the homework of others."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jaxnn.commands import cli
from jaxnn.errors import JaxnnError, UsageError
from jaxnn.io.command import with_flags
from jaxnn.training.config import SETTINGS

if TYPE_CHECKING:
    from jaxnn.gradcheck.report import GradientReport
    from jaxnn.homework.trial import Setting

DESCRIPTION = "Verify hand-written gradients: our own network, or somebody's homework file."

EPILOG = """\
examples:
  python scripts/check_gradients.py                     our network, several depths, activations
  python scripts/check_gradients.py my_backprop.py      the backward pass of a NumPy file
  python scripts/check_gradients.py homework.ipynb      of a notebook
  python scripts/check_gradients.py hw/*.py             of a class: a table, a line for each
  python scripts/check_gradients.py --explain sign      what this fault is and how to see it

A homework file is plain NumPy, a program or a notebook, as it is: imports, definitions and
constants are run, in a process of its own; what trains, plots or reads files is left out.
Understood are
  back_propagate(X, Y, params, cache), backward_propagation(parameters, cache, X, Y),
  L_model_backward(AL, Y, caches), backward_prop(Z1, A1, Z2, A2, W1, W2, X, Y) and others by these
  names; a class with loss(X, y) that returns (loss, grads), with forward and backward, or with
  backprop(x, y), which returns its gradients, keeps them, or updates its weights in place.
Rows or columns, activation and loss are found by trying, and the report says how the file was read;
the flags decide where it is wrong about that. docs/homework.md has an example of each form, and an
adapter of five lines for everything else.
exit status: 0 right, 1 wrong, 2 nothing could be checked or judged; of several files the highest.
"""

#: What only a homework file takes.
ONLY_HOMEWORK = (
    *("rows", "activation", "loss", "function", "l2", "m", "n_x", "n_h", "n_classes"),
    *("seed", "timeout"),
)

#: The words of `--loss`, which are those of `jaxnn.homework.reading`.
LOSSES = ("softmax", "sigmoid", "half_squared", "squared")
REDUCTIONS = ("mean", "sum", "entries")


class Parser(cli.Parser):
    """Says what is wrong with the flags in JSON as well, where that is asked for."""

    as_json = False

    def error(self, message: str) -> NoReturn:
        error = UsageError(message)
        if self.as_json:
            print(unable(error))
        super().error(str(error))


def loss_words(text: str) -> str:
    """An argparse type: a loss, a reduction, or both with a comma between."""
    words = text.split(",")
    kinds = [[w for w in words if w in table] for table in (LOSSES, REDUCTIONS)]
    if len(kinds[0]) + len(kinds[1]) != len(words) or max(map(len, kinds)) > 1:
        raise argparse.ArgumentTypeError(
            f"expected one of {', '.join(LOSSES)}, one of {', '.join(REDUCTIONS)}, or both as in "
            f"squared,sum, found {text!r}"
        )
    return text


def parser() -> Parser:
    """The flags. Sizes are distinct primes, so that a ratio between two arrays names one size."""
    found = Parser(DESCRIPTION, EPILOG, "check", usage="%(prog)s [FILE ...] [--json] [--rows] …")
    size = cli.integer(1, 2000)
    found.add_argument(
        "file",
        metavar="FILE",
        nargs="*",
        type=Path,
        help="homework, .py or .ipynb, before all flags; without it our own network",
    )
    way = found.add_mutually_exclusive_group()
    way.add_argument(
        "--rows",
        action="store_const",
        const=True,
        help="examples are rows, X is (m, n_x) (default: as the file's functions take them)",
    )
    way.add_argument(
        "--columns",
        dest="rows",
        action="store_const",
        const=False,
        help="examples are columns, X is (n_x, m)",
    )
    activations = SETTINGS["activation"].kind.names  # type: ignore[attr-defined]
    found.add_argument(
        "--activation",
        choices=list(activations),
        help=f"of the file's hidden layers: {', '.join(activations)} (default: as in its forward "
        "pass, else sigmoid)",
        metavar="NAME",
    )
    found.add_argument(
        "--loss",
        type=loss_words,
        metavar="WORDS",
        help="what the gradient is held to: softmax or sigmoid (each with cross-entropy), squared, "
        "half_squared; mean or sum over the examples, or entries, the mean over the outputs too; "
        "or both, squared,sum (default: the file's own loss, else what its gradient is right for)",
    )
    found.add_argument(
        "--function",
        default="",
        metavar="NAME",
        help="the backward pass, as NAME or CLASS.NAME (default: found by the usual names)",
    )
    found.add_argument(
        "--l2",
        type=cli.number(0, 1e6, low_included=True, high_included=True),
        default=0.0,
        help="λ of a penalty λ/2 Σ‖W‖² in the loss (default: 0)",
    )
    found.add_argument("--m", type=size, default=17, help="examples (default: 17)")
    found.add_argument("--n_x", type=size, default=11, help="inputs (default: 11)")
    found.add_argument("--n_h", type=size, nargs="*", default=[7], help="hidden units (default: 7)")
    found.add_argument("--n_classes", type=size, default=5, help="classes (default: 5)")
    found.add_argument(
        "--seed", type=cli.integer(0, 2**31), default=0, help="of the numbers (default: 0)"
    )
    found.add_argument(
        "--timeout",
        type=cli.number(0, 3600, low_included=False, high_included=True),
        default=10.0,
        help="seconds that a file may run (default: 10)",
    )
    found.add_argument(
        "--json",
        action="store_true",
        help="print the report as JSON, nothing else; of several files a list",
    )
    found.add_argument(
        "--explain", metavar="CODE", help="explain a fault by its code; codes lists them"
    )
    return found


def main(arguments: Sequence[str] | None) -> int:
    """Exit status 0 if right, 1 if wrong; JaxnnError for what could not be checked."""
    flags = parser()
    flags.as_json = "--json" in (sys.argv[1:] if arguments is None else arguments)
    options = flags.parse_args(arguments)
    try:
        return command(flags, options)
    except Exception as error:
        if options.json:
            print(unable(error))
        raise


def unable(error: Exception) -> str:
    """The object that stands for a report where nothing could be checked."""
    return json.dumps({"ok": None, "error": str(error) or type(error).__name__}, ensure_ascii=False)


def command(flags: Parser, options: argparse.Namespace) -> int:
    """A lesson, our own network, or homework."""
    if options.explain is not None:
        return explain(options.explain)
    if not options.file:
        asked = [n for n in ONLY_HOMEWORK if getattr(options, n) != flags.get_default(n)]
        if asked:
            raise UsageError(f"--{asked[0]}: expected FILE as well, a homework file, before it")
        return own_network(options.json)
    from jaxnn.homework.trial import Setting

    setting = Setting(
        m=options.m,
        n_x=options.n_x,
        n_h=tuple(options.n_h),
        n_classes=options.n_classes,
        activation=options.activation,
        loss=options.loss or "",
        l2=options.l2,
        seed=options.seed,
        timeout=options.timeout,
        rows=options.rows,
        function=options.function,
    )
    if len(options.file) > 1:
        return several(options.file, setting, options.json)
    from jaxnn.homework import homework

    report = _with_flags(homework.check_homework(options.file[0], setting))
    if options.json:
        print(json.dumps(_as_dict(options.file[0], report), ensure_ascii=False))
    else:
        print(report)
    return status_of(report)


def status_of(report: "GradientReport") -> int:
    """0 right, 1 wrong, 2 not judged."""
    return 2 if report.not_judged else 0 if report.ok else 1


def _as_dict(path: Path, report: "GradientReport") -> dict[str, Any]:
    return {"file": str(path), **report.to_dict(), "notes": list(report.notes)}


def _with_flags(report: "GradientReport") -> "GradientReport":
    """The report whose notes name settings as flags."""
    return replace(report, notes=tuple(map(with_flags, report.notes)))


def several(files: Iterable[Path], setting: "Setting", as_json: bool) -> int:
    """A table with a line for each file, as each is examined; the highest of their statuses."""
    from jaxnn.homework import homework

    files = list(files)
    width = max(len(str(file)) for file in files)
    rows: list[dict[str, Any]] = []
    statuses: list[int] = []
    if not as_json:
        print(_row("file", width, "verdict", "first wrong", "cause", "what to change"), flush=True)
    for file in files:
        try:
            report = _with_flags(homework.check_homework(file, setting))
        except Exception as error:  # One of sixty files stops no other.
            told = with_flags(str(error)) or type(error).__name__
            if not isinstance(error, JaxnnError):
                told = f"{type(error).__name__}: {told}"
            rows.append({"file": str(file), "ok": None, "error": told})
            statuses.append(2)
            line = _row(str(file), width, "not judged", "", "", told)
        else:
            rows.append(_as_dict(file, report))
            statuses.append(status_of(report))
            verdict = ("right", "WRONG", "not judged")[statuses[-1]]
            first, cause = report.first_wrong or "", report.cause or ""
            told = report.explanation or report.not_judged or report.scope
            line = _row(str(file), width, verdict, first, cause, told)
        if not as_json:
            print(line, flush=True)
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        right, wrong, neither = (statuses.count(status) for status in range(3))
        print(f"\n{len(files)} files: {right} right, {wrong} wrong, {neither} not judged")
    return max(statuses)


def _row(file: str, width: int, verdict: str, first: str, cause: str, told: str) -> str:
    told = " ".join(told.split())
    return f"{file:<{width}}  {verdict:<10}  {first:<11}  {cause:<28}  {told}".rstrip()


def explain(code: str) -> int:
    """Print a lesson, or the list of codes, which is also what an unknown code gets."""
    from jaxnn.gradcheck.explanations import LESSONS
    from jaxnn.gradcheck.explanations import explain as lesson

    if code == "codes":
        print("\n".join(LESSONS))
        return 0
    told = lesson(code)
    if told is None:
        raise JaxnnError(f"no fault is called {code}; the codes are {', '.join(LESSONS)}")
    print(told)
    return 0


def own_network(as_json: bool) -> int:
    """The document's network in full, then one line for each other depth, activation and dtype."""
    from jaxnn.homework.shapes import verify_shapes

    wrong = None
    for number, report in enumerate(verify_shapes()):
        wrong = wrong or (None if report.ok else report)
        if number == 0:
            first = report
        if not as_json:
            print(f"{report}\n" if number == 0 or not report.ok else report.verdict, flush=True)
    if as_json:
        print(json.dumps((wrong or first).to_dict(), ensure_ascii=False))
    else:
        print("WRONG" if wrong else "RIGHT", " our network's hand-derived gradients")
    return 1 if wrong else 0
