"""The 1,797 real handwritten digits, 8×8 pixels of 0 … 16, that scikit-learn carries with it.

They are the test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin and
Kaynak, 1998). No network and no file of the user's is needed.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from jaxnn.data.dataset import Dataset
from jaxnn.errors import DataError

WHITE = 16


def digits() -> Dataset:
    """1,438 training and 359 test digits, uint8.

    Stratified without random numbers, hence the same everywhere and for ever: of each class's
    examples, in their order, every fifth is a test digit, beginning with the third.
    Raises DataError where scikit-learn is not installed.
    """
    table = np.loadtxt(_file(), np.uint8, delimiter=",")
    x, y = np.ascontiguousarray(table[:, :-1]), table[:, -1].astype(np.int32)
    rank = np.empty(len(y), np.int64)
    for label in range(10):
        rank[y == label] = np.arange((y == label).sum())
    test = rank % 5 == 2
    source = "scikit-learn's digits"
    return Dataset("digits", source, x[~test], y[~test], x[test], y[test], 10, (8, 8), 1 / WHITE)


def _file() -> Path:
    """The file behind `sklearn.datasets.load_digits`, whose import takes a second."""
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError("digits: scikit-learn, which holds them, is not installed")
    path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        raise DataError(f"digits: this version of scikit-learn does not hold them in {path}")
    return path
