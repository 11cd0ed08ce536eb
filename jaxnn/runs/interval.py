"""How often a state is saved: by epochs, or by the time that has passed."""

import math
from typing import NamedTuple


class Interval(NamedTuple):
    """So many epochs, or so many seconds; the other one is infinite."""

    epochs: float = math.inf
    seconds: float = math.inf

    def is_over(self, epochs: int, seconds: float) -> bool:
        """Whether so many epochs and seconds after one state the next one is due."""
        return epochs >= self.epochs or seconds >= self.seconds


EVERY_EPOCH = Interval(epochs=1)
