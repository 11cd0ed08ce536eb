"""What the figures depend on: cores, load, threads, versions, and how fast products are here.

`python -m benchmarks.machine` measures the rate of large products in a process of its own.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "numpy", "optax", "torch", "flax", "scikit-learn")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS")

#: Sizes of the square products. Smaller ones are slower, much larger ones no faster.
SIZES = (1024, 2048, 4096)


def describe() -> dict[str, str]:
    """Processor, cores, load, thread settings and versions."""
    return {
        "processor": _processor(),
        "cores": str(_cores()),
        "load": f"{os.getloadavg()[0]:.1f}",
        **{name: os.environ.get(name, "unset") for name in THREADS},
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _cores() -> int:
    """Those that this process may use, where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    for line in known.read_text().splitlines() if known.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def answer(request: dict[str, Any]) -> float:
    """Operations per second of large products; quickly, of smaller ones."""
    return product_rate(SIZES[:1], 2) if request["quick"] else product_rate()


def product_rate(sizes: tuple[int, ...] = SIZES, repeats: int = 6) -> float:
    """Operations per second of a square float32 product: the best of NumPy's and JAX's."""
    import jax
    import numpy as np

    product: Callable[[Any, Any], Any] = jax.jit(lambda a, b: a @ b)
    best = 0.0
    for size in sizes:
        a = np.random.default_rng(0).standard_normal((size, size), np.float32)
        device = jax.device_put(a)
        product(device, device).block_until_ready()
        for _ in range(repeats):
            seconds = min(
                _seconds(np.matmul, a, a),
                _seconds(lambda d: product(d, d).block_until_ready(), device),
            )
            best = max(best, 2 * size**3 / seconds)
    return best


def _seconds(work: Callable[..., Any], *arguments: Any) -> float:
    begun = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begun


if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))))
