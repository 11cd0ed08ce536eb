"""Several runs side by side: where they differ, and what came of it."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxnn.commands import cli
from jaxnn.errors import JaxnnError, UsageError
from jaxnn.io import command

if TYPE_CHECKING:
    from jaxnn.runs.trained import Trained
    from jaxnn.training.loop import Record

DESCRIPTION = """\
Print runs side by side in one table, with the settings in which they differ, and with --out draw
their curves into one picture. A run that is not finished is shown as far as it has come; of a sweep
its best run is. What cannot be read is named and left out. Runs that differ in nothing but their
seeds get a mean and a standard deviation."""

EPILOG = """\
examples:
  python scripts/compare.py runs/*
  python scripts/compare.py runs/a runs/b --out a-and-b.png"""

NONE = "–"


class Compared(NamedTuple):
    """A run by the name it was given, and its epochs."""

    name: str
    network: "Trained"
    history: Sequence["Record"]


def parser() -> cli.Parser:
    """The runs and the picture's name."""
    p = cli.Parser(DESCRIPTION, EPILOG, "compare")
    p.add_argument("runs", metavar="RUN", nargs="+", help="the folder of a run")
    p.add_argument(
        "--out",
        metavar="FILE.png",
        help="a picture of the curves, which is not drawn by default",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Read the runs, print the table, draw the picture."""
    args = parser().parse_args(argv)
    if args.out and Path(args.out).suffix.lower() != ".png":
        raise UsageError(f"--out {args.out}: expected a file name that ends in .png")

    from jaxnn.report.text import columns

    compared, failures = readable(args.runs)
    if not compared:
        raise failures[-1] if failures else UsageError("no run is left to compare")
    for failure in failures:
        print(f"error: {failure}; left out", file=sys.stderr)
    common, rows = table(compared)
    print(f"{common}\n\n{columns(rows, right=range(1, len(rows[0])))}")
    results = [run.network.result for run in compared if run.network.result]
    if len(results) > 1 and one_experiment(compared):
        print(f"\nmean ± standard deviation of {len(results)} runs: {spread(results)}")
    if args.out:
        if not any(run.history for run in compared):
            raise UsageError(f"--out {args.out}: expected a run with an epoch to draw, found none")
        from jaxnn.report import canvas, plots

        canvas.write(Path(args.out), lambda: plots.comparison(curves(compared)))
        print(f"\ncurves in {args.out}")
    return command.USER_ERROR if failures else 0


def readable(names: Sequence[str]) -> tuple[list[Compared], list[JaxnnError]]:
    """The runs that can be read, and why others cannot. Of a sweep without a best run is said that
    it is left out."""
    from jaxnn.report import console

    compared: list[Compared] = []
    failures: list[JaxnnError] = []
    for name in dict.fromkeys(names):
        run = of_sweep(name)
        if run != name and not Path(run).is_dir():
            console.notice(f"{name}: a sweep that has no best run; left out")
            continue
        try:
            compared.append(read(run))
        except JaxnnError as error:
            failures.append(error)
    return compared, failures


def curves(compared: Sequence[Compared]) -> dict[str, Sequence["Record"]]:
    """The histories by a label: the run's name, the settings in which the runs differ, and what it
    was measured on where that differs."""
    drawn = [run for run in compared if run.history]
    parts = ["validation" if "validation_loss" in run.history[-1] else "test" for run in drawn]
    settings, varying = differing(drawn)
    found: dict[str, Sequence[Record]] = {}
    for run, part, flags in zip(drawn, parts, settings, strict=True):
        told = [f"{name} {flags[name]}" for name in varying]
        told += [f"on the {part} set"] if len({*parts}) > 1 else []
        found[f"{run.name}: {', '.join(told)}" if told else run.name] = run.history
    return found


def differing(compared: Sequence[Compared]) -> tuple[list[dict[str, str]], list[str]]:
    """The settings of each run, its data among them, and the names of those that differ."""
    settings = [
        {**flags(run.network), "data": name}
        for run, name in zip(compared, data_names(compared), strict=True)
    ]
    return settings, [name for name in settings[0] if len({each[name] for each in settings}) > 1]


def data_names(compared: Sequence[Compared]) -> list[str]:
    """The data's name of each run, with a part of its SHA-256 where others have the same name."""
    data = [run.network.run.data for run in compared]
    sums: dict[str, set[str]] = {}
    for noted in data:
        sums.setdefault(noted["name"], set()).add(noted["sha256"])
    return [
        noted["name"] if len(sums[noted["name"]]) == 1 else f"{noted['name']} {noted['sha256'][:8]}"
        for noted in data
    ]


def of_sweep(name: str) -> str:
    """The best run of a sweep, where `name` is the folder of one; else the name itself."""
    folder = Path(name)
    return str(folder / "best") if (folder / "histories.jsonl").exists() else name


def read(name: str) -> Compared:
    """A run and its history, both from files that carry a checksum.

    A finished run is compared without its curves where its checkpoints are gone.
    """
    from jaxnn.errors import CheckpointError
    from jaxnn.report import console
    from jaxnn.runs import run_folder, trained

    network = trained.load(Path(name), console.notice)
    try:
        _, progress = run_folder.load_latest(Path(name), lambda line: None)
    except CheckpointError as error:
        console.notice(f"{error}; its curves are left out")
        return Compared(name, network, ())
    return Compared(name, network, progress.history[: network.epochs])


def table(compared: Sequence[Compared]) -> tuple[str, list[list[str]]]:
    """What all runs have in common, in a line; a header, and a row for each run."""
    settings, varying = differing(compared)
    same = ", ".join(
        f"{name} {value}" for name, value in settings[0].items() if name not in varying
    )
    header = ["run", *varying, "epochs", *outcome_names()]
    rows = [
        [run.name, *(flags[name] for name in varying), epochs(run), *outcome(run)]
        for run, flags in zip(compared, settings, strict=True)
    ]
    return f"all: {same}" if len(compared) > 1 else same, [header, *rows]


def one_experiment(compared: Sequence[Compared]) -> bool:
    """Whether the finished runs differ in their seeds, and in nothing else."""
    kinds, seeds = set(), []
    for run in compared:
        if run.network.result:
            settings = flags(run.network)
            seeds.append(settings.pop("seed"))
            kinds.add((run.network.run.data["sha256"], epochs(run), *settings.items()))
    return len(kinds) == 1 and len(set(seeds)) == len(seeds)


def flags(network: "Trained") -> dict[str, str]:
    """The data and the configuration as text; epochs have a column of their own."""
    data, config = network.run.data, network.run.config.to_dict()
    del config["epochs"]
    return {"data": str(data["name"]), **{name: plain(value) for name, value in config.items()}}


def plain(value: Any) -> str:
    """A setting as text."""
    if isinstance(value, list):
        return " ".join(map(str, value)) or "0"
    return NONE if value is None else str(value)


def spread(results: Sequence[Mapping[str, Any]]) -> str:
    """Over all runs: mean ± sample standard deviation of the test set's figures, in per cent."""
    parts = []
    for name in ("test_accuracy", "precision", "recall", "f1"):
        values = [100 * float(result[name]) for result in results]
        mean, deviation = statistics.mean(values), statistics.stdev(values)
        parts.append(f"{name.replace('_', ' ')} {mean:.2f} ± {deviation:.2f} %")
    return ", ".join(parts)


def epochs(run: Compared) -> str:
    """Done, of those asked for; and which one was chosen, where it is not the last."""
    asked = run.network.run.config.epochs
    done, result = run.network.epochs, run.network.result
    if not result:
        return f"{done} of {asked}"
    chosen = result.get("chosen_epoch", done)
    return f"{done}" if chosen == done else f"{done}, chosen {chosen}"


def outcome_names() -> list[str]:
    return ["train loss", "test loss", "test accuracy", "F1", "seconds"]


def outcome(run: Compared) -> list[str]:
    """The figures at the end; of an unfinished run those of its latest epoch."""
    result = run.network.result
    known: dict[str, Any] = dict(result or (run.history[-1] if run.history else {}))
    return [
        f"{known['train_loss']:.4f}" if "train_loss" in known else NONE,
        f"{known['test_loss']:.4f}" if "test_loss" in known else NONE,
        f"{known['test_accuracy']:.2%}" if "test_accuracy" in known else NONE,
        f"{known['f1']:.4f}" if "f1" in known else NONE,
        f"{sum(record['seconds'] for record in run.history):.1f}" if run.history else NONE,
    ]
