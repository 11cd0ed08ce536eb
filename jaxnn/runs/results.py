"""The figures of a finished run, as `result.json` holds them."""

from typing import Any

import numpy as np

from jaxnn.data import Dataset
from jaxnn.nn.activations import ACTIVATIONS
from jaxnn.nn.ensemble import is_ensemble
from jaxnn.nn.mlp import Params
from jaxnn.runs.metrics import Report, classification_report
from jaxnn.training.config import Config
from jaxnn.training.evaluation import Evaluation, evaluate
from jaxnn.training.loop import Snapshot, best_epoch


def test(dataset: Dataset, config: Config, params: Params) -> Evaluation:
    """The network on every test example, slices of which are on the device in turn."""
    return evaluate(
        params,
        dataset.x_test,
        dataset.y_test,
        np.float32(dataset.scale),
        activation=ACTIVATIONS[config.activation],
    )


def member_accuracies(dataset: Dataset, config: Config, params: Params) -> list[float]:
    """The test accuracy of each network of an ensemble by itself; none where there is no other."""
    if not is_ensemble(params):
        return []
    members = ({name: leaf[i] for name, leaf in params.items()} for i in range(config.committee))
    return [test(dataset, config, member).accuracy for member in members]


def report(dataset: Dataset, test: Evaluation) -> Report:
    """The classification report of that evaluation."""
    predicted = np.asarray(test.logits).argmax(axis=1)
    return classification_report(dataset.y_test, predicted, dataset.n_classes, dataset.class_names)


def figures(
    dataset: Dataset, config: Config, snapshot: Snapshot, test: Evaluation, report: Report
) -> dict[str, Any]:
    """Losses in nats, accuracies and averages in [0, 1] (weighted by support), seconds of steps.

    The training figures are those of the epoch whose parameters were chosen.
    """
    history = snapshot.history
    chosen = history[(best_epoch(history) if snapshot.best else len(history)) - 1]
    weighted = report["weighted avg"]
    return {
        "dataset": dataset.name,
        "n_train": dataset.n_train,
        "n_test": dataset.n_test,
        "seed": config.seed,
        "config": config.to_dict(),
        "epochs": len(history),
        "chosen_epoch": chosen["epoch"],
        "train_loss": chosen["train_loss"],
        "test_loss": float(test.loss),
        "train_accuracy": chosen["train_accuracy"],
        "test_accuracy": test.accuracy,
        "precision": weighted["precision"],
        "recall": weighted["recall"],
        "f1": weighted["f1-score"],
        "train_seconds": sum(record["seconds"] for record in history),
    }
