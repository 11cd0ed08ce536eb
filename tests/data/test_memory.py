"""Memory that is given back to the system."""

import ctypes
import threading
from pathlib import Path

import pytest

from jaxnn.commands import experiment
from jaxnn.data import memory


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


MEMINFO = "MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\nHugePages_Total: 0\n"
UNLIMITED = 9223372036854771712


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 8000000 * 1024),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max"}, 8000000 * 1024),
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "1000000",
                "sys/fs/cgroup/memory.current": "700000\n",
                "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 200000\n",
            },
            500_000,
        ),
        (  # the limit is that of the job, not of its step
            {
                "proc/self/cgroup": "0::/job/step\n",
                "sys/fs/cgroup/job/step/memory.max": "max",
                "sys/fs/cgroup/job/memory.high": "900000",
                "sys/fs/cgroup/job/memory.current": "1000000",
                "sys/fs/cgroup/job/memory.stat": "inactive_file 0",
            },
            0,
        ),
        (  # version 1 in a container, which sees its own group at the top
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "400000",
                "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 100000",
            },
            700_000,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": str(UNLIMITED),
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "0",
                "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0",
            },
            8000000 * 1024,
        ),
    ],
    ids=["none", "v2, no limit", "v2", "v2, above", "v1", "v1, no limit"],
)
def test_free_memory_is_what_a_container_leaves(tmp_path, files, free):
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert memory.free_on_host(tmp_path) == free


def test_another_c_library_keeps_what_it_has(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.give_back()


def test_memory_is_given_back_when_training_has_begun(monkeypatch):
    given = threading.Event()
    monkeypatch.setattr(memory, "give_back", given.set)
    experiment.import_metrics.__wrapped__()
    assert given.wait(60)
