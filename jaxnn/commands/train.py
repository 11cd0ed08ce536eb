"""Train a network with hand-written, verified backpropagation on MNIST or data of its form."""

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxnn.commands import cli
from jaxnn.commands.flags import add_devices, add_group, add_quiet
from jaxnn.errors import PeerLostError, StorageError, TrainingDivergedError, UsageError
from jaxnn.io.output import quietly
from jaxnn.runs.interval import EVERY_EPOCH, Interval
from jaxnn.training import processes
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
from jaxnn.training.recipes import RECIPES, listing
from jaxnn.training.recipes import configuration as recipe

if TYPE_CHECKING:
    from concurrent.futures import Future

    from jaxnn.data import Dataset
    from jaxnn.gradcheck import GradientReport
    from jaxnn.runs.run_folder import Run
    from jaxnn.training.loop import Engine, Snapshot

DESCRIPTION = """\
Train the network of "Build Neural Network from scratch on MNIST Dataset": by default 784-64-10,
sigmoid and softmax, cross-entropy, mini-batch gradient descent with momentum. The hand-written
gradients are verified against jax.grad first; training does not start if they disagree."""

EPILOG = """\
examples:
  python scripts/train.py                            MNIST with the document's values
  python scripts/train.py --data digits --epochs 20  1,797 small digits; needs no network
  python scripts/train.py --data MNISTdata.hdf5      the document's file
  python scripts/train.py --data kaggle/train.csv    a table; a fifth of it is the test part
  python scripts/train.py --data pictures --size 32  a folder of pictures for each class
  python scripts/train.py --n_h 256 128 --lr 0.3     two hidden layers
  python scripts/train.py --recipe fast              98 % in seconds; --recipe list shows others
  python scripts/train.py --resume runs/my-run       go on where a run was stopped

Every flag may also be written with hyphens: --batch-size is --batch_size."""


class Options(NamedTuple):
    """What a run is not defined by: when the command began, whether to draw, when to save, on what
    it runs, and for whom it is logged. `memory` is in MiB of data on each device.
    """

    begun: float
    pictures: bool
    checkpoint_every: Interval
    devices: int | None
    memory: int | None
    log: str | None = None
    cluster: processes.Cluster | None = None


class Start(NamedTuple):
    """What training starts from: settings, the name of the data, and for a run that is resumed its
    folder and its state.
    """

    config: Config
    data: str
    run: "Run | None" = None
    snapshot: "Snapshot | None" = None


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
        help=f"{cli.DATA}; auto takes MNIST where it is found or can be downloaded, and digits "
        "otherwise (default: auto)",
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
        "--no_plots",
        action="store_true",
        help="leave the pictures and explore.html out (default: draw them)",
    )
    run.add_argument(
        "--log",
        choices=["tensorboard"],
        help="write the curves for TensorBoard as well, into the run's folder; it takes the "
        "package tensorboardX (default: history.jsonl alone)",
    )
    add_quiet(run)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Read, verify, train, report."""
    begun = time.perf_counter()
    flags = vars(parser().parse_args(argv))
    if flags.get("recipe") == "list":
        print(listing())
        return 0
    options = Options(
        begun,
        pictures=not flags.pop("no_plots", False),
        checkpoint_every=flags.pop("checkpoint_every", EVERY_EPOCH),
        devices=flags.pop("devices", None if "coordinator" in flags else 1),
        memory=flags.pop("device_memory", None),
        log=flags.pop("log", None),
    )
    quiet = flags.pop("quiet", False)
    cluster = processes.requested(flags)
    if cluster:
        return processes.run(
            cluster,
            options.devices,
            lambda joined: quietly(quiet, train, flags, options._replace(cluster=joined)),
        )
    return quietly(quiet, train, flags, options)


def train(flags: Mapping[str, Any], options: Options) -> int:
    """One path for a new run, a resumed one, and a worker's part in either: of several processes,
    only the first speaks and writes.

    A new run's folder is made only when nothing is left that could be wrong.
    """
    from jaxnn import compilation, data
    from jaxnn.commands import experiment
    from jaxnn.report import console, tensorboard
    from jaxnn.runs import run_folder
    from jaxnn.training import data_parallel, loop, streaming

    if options.log:
        tensorboard.require()
    worker = options.cluster is not None and not processes.writes()
    compilation.keep_programs(data.cache_dir() / "compiled")
    data_parallel.request_devices(options.devices)
    with ExitStack() as locks:
        start = resumed(flags, locks, worker) if "resume" in flags else new(flags, worker)
        config, run, snapshot = start.config, start.run, start.snapshot
        devices = data_parallel.mesh(options.devices)
        reading = run.data.get("reading", {}) if run else config.reading()
        dataset = data.load(start.data, notify=console.notice, memory=options.memory, **reading)
        if run:
            run_folder.require_same_data(run, dataset)
        training_set = agreeing_with_data(dataset, config, flags.get("n_x"), options)
        to = streaming.streaming_for(devices, training_set, config, options.memory)
        teacher = run_folder.load_teacher(run) if run else experiment.teacher(config, dataset)
        done = len(snapshot.history) if snapshot else 0
        if not worker:
            console.summary(dataset, config, devices, done)
        engine = experiment.compiling(training_set, config, teacher, to)
        if not worker:
            check = experiment.verify(training_set, config, teacher)
            console.verdict(check)
        if options.cluster:
            processes.require_agreement(config, dataset.fingerprint(), done)
        snapshot = snapshot or loop.start(config, dataset.n_x, dataset.n_classes)
        if worker:
            return compute(training_set, config, snapshot, engine)
        if run:
            run_folder.reopen(run, snapshot)
        else:
            run = run_folder.create(
                flags.get("out"), config, run_folder.describe(dataset, start.data, reading)
            )
            locks.enter_context(run_folder.locked(run.folder))
            run_folder.save_teacher(run, teacher)
            run_folder.save_epoch(run, snapshot)
        return compute_and_report(run, dataset, training_set, snapshot, check, engine, options)


def new(flags: Mapping[str, Any], worker: bool) -> Start:
    """A new run. Raises `UsageError` where its folder holds anything already."""
    from jaxnn.runs import run_folder

    if not worker:
        run_folder.require_new(flags.get("out"))
    config = recipe(flags.get("recipe", "document")).altered(settings(flags))
    return Start(config, flags.get("data", "auto"))


def resumed(flags: Mapping[str, Any], locks: ExitStack, worker: bool) -> Start:
    """A run from its latest whole checkpoint. Raises `UsageError` where it is complete."""
    from jaxnn.report import console
    from jaxnn.runs import run_folder

    folder = Path(flags["resume"])
    if "recipe" in flags:
        raise UsageError("--recipe: contradicts --resume, which goes on with the run's own flags")
    if "out" in flags:
        raise UsageError("--out: contradicts --resume, which goes on in the run's own folder")
    if not worker:
        locks.enter_context(run_folder.locked(folder))
    run, snapshot = run_folder.load_latest(folder, console.notice)
    run = run._replace(config=run.config.resumed(settings(flags)))
    if run_folder.is_complete(run, snapshot):
        raise UsageError(
            f"--resume {folder}: all {run.config.epochs} epochs are done; expected --epochs "
            f"above {len(snapshot.history)} to train on"
        )
    return Start(run.config, flags.get("data", run.data["argument"]), run, snapshot)


def settings(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that are settings of `Config`."""
    return {name: flags[name] for name in SETTINGS if name in flags}


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
    config.require_data(training_set.n_train, dataset.n_x, dataset.image_shape)
    return training_set


