"""What the commands share: flags with a stated range, and errors of one line.

Nothing here imports jax, so that `--help` answers at once.
"""

import argparse
import gc
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn, TypeVar

from jaxnn.io import output
from jaxnn.io.command import USER_ERROR, Stopped, as_called, told, told_as_called
from jaxnn.io.suggestion import did_you_mean
from jaxnn.runs.interval import Interval
from jaxnn.training import environment, interrupt
from jaxnn.training.config import SYNONYMS
from jaxnn.training.declaration import Integers, Kind, Numbers, read

T = TypeVar("T")

#: Seconds by the unit that `interval` reads.
UNITS = {"s": 1, "min": 60, "h": 3600}
LONGEST_INTERVAL = 1_000_000

#: What the data may be, in a line of `--help`.
DATA = (
    "mnist, fashion, kmnist, emnist-letters, digits, or a file or folder: CSV, IDX, npz, npy, "
    "HDF5, MATLAB, Parquet, pictures in a folder for each class (docs/data.md)"
)

#: New objects between two looks for garbage. A start makes a million, to keep; Python's 700 would
#: have it look through them all, again and again, for a tenth of the time to the first epoch.
MUCH_GARBAGE = 100_000


class Parser(argparse.ArgumentParser):
    """An argument parser that accepts `--batch-size` for `--batch_size` and shows every default.

    Its texts name commands as scripts; `--help` names each as this one was called.
    """

    def __init__(
        self, description: str, epilog: str | None = None, command: str = "", **options: Any
    ) -> None:
        super().__init__(
            prog=as_called(command) if command else None,
            description=told_as_called(description),
            epilog=told_as_called(epilog or ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args([self._spelled(word) for word in given], namespace)

    def _meant(self, word: str) -> str:
        """The flag that somebody may have meant by one that there is not."""
        if not word.startswith("--"):
            return ""
        flags = [flag[2:] for flag in self._option_string_actions if flag.startswith("--")]
        synonyms = {other: name for other, name in SYNONYMS.items() if name in flags}
        return did_you_mean(word[2:].partition("=")[0], flags, synonyms, "--{}")

    def _spelled(self, word: str) -> str:
        flag, equals, value = word.partition("=")
        underscored = "--" + flag[2:].replace("-", "_")
        known = flag.startswith("--") and underscored in self._option_string_actions
        return underscored + equals + value if known else word

    def error(self, message: str) -> NoReturn:
        start, _, words = message.partition("unrecognized arguments: ")
        if words and not start:
            message += self._meant(words.split(" ")[0])
        print(f"error: {message}\n(`{self.prog} --help` explains every flag)", file=sys.stderr)
        raise SystemExit(USER_ERROR)


def argument(kind: Kind[T]) -> Callable[[str], T]:
    """An argparse type: a value of this kind."""

    def parse(text: str) -> T:
        try:
            return read(kind, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def integer(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: an integer from `low` to `high`, both included."""
    return argument(Integers(low, high))


def number(
    low: float, high: float, *, low_included: bool, high_included: bool
) -> Callable[[str], float]:
    """An argparse type: a finite number between `low` and `high`."""
    return argument(Numbers(low, high, low_included, high_included))


def interval(text: str) -> Interval:
    """An argparse type: `5` is every fifth epoch; `90s`, `5min` and `1h` are times."""
    found = re.fullmatch(r"(\d{1,7})(s|min|h)?", text, re.ASCII)
    if found is None or not 1 <= int(found[1]) <= LONGEST_INTERVAL:
        raise argparse.ArgumentTypeError(
            f"expected epochs from 1 to {LONGEST_INTERVAL}, or a time such as 90s, 5min or 1h, "
            f"found {text!r}"
        )
    count = int(found[1])
    return Interval(seconds=count * UNITS[found[2]]) if found[2] else Interval(epochs=count)


def run(main: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Call a command's `main`, and exit with its status.

    A user's mistake becomes one line on stderr and exit status 2, and so does output that cannot be
    written: what the command does besides is done. A reader that has gone (`… | head`) is no error.
    """
    gc.set_threshold(MUCH_GARBAGE)
    with output.steady() as (out, _):
        status = _status(main)
        out.flush()
        if out.lost and not output.reader_has_gone():
            print(
                f"error: standard output cannot be written: {out.lost.strerror}; what would have "
                "stood there is lost, the command was carried out all the same",
                file=sys.stderr,
            )
            status = status or USER_ERROR
    raise SystemExit(status)


def _status(main: Callable[[Sequence[str] | None], int]) -> int:
    before = {signum: signal.signal(signum, _stop) for signum in interrupt.heeded()}
    try:
        if ignored := environment.set_aside():
            print(f"{', '.join(ignored)}: ignored, results would depend on it", file=sys.stderr)
        return main(None)
    except BaseException as error:
        return told(error)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _stop(signum: int, frame: FrameType | None) -> None:
    """Raise `Stopped`, but for a signal that comes while a module is imported.

    Nothing is there to be tidied up yet, and an exception would end inside a library's own start,
    which reports it as a failure of its own or crashes.
    """
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            os.write(2, b"interrupted\n")
            os._exit(128 + signum)
        frame = frame.f_back
    raise Stopped(signum)
