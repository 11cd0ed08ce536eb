"""Train a whole grid of hyperparameters, every network at once, and choose by validation."""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxnn.commands import cli
from jaxnn.commands.flags import add, add_axis, add_quiet
from jaxnn.errors import TrainingDivergedError, UsageError
from jaxnn.io.output import quietly
from jaxnn.training.config import AXES, READING, SETTINGS, Config

if TYPE_CHECKING:
    from jaxnn.data import Dataset
    from jaxnn.gradcheck import GradientReport
    from jaxnn.training.grid import Point
    from jaxnn.training.sweep import SweepStatus

DESCRIPTION = """\
Train a network for every combination of the values given, and for several seeds each, in one
compiled program that is spread over the devices: here, the cores. A validation set is held out of
the training set for each seed; its loss chooses each run's epoch, and its mean over the seeds the
best combination. Each network is the one that `python scripts/train.py` makes with the same
flags."""

EPILOG = """\
examples:
  python scripts/sweep.py --lr 0.1 0.3 0.5 1 --beta 0 0.5 0.9 --seeds 5 --epochs 20
  python scripts/sweep.py --n_h 32 64 128 128x64 --epochs 10    widths, and two hidden layers
  python scripts/sweep.py --data digits --lr 0.1 0.5 2 --batch_size 16 64 --out my-sweep

What comes of it: a table of mean ± half a 95 % confidence interval (Student's t over the seeds), a
heat map, and the best run in the folder best/, for all that is done with a run: evaluate, predict,
compare, resume. Its test set is opened once, after the choice. A run whose loss becomes infinite
ends there, and its combination is not chosen. Ctrl-C ends after an epoch, with what there is. Every
flag may also be written with hyphens: --batch-size is --batch_size."""


def parser() -> cli.Parser:
    """The axes of the grid, and what its runs have in common."""
    default = Config()
    p = cli.Parser(DESCRIPTION, EPILOG, "sweep")
    axes = p.add_argument_group("the grid: each flag takes one or more values")
    for name in AXES:
        add_axis(axes, name, getattr(default, name))
    axes.add_argument(
        "--seeds",
        type=cli.integer(1, 10_000),
        default=3,
        metavar="N",
        help="runs of each combination, which differ in initial weights, order of the examples and "
        "validation set; one gives no confidence interval (default: 3)",
    )
    axes.add_argument(
        "--seed",
        type=cli.argument(SETTINGS["seed"].kind),
        default=default.seed,
        metavar="N",
        help=f"the first of the seeds, which count up from it (default: {default.seed})",
    )
    run = p.add_argument_group("every run")
    run.add_argument(
        "--data",
        default="auto",
        metavar="DATA",
        help=f"{cli.DATA} (default: auto: MNIST where it can be had, and digits otherwise)",
    )
    for name in READING:
        add(run, name)
    add(run, "epochs", 20)
    add(run, "validation", 1 / 6, "a sixth")
    sweep = p.add_argument_group("sweep")
    sweep.add_argument(
        "--memory",
        type=cli.integer(1, 2**31 - 1),
        metavar="MIB",
        help="train in parts that fit into so many MiB (default: half of what is free)",
    )
    sweep.add_argument(
        "--out",
        metavar="DIR",
        help="a new or empty folder for the results (default: a new folder under runs/)",
    )
    sweep.add_argument("--no_plots", action="store_true", help="leave the pictures out")
    add_quiet(sweep)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Read, verify, train, choose, report."""
    args = parser().parse_args(argv)
    return quietly(args.quiet, train, args, time.perf_counter())


def train(args: argparse.Namespace, begun: float) -> int:
    """The sweep, for a command that began then."""
    configs = grid_of(args)

    from jaxnn import compilation, data
    from jaxnn.report import console, sweep_report
    from jaxnn.runs import run_folder
    from jaxnn.training import sweep
    from jaxnn.training.grid import groups
    from jaxnn.training.interrupt import Interrupted, until_interrupted

    run_folder.require_new(args.out, run_folder.ANOTHER)
    sweep.use_every_core(len(configs))
    compilation.keep_programs(data.cache_dir() / "compiled")
    reading = configs[0].reading()
    dataset = data.load(args.data, notify=console.notice, **reading)
    memory = args.memory and args.memory * 2**20
    require_batches(dataset, configs)
    sweep.require_memory(dataset, configs, memory)
    sweep_report.summary(dataset, configs)
    checks = {group[0]: verified(dataset, group[0]) for group in groups(configs)}
    console.verdict(max(checks.values(), key=lambda check: check.max_relative_error))
    folder = run_folder.new_folder(args.out, f"sweep-{dataset.name}", run_folder.ANOTHER)
    latest, status = None, 0
    try:
        steps = until_interrupted(sweep.sweep(dataset, configs, memory))
        for now in sweep_report.epochs(steps, configs):
            latest = now
    except Interrupted as interrupted:
        status = interrupted.exit_status
    except BaseException:
        if latest is not None:
            report(folder, dataset, args, latest, checks, begun)
        raise
    if latest is not None:
        report(folder, dataset, args, latest, checks, begun)
    console.where(folder)
    return status


def grid_of(args: argparse.Namespace) -> list[Config]:
    """Every run, those of a point beside each other."""
    from jaxnn.training.grid import grid

    if args.seed + args.seeds > 2**32:
        raise UsageError(
            f"--seeds {args.seeds}: expected at most {2**32 - args.seed}, as the largest seed is "
            "4294967295"
        )
    axes = {name: getattr(args, name) for name in AXES}
    seeds = range(args.seed, args.seed + args.seeds)
    given = {name: getattr(args, name) for name in READING if getattr(args, name) is not None}
    base = Config(epochs=args.epochs, validation=args.validation, **given)
    return grid(base, {**axes, "seed": seeds})


def require_batches(dataset: "Dataset", configs: Sequence[Config]) -> None:
    """Raises `SettingError` where a batch, or the validation set, is larger than the data."""
    from jaxnn.data import with_validation

    validation = configs[0].validation or 0
    n_train = with_validation(dataset, validation, configs[0].seed).n_train
    for config in configs:
        config.require_data(n_train, dataset.n_x, dataset.image_shape)


def verified(dataset: "Dataset", config: Config) -> "GradientReport":
    """The verdict on the gradients of a group's network."""
    from jaxnn.commands import experiment

    return experiment.verify(dataset, config)


