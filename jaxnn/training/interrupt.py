"""Ctrl-C, SIGTERM and SIGHUP between two epochs, never inside one."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from types import FrameType
from typing import TypeVar

from jaxnn.io import output

T = TypeVar("T")

#: SIGHUP comes when the terminal is closed. Windows has none.
SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
HANGUP = getattr(signal, "SIGHUP", None)

#: What stands for an output that nobody reads any more.
NO_READER = getattr(signal, "SIGPIPE", signal.SIGTERM)
#: Seconds: a signal that comes just as the main thread goes to sleep is not seen until it wakes.
WAKE = 0.2

SHOW_CURSOR = "\x1b[?25h"


class Interrupted(Exception):
    """A signal asked for the end, and the epoch during which it came is finished."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_status = 128 + signum


def heeded() -> list[signal.Signals]:
    """`SIGNALS`, but for a SIGHUP that is ignored already, as nohup wants it."""
    ignored = signal.SIG_IGN
    return [s for s in SIGNALS if s.name != "SIGHUP" or signal.getsignal(s) != ignored]


def until_interrupted(steps: Iterator[T], agree: Callable[[int], int] | None = None) -> Iterator[T]:
    """Pass `steps` through; after a signal finish the current one and raise `Interrupted`.

    The end of whoever reads the output counts as the signal `NO_READER`.

    `agree`, if given, is asked before every step: it turns the signal that has come here, or 0,
    into the one to act on. A second Ctrl-C or SIGTERM ends the process at once. The steps are
    computed in a thread of their own, because Python handles signals in the main thread, and only
    while that is not inside XLA.
    """
    received: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        if received and signum == HANGUP:  # the shell and the system may both send one
            return
        if received:
            sys.stderr.write(SHOW_CURSOR if sys.stderr.isatty() else "")
            sys.stderr.flush()
            os._exit(128 + signum)
        received.append(signum)
        print("\nfinishing this epoch; once more stops at once", file=sys.stderr, flush=True)

    def asked() -> int:
        here = received[0] if received else NO_READER if output.reader_has_gone() else 0
        return agree(here) if agree else here

    previous = {signum: signal.signal(signum, note) for signum in heeded()}
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
