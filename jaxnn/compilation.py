"""How the programs of a run are compiled: XLA's options where they pay, and what is kept for later.

Measured, not believed: `python scripts/benchmark.py` times what they give.
"""

import os
import stat
from pathlib import Path
from typing import Any

import jax
from jax.stages import Compiled, Lowered

#: Set to "off" to compile everything anew, or to another folder than the user's own cache.
ENVIRONMENT = "JAXNN_COMPILATION_CACHE"

#: For programs that run once: they are compiled in a third of the time, and are slow. The second
#: option is this version's; XLA refuses one that it does not know.
QUICKLY: dict[str, Any] = {"xla_backend_optimization_level": 0}
if jax.version.__version_info__[:2] == (0, 10):
    QUICKLY["xla_cpu_use_fusion_emitters"] = False

#: Our programs are small: cutting them up for compilation in parallel takes longer than it saves.
WHOLE = {"xla_cpu_parallel_codegen_split_count": "1"}

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
    settings: dict[str, Any] = {
        "jax_compilation_cache_dir": place,
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
        "jax_compilation_cache_max_size": 1 << 28,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
    return True


def _private(folder: Path) -> bool:
    """Make the folder if need be; whether it is ours alone."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return False
    owned = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return owned and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
