"""jaxnn beside its peers: an epoch and its profile, the whole job, accuracy, many, growth."""

import json
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.contenders import CONTENDERS
from benchmarks.setup import Setup
from jaxnn.commands import cli
from jaxnn.errors import UsageError

DESCRIPTION = """\
Measure jaxnn beside its peers on the same work (pip install -e '.[bench]' installs them). Every
contender is a process of its own; they take turns (A B C, A B C, …), so that a machine whose speed
drifts is fair to all of them. Medians are printed, with minimum and maximum."""

EPILOG = """\
sections:
  epoch     seconds per epoch of training steps, beside the limit that this machine sets
  profile   where an epoch's time goes, by the line of the source
  job       process start to the final table, cold and warm; the first epoch; peak memory
  accuracy  process start to 98 %, 99 % and 99.5 % test accuracy, by recipes fixed beforehand
  many      32 networks in one program, beside 32 runs in turn
  growth    width, batch, depth and examples: throughput beside PyTorch's, and a picture

examples:
  python scripts/campaigns/benchmark.py --section epoch job
  python scripts/campaigns/benchmark.py --quick --data digits      every section in miniature
  python scripts/campaigns/benchmark.py --json > benchmark.json"""

SECTIONS = ("epoch", "profile", "job", "accuracy", "many", "growth")


def parser() -> cli.Parser:
    p = cli.Parser(DESCRIPTION, EPILOG)
    p.add_argument(
        "--section", nargs="+", choices=SECTIONS, default=SECTIONS, help="which (default: all)"
    )
    p.add_argument(
        "--data", default="mnist", help="as for scripts/train.py (default: mnist)", metavar="DATA"
    )
    p.add_argument(
        "--repeats",
        type=cli.integer(1, 1000),
        help="turns of each contender, several epochs each where epochs are timed; one turn is as "
        "good as the machine is quiet just then (default: 3)",
    )
    p.add_argument("--epochs", type=cli.integer(1, 10_000), help="of the whole job (default: 50)")
    p.add_argument(
        "--seeds", type=cli.integer(1, 1000), help="runs of the recipe for 98 %% (default: 10)"
    )
    p.add_argument(
        "--long_seeds",
        type=cli.integer(0, 1000),
        default=3,
        help="runs of the recipe for 99 %% and 99.5 %%, minutes each (default: 3; 0: none)",
    )
    p.add_argument(
        "--contenders",
        nargs="+",
        metavar="NAME",
        default=(),
        help=f"only these: {', '.join(map(repr, CONTENDERS))} (default: all)",
    )
    p.add_argument(
        "--quick", action="store_true", help="everything in miniature: no figure to be quoted"
    )
    p.add_argument(
        "--out",
        default="runs/benchmark",
        metavar="DIR",
        help="where the picture of growth goes (default: runs/benchmark)",
    )
    p.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report section by section; 1 if contenders disagree on what was computed."""
    args = parser().parse_args(argv)
    results: dict[str, Any] = {}
    described = machine.describe()
    if not args.json:
        print("  ".join(f"{name} {value}" for name, value in described.items()))
    with tempfile.TemporaryDirectory() as folder:
        setup = setup_from(args, Path(folder))
        for name in args.section:
            section = import_module(f"benchmarks.{name}")
            results[name] = section.measure(setup)
            if not args.json:
                print(f"\n{section.TITLE}\n{section.report(results[name])}", flush=True)
    if args.json:
        print(json.dumps({"machine": described, "quick": args.quick, **results}))
    return int(any(not r.get("agreement", {"agree": True})["agree"] for r in results.values()))


def setup_from(args: Any, folder: Path) -> Setup:
    """What the flags ask for. Raises JaxnnError."""
    from jaxnn import data

    unknown = sorted(set(args.contenders) - set(CONTENDERS))
    if unknown:
        raise UsageError(
            f"--contenders: {unknown[0]!r} is none; expected one of "
            f"{', '.join(map(repr, CONTENDERS))}"
        )
    # The contenders are told where the data lie: a cold start has no cache directory to look in.
    source = data.load(args.data).source
    return Setup(
        data=source if Path(source).exists() else args.data,
        repeats=args.repeats or (1 if args.quick else 3),
        seeds=args.seeds or (1 if args.quick else 10),
        long_seeds=args.long_seeds,
        epochs=args.epochs or (2 if args.quick else 50),
        quick=args.quick,
        only=tuple(args.contenders),
        folder=folder,
        out=Path(args.out).resolve(),
        notify=progress,
    )


def progress(line: str) -> None:
    """What is being measured, on a terminal's last line."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}\r", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.run(main)
