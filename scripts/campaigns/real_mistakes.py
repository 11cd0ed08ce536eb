"""What the doctor says of mistakes that people made in public, beside other gradient checkers.

    python scripts/campaigns/real_mistakes.py [FOLDER or NAME ...] [--checker NAME ...] [--quiet]

For each case it prints what its author needed to hear and what the doctor said: a cause is judged
by reading. Then comes the table: what each checker detected, where it accused a right gradient, and
in how many cases the doctor named the line that was needed. The cases are those of tests/reality:
`fresh` were collected after the doctor's search had been built, `tuned` were there before. FOLDER
takes others: Python modules with a list CASES each, whose cases are as tests/reality/case.py has
them. NAME is a part of the names of the cases to take. A checker that is not installed is left out,
and its row says so: `pip install -e '.[bench]'` installs them all.
"""

import argparse
import functools
import importlib
import importlib.util
import inspect
import re
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from jaxnn.errors import JaxnnError
from jaxnn.gradcheck import check_gradients, check_vjp

REALITY = Path(__file__).resolve().parents[2] / "tests" / "reality"
FOLDERS = (REALITY / "fresh", REALITY / "tuned")

#: "(line 34)", "lines 31 and 35"; "lines 31 to 35" is no line but a stretch of them.
LINES = re.compile(r"\blines? (\d++)(?! to)(?: and (\d+))?")

DOCTOR = "jaxnn"


def folder_of(what: str) -> Path | None:
    """The folder that is meant, one of tests/reality by its name alone; None for no folder."""
    return next((path for path in (Path(what), REALITY / what) if path.is_dir()), None)


def modules(folder: Path) -> Iterator[ModuleType]:
    """The modules of a folder that have cases, in the order of their names."""
    package, above = "", folder.resolve()
    while (above / "__init__.py").exists():
        package, above = f"{above.name}.{package}", above.parent
    sys.path.insert(0, str(above))
    for path in sorted(folder.glob("*.py")):
        if path.stem != "__init__":
            module = importlib.import_module(package + path.stem)
            if hasattr(module, "CASES"):
                yield module


class Problem(NamedTuple):
    """A gradient as the campaign's checkers take it."""

    loss: Any
    gradient: Any
    params: Any
    args: tuple[Any, ...]


def versions(case: Any) -> tuple[Any, Any]:
    """The version in doubt and the right one, as the checkers take them."""
    if case.vjp:
        wrong, right, args, reference = case.build()
        function = importlib.import_module("compare_checkers").Function
        return function(wrong, reference, args), function(right, reference, args)
    loss, wrong, right, params, args = case.build()
    return Problem(loss, wrong, params, args), Problem(loss, right, params, args)


def report_of(version: Any) -> Any:
    """The doctor's report on one version of a case."""
    if isinstance(version, Problem):
        return check_gradients(version.loss, version.gradient, version.params, *version.args)
    return check_vjp(version.function, *version.args, reference=version.reference)


def needed_lines(case: Any) -> frozenset[int]:
    """The lines of the case's file at which the mistake should be told; none where any will do."""
    wanted = getattr(case, "line", ())
    wanted = (wanted,) if isinstance(wanted, str) else wanted
    source, first = inspect.getsourcelines(case.build)
    start = next(n for n, text in enumerate(source) if text.lstrip().startswith("def "))
    found = (next(n for n in range(start, len(source)) if piece in source[n]) for piece in wanted)
    return frozenset(first + n for n in found)


def named_lines(explanation: str) -> frozenset[int]:
    """The lines that an explanation names."""
    return frozenset(int(n) for pair in LINES.findall(explanation) for n in pair if n)


@dataclass
class Score:
    """A checker's sums over the cases."""

    wrong: int = 0
    detected: int = 0
    right: int = 0
    accused: int = 0
    silent: int = 0  #: no verdict, on a mistake or on a right gradient
    misses: list[str] = field(default_factory=list)

    def count(self, name: str, is_wrong: bool, accused: bool | None) -> None:
        self.wrong += is_wrong
        self.right += not is_wrong
        self.silent += accused is None
        self.detected += is_wrong and accused is True
        self.accused += not is_wrong and accused is True
        if accused is not is_wrong:
            what = "no verdict" if accused is None else "accused" if accused else "missed"
            self.misses.append(f"{name} ({what})")

    def row(self, name: str) -> str:
        detected = f"{self.detected}/{self.wrong}" if self.wrong else "–"
        return f"{name:26}  {detected:>8}  {f'{self.accused}/{self.right}':>12}  {self.silent:>10}"


