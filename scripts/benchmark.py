"""Time the whole job, from process start to the final table, beside the document's NumPy."""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from jaxnn import cli

DESCRIPTION = """\
Time the whole job from a cold start: a new process reads MNIST, trains the document's network for
50 epochs with a training and a test loss after each, and prints the table. The contenders take
turns, so that a machine whose speed drifts is fair to all of them; the medians are compared."""

SCRIPTS = Path(__file__).parent
CONTENDERS = {
    "jaxnn": [str(SCRIPTS / "train.py")],
    "the document's NumPy": [str(SCRIPTS / "peers" / "numpy_document.py")],
}


def parser() -> cli.Parser:
    p = cli.Parser(DESCRIPTION)
    p.add_argument(
        "--data", default="mnist", help="as for scripts/train.py (default: mnist)", metavar="DATA"
    )
    p.add_argument(
        "--epochs", type=cli.integer(1, 10_000), default=50, help="of each run (default: 50)"
    )
    p.add_argument(
        "--repeats", type=cli.integer(1, 1000), default=3, help="of each contender (default: 3)"
    )
    p.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run every contender in turn, as often as asked; print medians and ratios."""
    args = parser().parse_args(argv)
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(args.repeats):
        for name, command in CONTENDERS.items():
            seconds[name].append(
                timed([*command, "--data", args.data, "--epochs", str(args.epochs)])
            )
    if args.json:
        print(json.dumps({"machine": machine(), "epochs": args.epochs, "seconds": seconds}))
    else:
        report(seconds, args.epochs)
    return 0


def timed(command: list[str]) -> float:
    """Wall seconds of a new process that runs `command` in an empty folder, to its end."""
    folder = tempfile.mkdtemp()
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent)}
    begun = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - begun
    finally:
        shutil.rmtree(folder)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return seconds


def report(seconds: dict[str, list[float]], epochs: int) -> None:
    """A line per contender: median, minimum and maximum, and the ratio to jaxnn's median."""
    print("  ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"\n{epochs} epochs, process start to table   median s     min     max   ratio")
    base = statistics.median(seconds["jaxnn"])
    for name, values in seconds.items():
        median = statistics.median(values)
        print(
            f"{name:<35}{median:>10.2f}{min(values):>8.2f}{max(values):>8.2f}{median / base:>8.2f}"
        )


def machine() -> dict[str, str]:
    """What the figures depend on."""
    return {
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "numpy")},
    }


if __name__ == "__main__":
    cli.run(main)
