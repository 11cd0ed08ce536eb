"""How much memory this machine has to spare, and giving back what is not needed."""

import ctypes
import os
from contextlib import suppress
from pathlib import Path

MEBIBYTE = 1 << 20

#: Taken to be free where the system does not say.
UNKNOWN = 4096 * MEBIBYTE


def free_on_host() -> int:
    """Bytes that processes may still take, what the system only keeps of files being counted in."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = dict(line.split(":") for line in lines)
        return int(sizes["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _half_of_all()


def fits(size: int, memory: int | None) -> bool:
    """Whether `size` bytes are within `memory` MiB or, for None, half of what is free."""
    return size <= (memory * MEBIBYTE if memory else free_on_host() // 2)


def give_back() -> None:
    """Return freed memory to the system, where the C library is glibc: it would keep it.

    XLA's compiler leaves 100 MB behind, in pieces that nothing later fits into.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library, another system
        ctypes.CDLL(None).malloc_trim(0)


def _half_of_all() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return UNKNOWN
