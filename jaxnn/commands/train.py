"""Train a network with hand-written, verified backpropagation on MNIST or data of its form."""

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxnn.commands import cli
from jaxnn.commands.flags import add_devices, add_group
from jaxnn.errors import PeerLostError, StorageError, TrainingDivergedError, UsageError
from jaxnn.runs.interval import EVERY_EPOCH, Interval
from jaxnn.training import processes as cluster
from jaxnn.training.config import (
    DATA,
    IMAGES_AND_NETWORKS,
    NETWORK,
    REGULARISATION,
    SETTINGS,
    STEPS,
    TRAINING,
    Config,
)
from jaxnn.training.declaration import spelled
from jaxnn.training.recipes import RECIPES, listing
from jaxnn.training.recipes import configuration as recipe

if TYPE_CHECKING:
    from concurrent.futures import Future

    from jaxnn.data import Dataset
    from jaxnn.gradcheck import GradientReport
    from jaxnn.runs.folder import Run
    from jaxnn.training.loop import Engine, Progress

DESCRIPTION = """\
Train the network of "Build Neural Network from scratch on MNIST Dataset": by default 784-64-10,
sigmoid and softmax, cross-entropy, mini-batch gradient descent with momentum. The hand-written
gradients are verified against jax.grad first; training does not start if they disagree."""

EPILOG = """\
examples:
  python scripts/train.py                            MNIST with the document's values
  python scripts/train.py --data digits --epochs 20  1,797 small digits; needs no network
  python scripts/train.py --data MNISTdata.hdf5      the document's file
  python scripts/train.py --n_h 256 128 --lr 0.3     two hidden layers
  python scripts/train.py --recipe fast              98 % in seconds; --recipe list shows others
  python scripts/train.py --resume runs/my-run       go on where a run was stopped

Every flag may also be written with hyphens: --batch-size is --batch_size."""


class Options(NamedTuple):
    """What a run is not defined by: when the command began, whether to draw, when to save, and on
    what it runs. `memory` is in MiB of data on each device.
    """

    begun: float
    pictures: bool
    checkpoint_every: Interval
    devices: int | None
    memory: int | None
    joined: cluster.Cluster | None = None


