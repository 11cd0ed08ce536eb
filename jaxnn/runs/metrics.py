"""The document's final table: precision, recall, F1 and support, per class and averaged."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer[Any]]
Report = dict[str, dict[str, float]]

AVERAGES = ("macro avg", "weighted avg")
COLUMNS = ("precision", "recall", "f1-score", "support")


def classification_report(
    truth: Labels, predicted: Labels, n_classes: int, names: Sequence[str] = ()
) -> Report:
    """A row for each class, "macro avg" and "weighted avg", each with the four `COLUMNS`. The rows
    have the C names of the classes, or their numbers.

    precision = TP / (TP + FP) is over what was predicted, recall = TP / (TP + FN) over what is
    true; a quotient 0/0 counts as 0. The averages are over the classes that occur in `truth`: one
    of which there is no example can be neither right nor wrong. Computed by scikit-learn.
    """
    from sklearn import metrics

    report = metrics.classification_report(
        y_true=truth,
        y_pred=predicted,
        labels=np.arange(n_classes),
        output_dict=True,
        zero_division=0,
    )
    occurring = [report[str(label)] for label in np.unique(truth)]
    report[AVERAGES[0]] |= {
        column: np.mean([row[column] for row in occurring]) for column in COLUMNS[:-1]
    }
    labels = [*map(str, range(n_classes))]
    rows = {
        f"{name} (class)" if name in AVERAGES else name: report[label]
        for name, label in zip(names or labels, labels, strict=True)
    }
    return {**rows, **{row: report[row] for row in AVERAGES}}
