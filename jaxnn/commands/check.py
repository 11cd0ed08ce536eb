"""Verify hand-written gradients: our own network, or somebody's homework file."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from jaxnn.commands import cli
from jaxnn.errors import JaxnnError, UsageError

DESCRIPTION = "Verify hand-written gradients: our own network, or somebody's homework file."

EPILOG = """\
examples:
  python scripts/check_gradients.py                     our network, several depths, activations
  python scripts/check_gradients.py my_backprop.py      back_propagate of a NumPy file
  python scripts/check_gradients.py --explain sign      what this fault is and how to see it

A homework file is plain NumPy in the document's form, with examples as columns: X (n_x, m), Y
(n_classes, m) one-hot, params {"W1" (n_h, n_x), "b1" (n_h, 1), "W2", "b2"}, cache {"Z1", "A1",
"Z2", "A2"}, deeper with "W3" and so on:
  back_propagate(X, Y, params, cache, m_batch) -> {"dW1", "db1", "dW2", "db2"} and any of
  "dZ2", "dA1", "dZ1", which are then checked too. m_batch may be a global instead. Its own
  feed_forward(X, params) is used, and checked first, if it has one.
exit status: 0 right, 1 wrong, 2 nothing could be checked or judged.
"""


#: What only a homework file takes.
SETTING = ("activation", "loss", "l2", "m", "n_x", "n_h", "n_classes", "seed", "timeout")


class Parser(cli.Parser):
    """Says what is wrong with the flags in JSON as well, where that is asked for."""

    as_json = False

    def error(self, message: str) -> NoReturn:
        error = UsageError(message)
        if self.as_json:
            print(unable(error))
        super().error(str(error))


def parser() -> Parser:
    """The flags. Sizes are distinct primes, so that a ratio between two arrays names one size."""
    found = Parser(DESCRIPTION, EPILOG, "check", usage="%(prog)s [FILE] [--n_h N ...] [--m M] …")
    size = cli.integer(1, 2000)
    found.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=Path,
        help="a homework file, before all flags; without it our network, in sizes of its own",
    )
    found.add_argument(
        "--activation",
        default="sigmoid",
        choices=["sigmoid", "tanh", "relu"],
        help="of the file's hidden layers (default: sigmoid)",
    )
    found.add_argument("--loss", default="mean", choices=["sum", "mean"], help="over the batch")
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
        help="seconds that the file may run (default: 10)",
    )
    found.add_argument("--json", action="store_true", help="print the report as JSON, nothing else")
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
    """A lesson, our own network, or a homework file."""
    if options.explain is not None:
        return explain(options.explain)
    if options.file is None:
        asked = [name for name in SETTING if getattr(options, name) != flags.get_default(name)]
        if asked:
            raise UsageError(f"--{asked[0]}: expected FILE as well, a homework file, before it")
        return own_network(options.json)
    from jaxnn.homework.homework import Setting, check_homework

    setting = Setting(
        options.m,
        options.n_x,
        tuple(options.n_h),
        options.n_classes,
        options.activation,
        options.loss == "mean",
        options.l2,
        options.seed,
        options.timeout,
    )
    report = check_homework(options.file, setting)
    print(json.dumps(report.to_dict(), ensure_ascii=False) if options.json else report)
    return 2 if report.not_judged else 0 if report.ok else 1


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
