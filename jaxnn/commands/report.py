"""The report of a run, also of one that is not finished."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxnn.commands import cli
from jaxnn.commands.evaluate import belongs, fitting
from jaxnn.errors import UsageError

if TYPE_CHECKING:
    from jaxnn.commands.experiment import Results
    from jaxnn.data import Dataset
    from jaxnn.runs.trained import Trained
    from jaxnn.training.loop import Snapshot

DESCRIPTION = """\
Write report.html, the pictures and explore.html into the folder of a run: anew, or of a run that
was interrupted, as far as it has come. Nothing is trained, and nothing else in the folder changes:
the run can go on afterwards."""

EPILOG = """\
examples:
  python scripts/report.py runs/my-run
  python scripts/report.py runs/my-run --no_plots   the report without pictures"""


def parser() -> cli.Parser:
    """A run."""
    p = cli.Parser(DESCRIPTION, EPILOG, "report")
    p.add_argument("run", metavar="RUN", help="the folder of a run, finished or not")
    p.add_argument(
        "--data",
        metavar="DATA",
        help="where the run's data are, if they have been moved (default: where they were)",
    )
    p.add_argument(
        "--no_plots",
        action="store_true",
        help="leave the pictures and explore.html out (default: draw them)",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Load, evaluate, write."""
    args = parser().parse_args(argv)

    from jaxnn import data
    from jaxnn.commands import experiment
    from jaxnn.report import console
    from jaxnn.runs import layout, run_folder, trained

    network = trained.load(Path(args.run), console.notice)
    run, snapshot = run_folder.load_latest(Path(args.run), lambda line: None)
    history = snapshot.history[: network.epochs]
    if not history:
        raise UsageError(f"{args.run}: expected a run with an epoch to report, found none")
    dataset = data.load(
        args.data or run.data["argument"], notify=console.notice, **run.data.get("reading", {})
    )
    dataset = fitting(dataset, network)
    belongs(dataset, network, asked_for=False)
    found = figures(network, dataset, snapshot)
    experiment.write_report(network, dataset, history, found, not args.no_plots)
    print(f"report in {network.run.folder / layout.REPORT}")
    return 0


def figures(network: "Trained", dataset: "Dataset", snapshot: "Snapshot") -> "Results":
    """What was recorded at the end; of a run that is not finished, what it comes to now."""
    from jaxnn.commands.experiment import Results
    from jaxnn.report import console
    from jaxnn.runs import results

    config = network.config
    test = results.test(dataset, config, network.params)
    classes = results.report(dataset, test)
    seconds = sum(record["seconds"] for record in snapshot.history[: network.epochs])
    if network.result is not None:
        result = {**network.result, "train_seconds": seconds}
    else:
        result = {
            **results.figures(dataset, config, snapshot, test, classes),
            "gradient_check": None,
            "versions": network.run.versions,
        }
    return Results(result, console.table(classes, test.accuracy), classes, test)
