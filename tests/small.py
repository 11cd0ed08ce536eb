"""Small data and configurations, for tests that train."""

from dataclasses import replace

import numpy as np

from jaxnn.data import Dataset
from jaxnn.training.config import Config

CONFIG = Config(epochs=5, batch_size=8, n_h=(7,))


def dataset(n_train=43, n_test=19, n_x=11, n_classes=5, seed=0) -> Dataset:
    """Random images whose labels can be learnt: the class is the brightest of the first pixels."""
    rng = np.random.default_rng(seed)

    def split(n):
        x = rng.integers(0, 256, (n, n_x), dtype=np.uint8)
        y = x[:, :n_classes].argmax(axis=1).astype(np.int32)
        y[:n_classes] = np.arange(n_classes)
        return x, y

    (x_train, y_train), (x_test, y_test) = split(n_train), split(n_test)
    return Dataset(
        "small", "made for a test", x_train, y_train, x_test, y_test, n_classes, None, 1 / 255
    )


def config(**changes) -> Config:
    return replace(CONFIG, **changes)
