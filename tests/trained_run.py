"""Small runs on the embedded digits, in the folders that `scripts/train.py` makes of them."""

import functools
import time
from pathlib import Path

from jaxnn import data
from jaxnn.data import Dataset
from jaxnn.report import console
from jaxnn.runs import results, run_folder
from jaxnn.training.config import Config
from jaxnn.training.loop import Snapshot, start, train_epochs

CONFIG = Config(epochs=12, batch_size=16, n_h=(24,))


@functools.cache
def digits() -> Dataset:
    return data.load("digits")


@functools.cache
def _epochs(config: Config) -> tuple[Snapshot, ...]:
    dataset = digits()
    training_set = dataset
    if config.validation is not None:
        training_set = data.with_validation(dataset, config.validation, config.seed)
    first = start(config, dataset.n_x, dataset.n_classes)
    return (first, *train_epochs(training_set, config))


def unfinished(folder: Path, config: Config = CONFIG, epochs: int = 3) -> Path:
    """Interrupted after that many epochs."""
    run = run_folder.create(str(folder), config, run_folder.describe(digits(), "digits"))
    for snapshot in _epochs(config)[: epochs + 1]:
        run_folder.save_epoch(run, snapshot)
    return folder


def finished(folder: Path, config: Config = CONFIG) -> Path:
    """With its parameters, table and figures."""
    dataset = digits()
    run = run_folder.create(str(folder), config, run_folder.describe(dataset, "digits"))
    for snapshot in _epochs(config):
        run_folder.save_epoch(run, snapshot)
    test = results.test(dataset, config, snapshot.eval_params)
    classes = results.report(dataset, test)
    result = {
        **results.figures(dataset, config, snapshot, test, classes),
        "member_accuracies": [],
        "total_seconds": time.perf_counter(),
        "resumed_after": 0,
        "gradient_check": {"ok": True, "max_relative_error": 1.5e-7},
        "versions": run.versions,
    }
    run_folder.write_results(
        run, snapshot.eval_params, result, console.table(classes, test.accuracy)
    )
    return folder