@dataclass
class Told:
    """What the doctor told of the mistakes that it detected."""

    lines: int = 0
    asked: int = 0
    unknown: int = 0
    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        times = sorted(self.seconds) or [0.0]
        median = times[len(times) // 2]
        return (
            f"the line that was needed is named in {self.lines}/{self.asked}, no cause given in "
            f"{self.unknown}; processor time: median {median:.1f} s, at most {times[-1]:.1f} s"
        )


@functools.cache
def others() -> dict[str, tuple[str, Any, Any]]:
    """The other checkers: the package, the check of a gradient, and that of a backward pass."""
    campaign = importlib.import_module("compare_checkers")
    return {
        name: (package, checker, campaign.VJP_CHECKERS[name][1])
        for name, (package, checker) in campaign.CHECKERS.items()
        if package != DOCTOR
    }


def accused_by(name: str, version: Any) -> bool | None:
    """Whether another checker accuses a version; None where it gives no verdict."""
    _, of_gradient, of_backward = others()[name]
    check = of_gradient if isinstance(version, Problem) else of_backward
    if check is None:
        return None
    accused: bool | None = check(version, 0).accused
    return accused


def diagnosed(case: Any, told: Told, quiet: bool) -> list[tuple[bool, bool | None]]:
    """The doctor's verdicts on a case, (is wrong, is accused) each; the case is printed."""
    in_doubt, right = versions(case)
    is_wrong = "right" not in case.tags
    start = time.process_time()
    report = report_of(in_doubt)
    seconds = time.process_time() - start
    if is_wrong and not report.ok:
        lines = needed_lines(case)
        told.asked += bool(lines)
        told.lines += bool(lines & named_lines(report.explanation))
        told.unknown += "unknown" in (report.cause or "")
        told.seconds.append(seconds)
    if not quiet:
        print(f"{case.name} ({case.kind}), {seconds:.1f} s of processor time")
        print(f"  needed  {case.cause} [{case.place}]")
        said = report.not_judged or f"{report.cause or 'right'}: {report.explanation}"
        print(f"  said    {said}\n", flush=True)
    verdicts = [(is_wrong, None if report.not_judged else not report.ok)]
    if is_wrong:
        report = report_of(right)
        verdicts.append((False, None if report.not_judged else not report.ok))
    return verdicts


def table(title: str, cases: list[Any], checkers: list[str], quiet: bool) -> None:
    """Take the cases to the checkers and print what came of it."""
    scores = {name: Score() for name in checkers}
    told = Told()
    for case in cases:
        for name in checkers:
            try:
                if name == DOCTOR:
                    verdicts = diagnosed(case, told, quiet)
                else:
                    in_doubt, right = versions(case)
                    is_wrong = "right" not in case.tags
                    verdicts = [(is_wrong, accused_by(name, in_doubt))]
                    if is_wrong:
                        verdicts.append((False, accused_by(name, right)))
            except (JaxnnError, TypeError, ValueError) as error:
                print(f"{case.name}, {name}: {str(error).splitlines()[0]}\n", flush=True)
                verdicts = [("right" not in case.tags, None)]
            for is_wrong, accused in verdicts:
                scores[name].count(case.name, is_wrong, accused)
    print(f"{title}: {len(cases)} cases")
    print(f"{'checker':26}  {'detected':>8}  {'false alarms':>12}  {'no verdict':>10}")
    for name, score in scores.items():
        print(score.row(name))
    if DOCTOR in checkers:
        print(f"{DOCTOR}: {told}")
    for name, score in scores.items():
        if score.misses:
            print(f"{name}: {', '.join(score.misses)}")
    print(flush=True)


def installed(names: Iterable[str]) -> Iterator[str]:
    """The checkers that can run here; of the others it is said that they are left out."""
    for name in names:
        if name != DOCTOR and importlib.util.find_spec(others()[name][0]) is None:
            print(f"{name}: not installed, left out", file=sys.stderr)
        else:
            yield name


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "what",
        nargs="*",
        metavar="FOLDER or NAME",
        help="folders with cases, parts of their names (default: all of fresh and tuned)",
    )
    parser.add_argument(
        "--checker",
        action="append",
        choices=[DOCTOR, *others()],
        help="only this checker, and others by further flags (default: all)",
    )
    parser.add_argument("--quiet", action="store_true", help="print the tables alone")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    where = {what: folder_of(what) for what in options.what}
    folders = [folder for folder in where.values() if folder] or list(FOLDERS)
    parts = [what for what, folder in where.items() if folder is None]
    found = {
        folder: [
            case
            for module in modules(folder)
            for case in module.CASES
            if not parts or any(part in case.name for part in parts)
        ]
        for folder in folders
    }
    if not any(found.values()):
        wanted = f"whose name has {' or '.join(parts)}" if parts else "at all"
        print(f"no case {wanted} in {', '.join(map(str, folders))}", file=sys.stderr)
        return 2
    checkers = list(installed(options.checker or [DOCTOR, *others()]))
    for folder, cases in found.items():
        if cases:
            table(folder.name, cases, checkers, options.quiet)
    return 0


if __name__ == "__main__":
    sys.exit(main())
