"""What a command prints: it never ends the command's work.

Characters that the output's encoding lacks are written in ASCII. Where a stream cannot be written
any more, because its reader has gone or its disk is full, what follows is dropped and the reason is
kept: results are worth more than their display.
"""

import codecs
import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO, TypeVar

T = TypeVar("T")

#: The name of the codec error handler below.
PLAINLY = "jaxnn.plainly"

PLAIN = {
    "−": "-", "–": "-", "—": "-", "…": "...", "·": "*", "∘": "*", "×": "x", "±": "+-", "′": "'",
    "’": "'", "‖": "||", "←": "<-", "→": "->", "≤": "<=", "≥": ">=", "≈": "~", "≠": "!=",
    "∞": "inf", "√": "sqrt ", "Σ": "sum ", "∂": "d", "½": "1/2", "¹": "^1", "²": "^2", "³": "^3",
    "⁵": "^5", "⁷": "^7", "⁻": "^-", "ᵀ": "^T", "ᵗ": "^t", "ᶻ": "^z", "₂": "_2", "⟨": "<",
    "⟩": ">", "Ŝ": "S", "°": " degrees", "β": "beta", "δ": "delta", "ε": "eps", "η": "eta",
    "κ": "kappa", "λ": "lambda", "π": "pi", "σ": "sigma", "φ": "phi", "Φ": "Phi", "─": "-",
    "━": "-",
}  # fmt: skip


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Our own characters by their nearest ASCII, any other as an escape, which JSON reads too."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or json.dumps(c)[1:-1] for c in characters), error.end


codecs.register_error(PLAINLY, _plainly)


class Output:
    """A text stream that is written as long as that is possible; `lost` says why it is not."""

    def __init__(self, stream: TextIO | None, descriptor: int) -> None:
        self.lost: OSError | None = None
        self._closed = stream is None  # as Python has it where the caller has closed the stream
        self._stream: Any = stream or os.fdopen(descriptor, "w", encoding="utf-8", closefd=False)

    def write(self, text: str) -> int:
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        if not self._closed:
            self._attempt(self._stream.flush)

    def _attempt(self, operation: Callable[[], Any]) -> None:
        if self.lost is not None:
            return
        try:
            if self._closed:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            operation()
        except OSError as error:
            self.lost = error
            self._divert()

    def _divert(self) -> None:
        """What the stream still holds would make the interpreter's own end fail."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def reader_has_gone() -> bool:
    """Whether standard output was a pipe whose reader has ended, as `… | head` does."""
    return isinstance(getattr(sys.stdout, "lost", None), BrokenPipeError)


class Muted:
    """A standard output that drops what is written to it; `result` goes to the one `behind`."""

    def __init__(self, behind: TextIO) -> None:
        self.behind = behind

    def write(self, text: str) -> int:
        return len(text)

    def result(self, text: str) -> None:
        print(text, file=self.behind)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)


def muted() -> Muted | None:
    """Standard output where the command is to be quiet, else None."""
    stream: Any = sys.stdout
    return stream if isinstance(stream, Muted) else None


def quietly(quiet: bool, work: Callable[..., T], *args: Any) -> T:
    """`work(*args)`; if `quiet`, without a word on standard output but its result."""
    if not quiet:
        return work(*args)
    stream: Any = Muted(sys.stdout)
    with redirect_stdout(stream):
        return work(*args)


@contextmanager
def steady() -> Iterator[tuple[Output, Output]]:
    """Within this block, standard output and standard error are `Output`s."""
    for descriptor in range(3):  # a file that took a closed one's number would get its text
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    errors = [getattr(stream, "errors", None) for stream in before]
    _set_errors(before, [PLAINLY, PLAINLY])
    ours = Output(before[0], 1), Output(before[1], 2)
    streams: Any = ours
    sys.stdout, sys.stderr = streams
    try:
        yield ours
    finally:
        for stream in ours:
            stream.flush()
        sys.stdout, sys.stderr = before
        _set_errors(before, errors)


def _set_errors(streams: Iterable[Any], handlers: Iterable[str | None]) -> None:
    for stream, handler in zip(streams, handlers, strict=True):
        if handler and hasattr(stream, "reconfigure"):
            with suppress(OSError, ValueError):
                stream.reconfigure(errors=handler)