def report(
    folder: Path,
    dataset: "Dataset",
    args: argparse.Namespace,
    latest: "SweepStatus",
    checks: Mapping[Config, "GradientReport"],
    begun: float,
) -> None:
    """Write and print what came of the sweep, as far as it came; then open the best run's test set.

    Raises `TrainingDivergedError` where no point is left to choose.
    """
    from jaxnn.report import console, sweep_report
    from jaxnn.runs import run_folder
    from jaxnn.training.grid import best_point, points

    found = points(latest.histories, latest.diverged)
    data = run_folder.describe(dataset, args.data, grid_of(args)[0].reading())
    more = {"data": data, "versions": run_folder.versions(), "seconds": time.perf_counter() - begun}
    sweep_report.write(folder, latest, found, more, dataset.name, not args.no_plots)
    console.rich_console().print(f"\n{sweep_report.table(found)}")
    best = best_point(found)
    if best is None:
        raise TrainingDivergedError(
            f"of every combination a run diverged: try smaller values than --lr "
            f"{max(args.lr):g}; the table is in {folder}"
        )
    keep(folder, dataset, data, latest, best, checks, begun, not args.no_plots)


def keep(
    folder: Path,
    dataset: "Dataset",
    data: dict[str, Any],
    latest: "SweepStatus",
    best: "Point",
    checks: Mapping[Config, "GradientReport"],
    begun: float,
    pictures: bool,
) -> None:
    """The best run of the best point, as a folder; with its results if it has all its epochs."""
    from jaxnn.commands import experiment
    from jaxnn.report import console, sweep_report
    from jaxnn.runs import run_folder, trained
    from jaxnn.training import guessing
    from jaxnn.training.grid import best_run, groups

    config = best_run(best)
    snapshot = latest.snapshot(config)
    run = run_folder.create(str(folder / sweep_report.BEST), config, data)
    with run_folder.locked(run.folder):
        run_folder.save_epoch(run, snapshot)
        run_folder.reopen(run, snapshot)
        sweep_report.choice(best, config, [*latest.histories])
        guess, chosen = guessing.of_labels(dataset.y_train), best.runs[config]
        if guessing.is_no_better(chosen, guess):
            console.advise(guessing.line(chosen, guess, config))
        if len(snapshot.history) < config.epochs:
            ended = "the sweep ends here, and its best network is saved"
            console.how_to_resume(run, snapshot, ended)
            return
        check = next(checks[group[0]] for group in groups([*checks, config]) if config in group)
        seconds = time.perf_counter() - begun
        found = experiment.write_results(run, dataset, snapshot, check, seconds)
        console.outcome(found.table, found.result)
        network = trained.load(run.folder, console.notice)
        experiment.write_report(network, dataset, snapshot.history, found, pictures)
