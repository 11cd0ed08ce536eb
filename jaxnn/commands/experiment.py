"""What frames the training of a run: compilation, gradients verified before it, results after."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.data import Dataset, memory
from jaxnn.data.augmentation import distort
from jaxnn.errors import StorageError, TrainingRefusedError, UsageError
from jaxnn.gradcheck import GradientReport, verify_network
from jaxnn.nn.ensemble import is_ensemble
from jaxnn.report import console, explore, page, plots
from jaxnn.runs import layout, results, run_folder, trained
from jaxnn.runs.metrics import Report
from jaxnn.runs.run_folder import Run
from jaxnn.runs.trained import Trained
from jaxnn.training.config import Config
from jaxnn.training.evaluation import Evaluation
from jaxnn.training.loop import (
    Engine,
    Record,
    Snapshot,
    compile_evaluation,
    epoch_key_and_order,
    resident,
    start,
)
from jaxnn.training.objective import dropout_masks, loss_of, targets_of, unit_interval
from jaxnn.training.program import Hyperparameters, Program, Teacher
from jaxnn.training.streaming import Streaming, streamed

#: Examples that the gradients are verified on.
VERIFIED_ROWS = 64

#: Training examples whose distortions are drawn, and how many of each.
EXAMPLES, VERSIONS = 4, 5


class Results(NamedTuple):
    """The figures of `result.json`, the table as text, and what they were computed from."""

    result: dict[str, Any]
    table: str
    classes: Report
    test: Evaluation


def compiling(
    training_set: Dataset,
    config: Config,
    teacher: Teacher | None = None,
    to: Streaming | None = None,
) -> Future[Engine]:
    """The program of an epoch, compiled while other work goes on.

    The data lie on one device, or are streamed to several, or piece by piece, as `to` says.
    Programs that are needed after the first epoch are compiled beside that of the epoch.

    XLA compiles outside Python's lock: with a second core, verification costs no time.
    """
    workers = ThreadPoolExecutor(2)

    def on_one_device() -> Engine:
        engine = resident(training_set, config, teacher)
        drawing.result()

        def evaluation(*args: Any) -> Any:
            evaluating.result()
            return engine.evaluate(*args)

        return engine._replace(evaluate=evaluation)

    if to is not None:
        future = workers.submit(streamed, training_set, config, to, teacher)
    else:
        drawing = workers.submit(epoch_key_and_order, config, 1, training_set.n_train)
        future = workers.submit(on_one_device)
        evaluating = workers.submit(compile_evaluation, training_set, config)
    workers.shutdown(wait=False)
    return future


@cache
def import_metrics() -> None:
    """Import what the final table is made with, while the network trains: it takes a second.

    What the compiler has left behind is given back before.
    """
    worker = ThreadPoolExecutor(1)
    worker.submit(memory.give_back)
    worker.submit(import_module, "sklearn.metrics")
    worker.shutdown(wait=False)


def teacher(config: Config, dataset: Dataset) -> Teacher | None:
    """The network that the run learns from. Raises `UsageError` unless it knows such data."""
    if config.teacher is None:
        return None
    network = trained.load(Path(config.teacher), console.notice)
    known = network.run.data["n_x"], network.run.data["n_classes"]
    if known != (dataset.n_x, dataset.n_classes):
        raise UsageError(
            f"--teacher {config.teacher}: expected a network for {dataset.n_x} inputs and "
            f"{dataset.n_classes} classes, found one for {known[0]} and {known[1]}"
        )
    params = {name: jnp.asarray(value) for name, value in network.params.items()}
    return Teacher(params, network.run.config.activation)


def verify(training_set: Dataset, config: Config, teacher: Teacher | None = None) -> GradientReport:
    """The verdict on the network's gradients, on real examples and its initial weights, with the
    dropout, the penalty and the targets that it will be trained with.

    Raises `TrainingRefusedError`, after the report on standard error, unless all are right.
    """
    params = start(config, training_set.n_x, training_set.n_classes).state.params
    if config.committee > 1:
        params = {name: value[0] for name, value in params.items()}
    images, labels = (a[:VERIFIED_ROWS] for a in (training_set.x_train, training_set.y_train))
    # On the host: each operation by itself would be compiled, even one that only moves an array.
    X: Any = images.astype(np.float32) * np.float32(training_set.scale)
    Y: Any = np.eye(training_set.n_classes, dtype=np.float32)[labels]
    program = Program.of(config, training_set, teacher)
    hyper = Hyperparameters.of(config, training_set.n_train, teacher)
    key = jax.random.key(config.seed) if config.dropout or config.input_dropout else None
    check = verify_network(
        params,
        X,
        targets_of(hyper, X, Y, program.teacher_activation),
        program.activation,
        masks=dropout_masks(params, X, hyper, key),
        l2=hyper.l2,
        loss=loss_of(hyper),
    )
    if not check.ok:
        console.notice(str(check))
        raise TrainingRefusedError(
            "training refused: a hand-written gradient disagrees with jax.grad"
        )
    return check


def write_results(
    run: Run,
    dataset: Dataset,
    snapshot: Snapshot,
    check: GradientReport,
    seconds: float,
    resumed_after: int = 0,
) -> Results:
    """Open the test set, and write parameters, table and figures into the run's folder.

    `seconds` is how long the command took so far, which went on after epoch `resumed_after`.

    Raises `StorageError` where they cannot be written: the trained network is in its checkpoint.
    """
    test = results.test(dataset, run.config, snapshot.eval_params)
    classes = results.report(dataset, test)
    table = console.table(classes, test.accuracy)
    result = {
        **results.figures(dataset, run.config, snapshot, test, classes),
        "member_accuracies": results.member_accuracies(dataset, run.config, snapshot.eval_params),
        "total_seconds": seconds,
        "resumed_after": resumed_after,
        "gradient_check": {"ok": check.ok, "max_relative_error": check.max_relative_error},
        "versions": run.versions,
    }
    try:
        run_folder.write_results(run, snapshot.eval_params, result, table)
    except OSError as error:
        raise StorageError(
            f"{run.folder}: cannot write the results: {error.strerror}; the trained network is in "
            f"its checkpoint: --resume {run.folder} writes them when there is room"
        ) from error
    return Results(result, table, classes, test)


def write_report(
    network: Trained, dataset: Dataset, history: Sequence[Record], found: Results, wanted: bool
) -> None:
    """The pictures and `explore.html`, if they are wanted, and `report.html`, the last of all.

    Raises `StorageError`.
    """
    run = network.run
    pictures = plots.draw_nothing(run.folder)
    (run.folder / layout.EXPLORE).unlink(missing_ok=True)
    if wanted:
        pictures = plots.draw_run(
            run.folder,
            dataset.name,
            history,
            dataset.x_test,
            dataset.y_test,
            np.asarray(found.test.logits),
            np.asarray(network.params["W1"]).reshape(-1, dataset.n_x),
            dataset.image_shape,
            _distorted(dataset, run.config),
            dataset.class_names,
        )
        if network.frame is not None:
            alone = None if is_ensemble(network.params) else found.test
            explore.write(run.folder / layout.EXPLORE, network, dataset, test=alone)
    about = described(network, dataset)
    page.write(run.folder, found.result, about, found.classes, history, pictures)


def described(network: Trained, dataset: Dataset) -> dict[str, str]:
    """What a report says of a run besides its settings and its figures."""
    params = network.params
    count = sum(np.size(value) for value in params.values())
    shapes = ", ".join(
        f"{name} {'×'.join(map(str, np.shape(value)))}" for name, value in params.items()
    )
    return {
        **run_folder.beginning(network.run.folder),
        "data": dataset.origin,
        "SHA-256 of the data": network.run.data["sha256"],
        "parameters": f"{count:,}: {shapes}",
    }


def _distorted(dataset: Dataset, config: Config) -> tuple[plots.Array, plots.Array] | None:
    """One training example of each of the first classes, and what distortions make of it."""
    distortion = Hyperparameters.of(config).distortion
    if distortion is None or dataset.image_shape is None:
        return None
    classes = np.unique(dataset.y_train)[:EXAMPLES]
    firsts = [int(np.argmax(dataset.y_train == label)) for label in classes]
    X = unit_interval(jnp.asarray(dataset.x_train[firsts]), jnp.float32(dataset.scale))
    copies = jnp.repeat(X, VERSIONS, axis=0)
    paper = Program.of(config, dataset).paper
    versions = distort(jax.random.key(config.seed), copies, dataset.image_shape, distortion, paper)
    return np.asarray(X), np.asarray(versions).reshape(len(X), VERSIONS, -1)
