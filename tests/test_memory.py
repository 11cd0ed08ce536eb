"""Memory that is given back to the system."""

import ctypes
import threading
from pathlib import Path

import pytest

from jaxnn import experiment, memory


def resident() -> int:
    """Bytes of this process that are in memory and its own."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_what_was_freed_in_pieces_is_given_back():
    """Every other piece is kept, so that the C library cannot return any by itself."""
    pieces = [bytes(10_000) for _ in range(10_000)]
    del pieces[::2]
    before = resident()
    memory.give_back()
    assert before - resident() > 10_000_000
    assert len(pieces) == 5_000


def test_another_c_library_keeps_what_it_has(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.give_back()


def test_memory_is_given_back_when_training_has_begun(monkeypatch):
    given = threading.Event()
    monkeypatch.setattr(memory, "give_back", given.set)
    experiment.prepare_conclusion.__wrapped__()
    assert given.wait(60)
