"""What frames the training of a run: compilation, gradients verified before it, results after."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnn import display, plots, report, results, runs
from jaxnn.activations import ACTIVATIONS
from jaxnn.config import Config
from jaxnn.data import Dataset
from jaxnn.errors import StorageError, TrainingRefusedError
from jaxnn.feeding import Feed, fed
from jaxnn.fit import Engine, Progress, compile_evaluation, compiled_epoch, start
from jaxnn.gradcheck import GradientReport, verify_network
from jaxnn.metrics import Report
from jaxnn.runs import Run
from jaxnn.training import Evaluation, one_hot, unit_interval

#: Examples that the gradients are verified on.
VERIFIED_ROWS = 64


class Conclusion(NamedTuple):
    """The figures of `result.json`, the table as text, and what they were computed from."""

    result: dict[str, Any]
    table: str
    classes: Report
    test: Evaluation


def compiling(training_set: Dataset, config: Config, to: Feed | None = None) -> Future[Engine]:
    """The program of an epoch, and those of the evaluation, compiled while other work goes on.

    The data lie on one device, or are fed to several, or piece by piece, as `to` says.

    XLA compiles outside Python's lock: with a second core, verification costs no time.
    """

    def programs() -> Engine:
        if to is not None:
            return fed(training_set, config, to)
        engine = Engine(compiled_epoch(training_set, config))
        compile_evaluation(training_set, config)
        return engine

    worker = ThreadPoolExecutor(1)
    future = worker.submit(programs)
    worker.shutdown(wait=False)
    return future


def verify(training_set: Dataset, config: Config) -> GradientReport:
    """The verdict on the network's gradients, on real examples and its initial weights.

    Raises `TrainingRefusedError`, after the report on standard error, unless all are right.
    """
    params = start(config, training_set.n_x, training_set.n_classes).state.params
    images, labels = (a[:VERIFIED_ROWS] for a in (training_set.x_train, training_set.y_train))
    X = unit_interval(jnp.asarray(images), jnp.float32(training_set.scale))
    Y = one_hot(jnp.asarray(labels), training_set.n_classes)
    check = verify_network(params, X, Y, ACTIVATIONS[config.activation])
    if not check.ok:
        display.notice(str(check))
        raise TrainingRefusedError(
            "training refused: a hand-written gradient disagrees with jax.grad"
        )
    return check


def conclude(
    run: Run,
    dataset: Dataset,
    progress: Progress,
    check: GradientReport,
    seconds: float,
    rows: int | None = None,
) -> Conclusion:
    """Open the test set, and write parameters, table and figures into the run's folder.

    Raises `StorageError` where they cannot be written: the trained network is in its checkpoint.
    """
    test = results.test(dataset, run.config, progress.chosen, rows)
    classes = results.report(dataset, test)
    table = display.table(classes, test.accuracy)
    result = {
        **results.figures(dataset, run.config, progress, test, classes),
        "total_seconds": seconds,
        "gradient_check": {"ok": check.ok, "max_relative_error": check.max_relative_error},
        "versions": run.versions,
    }
    try:
        runs.finish(run, progress.chosen, result, table)
    except OSError as error:
        raise StorageError(
            f"{run.folder}: cannot write the results: {error.strerror}; the trained network is in "
            f"its checkpoint: --resume {run.folder} writes them when there is room"
        ) from error
    return Conclusion(result, table, classes, test)


def illustrate(
    run: Run, dataset: Dataset, progress: Progress, conclusion: Conclusion, wanted: bool
) -> None:
    """The pictures, if they are wanted, and `report.html`. Raises `StorageError`."""
    pictures = plots.draw_nothing(run.folder)
    if wanted:
        pictures = plots.draw_run(
            run.folder,
            dataset.name,
            progress.history,
            dataset.x_test,
            dataset.y_test,
            np.asarray(conclusion.test.logits),
            np.asarray(progress.chosen["W1"]),
            dataset.image_shape,
        )
    report.write(run.folder, conclusion.result, conclusion.classes, progress.history, pictures)
