"""Ctrl-C and SIGTERM between two epochs, never inside one."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Seconds: a signal that comes just as the main thread goes to sleep is not seen until it wakes.
WAKE = 0.2

SHOW_CURSOR = "\x1b[?25h"


class Interrupted(Exception):
    """A signal asked for the end, and the epoch during which it came is finished."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_status = 128 + signum


def until_interrupted(steps: Iterator[T], agree: Callable[[int], int] | None = None) -> Iterator[T]:
    """Pass `steps` through; after a signal finish the current one and raise `Interrupted`.

    `agree`, if given, is asked before every step: it turns the signal that has come here, or 0,
    into the one to act on. A second signal ends the process at once. The steps are computed in a
    thread of their own, because Python handles signals in the main thread, and only while that is
    not inside XLA.
    """
    received: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        if received:
            sys.stderr.write(SHOW_CURSOR if sys.stderr.isatty() else "")
            sys.stderr.flush()
            os._exit(128 + signum)
        received.append(signum)
        print("\nfinishing this epoch; once more stops at once", file=sys.stderr, flush=True)

    def asked() -> int:
        here = received[0] if received else 0
        return agree(here) if agree else here

    previous = {signum: signal.signal(signum, note) for signum in SIGNALS}
    done = object()
    try:
        with ThreadPoolExecutor(1) as worker:
            while not (signum := asked()):
                coming = worker.submit(next, steps, done)
                while not wait([coming], WAKE).done:
                    pass
                step = coming.result()
                if step is done:
                    return
                yield step  # type: ignore[misc]
            raise Interrupted(signum)
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
