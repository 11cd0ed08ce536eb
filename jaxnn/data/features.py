"""Plain features, which are no pixels: any real numbers, each standardised from the training part,

    x_i ← (x_i − mean_i) / std_i,

and 0 where a feature is the same in all of the training part.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxnn.data.field import Field, Values
from jaxnn.data.memory import fits
from jaxnn.data.scratch import assembled
from jaxnn.errors import DataError

#: Examples at a time.
ROWS = 4096


class Standardisation(NamedTuple):
    """mean and std (n_x,), float64, of the training part; std is 1 where it would be 0."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Standardisation":
        """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        mean, std = (np.array(values[name], np.float64) for name in cls._fields)
        if mean.shape != std.shape or mean.ndim != 1 or not np.isfinite([mean, std]).all():
            raise ValueError("one finite mean and standard deviation for each input expected")
        if not (std > 0).all():
            raise ValueError("standard deviations above 0 expected")
        return cls(mean, std)

    def applied(self, x: Values) -> NDArray[np.float32]:
        """(n, n_x) features in their own units as the network knows them."""
        return np.asarray((x - self.mean) / self.std, np.float32)


def read(field: Field, memory: int | None = None) -> Values:
    """The features (N, n_x) as they are, float32. Raises DataError where one is not finite."""
    on_disk = not fits(4 * field.size, memory)
    x = assembled(_finite(field), field.size, np.float32, on_disk=on_disk)
    return x.reshape(field.shape[0], -1)


def _finite(field: Field) -> Iterator[Values]:
    found = 0
    for piece in field.pieces():
        with np.errstate(over="ignore"):
            values = piece.astype(np.float32)
        found += values.size
        if found > field.size:
            break
        if not np.isfinite(values).all():
            wrong = piece[~np.isfinite(values)][0]
            raise DataError(f"{field.where}: finite numbers expected, found {wrong}")
        yield values
    if found != field.size:
        raise DataError(f"{field.where}: {field.size:,} numbers expected, found {found:,}")


def measured(x: Values) -> Standardisation:
    """Of the training part (n, n_x)."""
    total, squares = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for rows in _rows(x):
        total += rows.sum(axis=0)
    mean = total / len(x)
    for rows in _rows(x):
        squares += np.square(rows - mean).sum(axis=0)
    std = np.sqrt(squares / len(x))
    return Standardisation(mean, np.where(std > 1e-12 * (1 + np.abs(mean)), std, 1.0))


def standardised(x: Values, by: Standardisation, memory: int | None = None) -> Values:
    """A copy of the features (n, n_x) as the network is to see them."""
    pieces = (by.applied(rows).reshape(-1) for rows in _rows(x))
    on_disk = not fits(x.nbytes, memory)
    return assembled(pieces, x.size, np.float32, on_disk=on_disk).reshape(x.shape)


def _rows(x: Values) -> Iterator[Values]:
    return (x[at : at + ROWS].astype(np.float64) for at in range(0, len(x), ROWS))
