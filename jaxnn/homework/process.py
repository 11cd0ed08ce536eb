"""A homework file in a process of its own: started, asked, and ended in time."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any

import jaxnn
from jaxnn.errors import JaxnnError
from jaxnn.homework import child

#: Seconds in which Python and NumPy have to be there, however busy the machine is.
START = 60.0

#: How much of what a file prints is kept.
PRINTED = 2000

Groups = dict[str, dict[str, Any]]


class HomeworkError(JaxnnError):
    """The file could not be examined: it cannot be read, raises, exits or runs too long."""

    names_settings = True


class RaisedError(HomeworkError):
    """A function of the file raised an exception."""


class StoppedError(HomeworkError):
    """The file's form is not one that can be read, or what it returned is none."""


class Process:
    """A file that answers questions; `timeout` is of the seconds that it computes, in all."""

    def __init__(self, path: Path, timeout: float) -> None:
        self.path, self.timeout, self.left = path, timeout, timeout
        root = str(Path(jaxnn.__file__).parents[1])
        self._process = subprocess.Popen(
            [sys.executable, "-B", child.__file__, root, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._started = False
        self._printed: list[bytes] = []
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self._threads = [Thread(target=f, daemon=True) for f in (self._listen, self._drain)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def send(self, told: dict[str, Any], groups: Groups | None = None) -> None:
        """Put a question; there may be other things to do before its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(child.pack(told, groups))
            self._process.stdin.flush()
        except OSError:
            pass  # It has ended: the answer says so.

    def answer(self) -> tuple[dict[str, Any], Groups]:
        """The answer to the last question, or the one line that says why there is none."""
        try:
            if not self._started:
                self._started = True
                if self._answers.get(timeout=START) is None:
                    raise self._ended()
            begun = time.monotonic()
            data = self._answers.get(timeout=max(self.left, 0.0))
        except queue.Empty:
            raise HomeworkError(
                f"{self.path.name} was still running after {self.timeout:g} seconds: its functions "
                "must return, and must not train"
            ) from None
        self.left -= time.monotonic() - begun
        if data is None:
            raise self._ended()
        try:
            told, groups = child.unpack(data)
        except Exception:
            raise HomeworkError(f"{self.path.name} answered with something else") from None
        if "raised" in told:
            raise RaisedError(f"{self.path.name}: {told['raised']}")
        if "stop" in told:
            raise StoppedError(f"{self.path.name}: {told['stop']}")
        return told, groups

    def ask(self, told: dict[str, Any], groups: Groups | None = None) -> tuple[Any, Groups]:
        self.send(told, groups)
        return self.answer()

    def printed(self) -> str:
        """The beginning of what the file has printed; its functions are called more than once."""
        lines = b"".join(self._printed).decode(errors="replace").strip().splitlines()
        return "\n".join(dict.fromkeys(lines))

    def end(self) -> None:
        """End the process and whatever it started."""
        try:
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        except ProcessLookupError:
            pass
        self._process.wait()
        for thread in self._threads:
            thread.join(1)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def _ended(self) -> HomeworkError:
        status = self._process.wait()
        self._threads[1].join(1)
        last = self.printed().splitlines()[-1:] or ["it printed nothing"]
        return HomeworkError(f"{self.path.name} ended its process with status {status}: {last[0]}")

    def _listen(self) -> None:
        """Messages one after the other; None at their end."""
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            try:
                while (data := child.read(stream)) is not None:  # type: ignore[arg-type]
                    self._answers.put(data)
            except (ValueError, OSError):
                self._answers.put(b"")
        self._answers.put(None)

    def _drain(self) -> None:
        """Read all that the file prints, and keep the beginning."""
        assert self._process.stderr is not None
        kept = 0
        with self._process.stderr as pipe:
            while block := pipe.read1(65536):  # type: ignore[attr-defined]
                if kept < PRINTED:
                    self._printed.append(block[: PRINTED - kept])
                    kept += len(self._printed[-1])
