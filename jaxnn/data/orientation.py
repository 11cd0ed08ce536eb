"""Whether the images may lie on their side, as those of EMNIST's files do.

EMNIST (Cohen, Afshar, Tapson and van Schaik, 2017) was published in MNIST's form, but with rows and
columns exchanged. Under its own file names it is set upright (`jaxnn.data.idx`); under other names
only the images can tell.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Images of the digit 1 that are looked at, and how much wider than high they are if they lie.
ONES, LYING = 200, 2.0

#: (n_train, n_test) of EMNIST's Letters, in which class 1 is no digit.
LETTERS = ((124_800, 20_800), (88_800, 14_800))


def doubts(
    x_train: NDArray[Any],
    y_train: NDArray[Any],
    names: tuple[str, ...],
    n_test: int,
    shape: tuple[int, ...] | None,
) -> tuple[str, ...]:
    """What speaks against upright images, a phrase each."""
    if shape is None or len(shape) != 2:
        return ()
    if shape == (28, 28) and (len(x_train), n_test) in LETTERS:
        return ("as many images as EMNIST's Letters, whose files are published transposed",)
    if "1" not in names or len(names) < 10:
        return ()
    ones = x_train[np.flatnonzero(y_train == names.index("1"))[:ONES]]
    if not len(ones):
        return ()
    ones = ones.reshape(-1, *shape).astype(np.float64)
    ink = np.abs(ones - np.median(ones))
    height, width = _spread(ink.sum(axis=2)), _spread(ink.sum(axis=1))
    if width <= LYING * height:
        return ()
    return ("class 1 lies on its side: digits may be transposed, as in EMNIST's files",)


def _spread(profiles: NDArray[np.float64]) -> float:
    """The variance of the place of the ink, (n, length), on average."""
    places, mass = np.arange(profiles.shape[1]), np.maximum(profiles.sum(axis=1), 1e-30)
    means = profiles @ places / mass
    return float(np.mean(profiles @ places**2 / mass - means**2))