def parser() -> cli.Parser:
    """The document's flags with its defaults, and what else a user expects.

    A flag that was not given is absent from the result, so that `--resume` can tell.
    """
    p = cli.Parser(DESCRIPTION, EPILOG, "train", argument_default=argparse.SUPPRESS)
    p.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"start from a named configuration: {', '.join(RECIPES)}; other flags override it; "
        "list prints them with what was measured (default: document)",
    )
    data = p.add_argument_group(DATA.title)
    data.add_argument(
        "--data",
        metavar="DATA",
        help="mnist, digits, an HDF5 or npz file, or a folder of IDX files; auto takes MNIST where "
        "it is found or can be downloaded, and digits otherwise (default: auto)",
    )
    add_group(data, DATA)
    network = p.add_argument_group(NETWORK.title)
    network.add_argument(
        "--n_x",
        type=cli.integer(1, 2**31 - 1),
        metavar="N",
        help="inputs per example; taken from the data, and an error if it contradicts them "
        "(MNIST: 784)",
    )
    add_group(network, NETWORK)
    for group in (TRAINING, STEPS, REGULARISATION, IMAGES_AND_NETWORKS):
        add_group(p.add_argument_group(group.title), group)
    add_devices(p)
    run = p.add_argument_group("run")
    run.add_argument(
        "--out",
        metavar="DIR",
        help="a new or empty folder for the results (default: a new folder under runs/)",
    )
    run.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with the run in this folder, with its own flags but for those of the devices; "
        "--epochs may add more",
    )
    run.add_argument(
        "--checkpoint_every",
        type=cli.interval,
        metavar="N|TIME",
        help="save the state after every N-th epoch, or after the first that ends 90s, 5min or 1h "
        "later than the last saved one; the last epoch and an interrupted one always are saved "
        "(default: 1)",
    )
    run.add_argument(
        "--no_plots", action="store_true", help="leave the pictures out (default: draw them)"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Read, verify, train, report."""
    begun = time.perf_counter()
    given = vars(parser().parse_args(argv))
    if given.get("recipe") == "list":
        print(listing())
        return 0
    options = Options(
        begun,
        pictures=not given.pop("no_plots", False),
        checkpoint_every=given.pop("checkpoint_every", EVERY_EPOCH),
        devices=given.pop("devices", None if "coordinator" in given else 1),
        memory=given.pop("device_memory", None),
    )
    together = cluster.requested(given)
    if together:
        return cluster.run(
            together, options.devices, lambda joined: command(given, options, joined)
        )
    return command(given, options)


def command(
    given: Mapping[str, Any], options: Options, joined: cluster.Cluster | None = None
) -> int:
    """A new run, an old one, or a share in one that another process writes."""
    options = options._replace(joined=joined)
    if joined and not cluster.writes():
        return assist(given, options)
    return resume(given, options) if "resume" in given else begin(given, options)


def assist(given: Mapping[str, Any], options: Options) -> int:
    """Compute this process's share of a run, and write nothing."""
    from jaxnn import compilation, data
    from jaxnn.commands import experiment
    from jaxnn.report import console as display
    from jaxnn.runs import folder as runs
    from jaxnn.training import feeding
    from jaxnn.training import mesh as parallel
    from jaxnn.training.interrupt import Interrupted, until_interrupted
    from jaxnn.training.loop import fit, start

    compilation.keep_programs(data.cache_dir() / "compiled")
    mesh = parallel.mesh(options.devices)
    if "resume" in given:
        run, progress = runs.load(Path(given["resume"]), display.notice)
        config = agreeing_with_run(run.config, given)
        dataset = loaded(given.get("data", run.data["argument"]), options)
        teacher = runs.load_teacher(run)
    else:
        config = configuration(recipe(given.get("recipe", "document")), given)
        dataset = loaded(given.get("data", "auto"), options)
        progress = start(config, dataset.n_x, dataset.n_classes)
        teacher = experiment.teacher(config, dataset)
    training_set = agreeing_with_data(dataset, config, given.get("n_x"), options)
    to = feeding.feed(mesh, training_set, config, options.memory)
    if to is None:
        raise UsageError("--processes 1: expected 2 or more, or no --coordinator")
    cluster.require_agreement(config, dataset.fingerprint(), len(progress.history))
    engine = feeding.fed(training_set, config, to, teacher)
    try:
        for _ in until_interrupted(fit(training_set, config, progress, engine), cluster.any_signal):
            pass
    except Interrupted as interrupted:
        return interrupted.exit_status
    return 0


def begin(given: Mapping[str, Any], options: Options) -> int:
    """A new run. Its folder is made only when nothing is left that could be wrong."""
    from jaxnn import compilation, data
    from jaxnn.commands import experiment
    from jaxnn.report import console as display
    from jaxnn.runs import folder as runs
    from jaxnn.training import feeding
    from jaxnn.training import mesh as parallel
    from jaxnn.training.loop import start

    runs.require_new(given.get("out"))
    compilation.keep_programs(data.cache_dir() / "compiled")
    config = configuration(recipe(given.get("recipe", "document")), given)
    mesh = parallel.mesh(options.devices)
    dataset = loaded(given.get("data", "auto"), options)
    training_set = agreeing_with_data(dataset, config, given.get("n_x"), options)
    to = feeding.feed(mesh, training_set, config, options.memory)
    teacher = experiment.teacher(config, dataset)
    display.summary(dataset, config, mesh)
    engine = experiment.compiling(training_set, config, teacher, to)
    check = experiment.verify(training_set, config, teacher)
    display.verdict(check)
    if options.joined:
        cluster.require_agreement(config, dataset.fingerprint(), 0)
    argument = given.get("data", "auto")
    run = runs.create(given.get("out"), config, runs.describe(dataset, argument))
    with runs.locked(run.folder):
        runs.keep_teacher(run, teacher)
        progress = start(config, dataset.n_x, dataset.n_classes)
        runs.save(run, progress)
        return train(run, dataset, training_set, progress, check, engine, options)


def resume(given: Mapping[str, Any], options: Options) -> int:
    """Go on with a run from its latest whole checkpoint."""
    from jaxnn import compilation, data
    from jaxnn.commands import experiment
    from jaxnn.report import console as display
    from jaxnn.runs import folder as runs
    from jaxnn.training import feeding
    from jaxnn.training import mesh as parallel

    compilation.keep_programs(data.cache_dir() / "compiled")
    mesh = parallel.mesh(options.devices)
    folder = Path(given["resume"])
    with runs.locked(folder):
        run, progress = runs.load(folder, display.notice)
        run = run._replace(config=agreeing_with_run(run.config, given))
        if runs.is_complete(run, progress):
            raise UsageError(
                f"--resume {folder}: all {run.config.epochs} epochs are done; expected --epochs "
                f"above {len(progress.history)} to train on"
            )
        dataset = loaded(given.get("data", run.data["argument"]), options)
        runs.require_same_data(run, dataset)
        training_set = agreeing_with_data(dataset, run.config, given.get("n_x"), options)
        to = feeding.feed(mesh, training_set, run.config, options.memory)
        teacher = runs.load_teacher(run)
        display.summary(dataset, run.config, mesh, len(progress.history))
        engine = experiment.compiling(training_set, run.config, teacher, to)
        check = experiment.verify(training_set, run.config, teacher)
        display.verdict(check)
        if options.joined:
            cluster.require_agreement(run.config, dataset.fingerprint(), len(progress.history))
        runs.reopen(run, progress)
        return train(run, dataset, training_set, progress, check, engine, options)


def configuration(base: Config, given: Mapping[str, Any]) -> Config:
    """`base` with the flags that were given."""
    return base.altered({name: given[name] for name in SETTINGS if name in given})


def agreeing_with_run(config: Config, given: Mapping[str, Any]) -> Config:
    """The configuration of a resumed run: its own, with no fewer and perhaps more epochs."""
    if "recipe" in given:
        raise UsageError("--recipe: contradicts --resume, which goes on with the run's own flags")
    if "out" in given:
        raise UsageError("--out: contradicts --resume, which goes on in the run's own folder")
    asked = configuration(config, given)
    for name in SETTINGS:
        was, now = getattr(config, name), getattr(asked, name)
        if name in given and was != now and name != "epochs":
            raise UsageError(
                f"--{name} {spelled(now)}: contradicts the run to resume, which has "
                f"{spelled(was)}; leave the flag out, or start a new run"
            )
    if asked.epochs < config.epochs:
        raise UsageError(
            f"--epochs {asked.epochs}: expected {config.epochs}, as first asked, or more"
        )
    if asked.epochs > config.epochs and (config.schedule != "constant" or config.ease):
        raise UsageError(
            f"--epochs {asked.epochs}: the run's --schedule {config.schedule} and --ease "
            f"{config.ease:g} end with epoch {config.epochs}, as first asked; start a new run"
        )
    return asked


def loaded(argument: str, options: Options) -> "Dataset":
    """The data set, its images on the disk where a device may not hold them either."""
    from jaxnn import data
    from jaxnn.report import console as display

    return data.load(argument, notify=display.notice, memory=options.memory)


def agreeing_with_data(
    dataset: "Dataset", config: Config, n_x: int | None, options: Options
) -> "Dataset":
    """The part of `dataset` to train on, when the flags fit it."""
    from jaxnn import data

    if n_x is not None and n_x != dataset.n_x:
        raise UsageError(
            f"--n_x {n_x}: contradicts the data, which have {dataset.n_x} inputs per example; "
            "leave the flag out to take the number from the data"
        )
    training_set = dataset
    if config.validation is not None:
        training_set = data.with_validation(dataset, config.validation, config.seed, options.memory)
    if (config.elastic or config.affine) and dataset.image_shape is None:
        raise UsageError(
            f"--elastic, --affine: expected images, found {dataset.n_x} inputs that form no square"
        )
    if config.batch_size > training_set.n_train:
        raise UsageError(
            f"--batch_size {config.batch_size}: expected 1 to {training_set.n_train}, the number "
            "of training examples"
        )
    return training_set


def train(
    run: "Run",
    dataset: "Dataset",
    training_set: "Dataset",
    latest: "Progress",
    check: "GradientReport",
    engine: "Future[Engine]",
    options: Options,
) -> int:
    """Train for the epochs that are left, then open the test set and write the results."""
    from jaxnn.commands import experiment
    from jaxnn.report import console as display
    from jaxnn.runs import folder as runs
    from jaxnn.training import guessing
    from jaxnn.training.interrupt import Interrupted, until_interrupted
    from jaxnn.training.loop import fit

    if options.joined:
        options.joined.tell(str(run.folder).encode())
    resumed_after = len(latest.history)
    agree = cluster.any_signal if options.joined else None
    epochs = until_interrupted(fit(training_set, run.config, latest, engine.result()), agree)
    shown = guessing.watched(
        display.epochs(epochs, run.config.epochs, len(latest.history)),
        training_set.y_train,
        run.config,
        display.notice,
    )
    try:
        with closing(runs.saved(run, shown, options.checkpoint_every)) as saved:
            for progress in saved:
                latest = progress
                experiment.prepare_conclusion()
    except Interrupted as interrupted:
        display.how_to_resume(run, latest)
        return interrupted.exit_status
    except TrainingDivergedError as error:
        raise TrainingDivergedError(
            f"{error}; epoch {len(latest.history)}, the last with a finite loss, is kept in "
            f"{run.folder}"
        ) from error
    except PeerLostError as error:
        raise PeerLostError(f"{error}{cluster.how_to_go_on(str(run.folder))}") from error
    except StorageError:
        raise
    except BaseException as error:
        display.ended(run, latest, error)
        raise
    seconds = time.perf_counter() - options.begun
    conclusion = experiment.conclude(run, dataset, latest, check, seconds, resumed_after)
    display.outcome(conclusion.table, conclusion.result)
    experiment.illustrate(run, dataset, latest, conclusion, options.pictures)
    display.where(run.folder)
    return 0
