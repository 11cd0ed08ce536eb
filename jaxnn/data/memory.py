"""How much memory this machine has to spare, and giving back what is not needed."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MEBIBYTE = 1 << 20

#: Taken to be free where the system does not say.
UNKNOWN = 4096 * MEBIBYTE


def free_on_host(root: Path = Path("/")) -> int:
    """Bytes that processes may still take, what the system only keeps of files being counted in.

    No more than a container, or any other control group, leaves them. `root` is where the system's
    files are.
    """
    return min([_available(root), *_within_groups(root)])


def fits(size: int, memory: int | None) -> bool:
    """Whether `size` bytes are within `memory` MiB or, for None, half of what is free."""
    return size <= (memory * MEBIBYTE if memory else free_on_host() // 2)


def give_back() -> None:
    """Return freed memory to the system, where the C library is glibc: it would keep it.

    XLA's compiler leaves 100 MB behind, in pieces that nothing later fits into.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library, another system
        ctypes.CDLL(None).malloc_trim(0)


def _available(root: Path) -> int:
    """Of the whole machine."""
    try:
        return _figures(root / "proc/meminfo")["MemAvailable:"] * 1024
    except (OSError, KeyError, ValueError):
        return _half_of_all()


def _within_groups(root: Path) -> Iterator[int]:
    """What is left of each limit on the control groups of this process, and on those above them.

    In a container the group's own path may be one that is only seen outside: the limit is then at
    the top (Linux's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst).
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        groups = [line.split(":", 2)[1:] for line in lines]
    except (OSError, ValueError):
        return
    for controllers, path in groups:
        limits: tuple[str, ...]
        if not controllers:  # version 2
            top, limits, used, kept = "", ("memory.max", "memory.high"), "memory.current", ""
        elif "memory" in controllers.split(","):
            top, limits, used, kept = (
                "memory", ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_"
            )  # fmt: skip
        else:
            continue
        mount = root / "sys/fs/cgroup" / top
        group = Path(path.lstrip("/"))
        for folder in (mount / above for above in (group, *group.parents)):
            for limit in limits:
                with suppress(OSError, ValueError, KeyError):  # no limit, which v2 calls "max"
                    most = int((folder / limit).read_text())
                    files = _figures(folder / "memory.stat")[f"{kept}inactive_file"]
                    yield max(0, most - int((folder / used).read_text()) + files)


def _figures(path: Path) -> dict[str, int]:
    """A file of lines that begin with a name and a number."""
    return {name: int(value) for name, value, *_ in map(str.split, path.read_text().splitlines())}


def _half_of_all() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return UNKNOWN
