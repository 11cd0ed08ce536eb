"""What every section is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Result = dict[str, Any]


class Setup(NamedTuple):
    """How thorough the measurements are, and where their files lie.

    `seeds` is how many seeds try the recipe for the first accuracy, `long_seeds` how many the one
    that takes minutes. `data` is what `jaxnn.data.load` takes, `only` the names of the contenders
    that take part (none: all), `folder` a temporary folder of this benchmark, `out` where pictures
    go.
    """

    data: str
    repeats: int
    seeds: int
    long_seeds: int
    epochs: int
    quick: bool
    only: tuple[str, ...]
    folder: Path
    out: Path
    notify: Callable[[str], None]

    def chosen(self, contenders: dict[str, Any]) -> dict[str, Any]:
        """Those of `contenders` that take part."""
        return {name: c for name, c in contenders.items() if not self.only or name in self.only}
