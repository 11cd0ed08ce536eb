"""How the programs of a run are compiled: XLA's options where they pay, and what is kept for later.

Measured, not believed: `python scripts/campaigns/benchmark.py` times what they give.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
from jax.stages import Compiled, Lowered

#: Set to "off" to compile everything anew, or to another folder than the user's own cache.
ENVIRONMENT = "JAXNN_COMPILATION_CACHE"

#: XLA's older way of compiling element-wise operations, in half of the time. The option is this
#: version's; XLA refuses one that it does not know.
_OLDER: dict[str, Any] = (
    {"xla_cpu_use_fusion_emitters": False} if jax.version.__version_info__[:2] == (0, 10) else {}
)

#: For programs that run once: they are compiled in a third of the time, and are slow.
QUICKLY: dict[str, Any] = {"xla_backend_optimization_level": 0, **_OLDER}

#: For programs that spend their time in a few operations that XLA does not compile, such as sorts:
#: they are compiled in half of the time, and are as fast.
LIGHTLY: dict[str, Any] = {"xla_backend_optimization_level": 1, **_OLDER}

#: Our programs are small: cutting them up for compilation in parallel takes longer than it saves.
WHOLE = {"xla_cpu_parallel_codegen_split_count": "1"}

#: Bytes of kept programs. Where there are more, those that have not been used for longest go.
MOST_KEPT = 1 << 28

#: Sends matrix products to Eigen, which spreads even small ones over two threads. XLA's default,
#: YNNPACK, is faster on one thread, and on larger products.
SPREAD = {"xla_cpu_experimental_ynn_fusion_type": ""}


def compiled(lowered: Lowered, *, spread: bool = False) -> Compiled:
    """The program; on a CPU with small products spread over threads, if asked for."""
    if jax.default_backend() != "cpu":
        return lowered.compile()
    try:
        return lowered.compile(compiler_options={**WHOLE, **(SPREAD if spread else {})})
    except jax.errors.JaxRuntimeError:  # another version of XLA, without one of the options
        return lowered.compile()


def keep_programs(folder: Path) -> bool:
    """Keep compiled programs in `folder` for the processes to come; whether that is possible.

    A compiled program is code that will be executed: the folder must be the user's own, and closed
    to everybody else.
    """
    place = os.environ.get(ENVIRONMENT, str(folder))
    if place == "off" or not _private(Path(place)):
        return False
    _trim(Path(place))
    settings: dict[str, Any] = {
        "jax_compilation_cache_dir": place,
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
        # No limit: jax would keep to one under a lock, for which threads that compile wait 50 ms.
        "jax_compilation_cache_max_size": -1,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
    return True


def _trim(folder: Path) -> None:
    """Delete the programs not used for longest, down to half of what may be kept; nothing else."""
    programs = []
    for path in folder.glob("*-cache"):  # as jax names them
        with suppress(OSError):  # another process has deleted it
            found = path.stat()
            programs.append((max(found.st_atime, found.st_mtime), found.st_size, path))
    kept = sum(size for _, size, _ in programs)
    if kept <= MOST_KEPT:
        return
    for _, size, path in sorted(programs):
        if kept <= MOST_KEPT // 2:
            break
        with suppress(OSError):
            path.unlink()
        kept -= size


def _private(folder: Path) -> bool:
    """Make the folder if need be; whether it is ours alone."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return False
    owned = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return owned and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