def compute(
    training_set: "Dataset", config: Config, snapshot: "Snapshot", engine: "Future[Engine]"
) -> int:
    """A worker's part in the epochs that are left, of which the first process reports."""
    from jaxnn.training.interrupt import Interrupted, until_interrupted
    from jaxnn.training.loop import train_epochs

    epochs = train_epochs(training_set, config, snapshot, engine.result())
    try:
        for _ in until_interrupted(epochs, processes.any_signal):
            pass
    except Interrupted as interrupted:
        return interrupted.exit_status
    return 0


def compute_and_report(
    run: "Run",
    dataset: "Dataset",
    training_set: "Dataset",
    latest: "Snapshot",
    check: "GradientReport",
    engine: "Future[Engine]",
    options: Options,
) -> int:
    """Train for the epochs that are left, then open the test set and write the results."""
    from jaxnn.commands import experiment
    from jaxnn.report import console, tensorboard
    from jaxnn.runs import run_folder, trained
    from jaxnn.training import guessing
    from jaxnn.training.interrupt import Interrupted, until_interrupted
    from jaxnn.training.loop import train_epochs

    if options.cluster:
        options.cluster.tell(str(run.folder).encode())
    resumed_after = len(latest.history)
    agree = processes.any_signal if options.cluster else None
    epochs = until_interrupted(
        train_epochs(training_set, run.config, latest, engine.result()), agree
    )
    if options.log:
        epochs = tensorboard.logged(epochs, run.folder, latest.history)
    shown = guessing.watched(
        console.epochs(epochs, run.config.epochs, len(latest.history)),
        training_set.y_train,
        run.config,
        console.advise,
    )
    try:
        with closing(run_folder.checkpointed(run, shown, options.checkpoint_every)) as saved:
            for snapshot in saved:
                latest = snapshot
                experiment.import_metrics()
    except Interrupted as interrupted:
        console.how_to_resume(run, latest)
        return interrupted.exit_status
    except TrainingDivergedError as error:
        raise TrainingDivergedError(
            f"{error}; epoch {len(latest.history)}, the last with a finite loss, is kept in "
            f"{run.folder}"
        ) from error
    except PeerLostError as error:
        raise PeerLostError(f"{error}{processes.how_to_go_on(str(run.folder))}") from error
    except StorageError:
        raise
    except BaseException as error:
        console.ended(run, latest, error)
        raise
    seconds = time.perf_counter() - options.begun
    found = experiment.write_results(run, dataset, latest, check, seconds, resumed_after)
    console.outcome(found.table, found.result)
    network = trained.load(run.folder, console.notice)
    experiment.write_report(network, dataset, latest.history, found, options.pictures)
    console.where(run.folder)
    return 0
