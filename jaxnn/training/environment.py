"""What of the environment a command keeps out of its results: the same seed, the same bits."""

import os
import sys

#: jax would take these for its defaults of how numbers are drawn, how wide and how exact they are,
#: and how programs are compiled.
DECIDES_BITS = (
    "JAX_ALLOW_F16_REDUCTIONS",
    "JAX_COMPILER_ENABLE_REMAT_PASS",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_DISABLE_JIT",
    "JAX_DISABLE_MOST_OPTIMIZATIONS",
    "JAX_ENABLE_CUSTOM_PRNG",
    "JAX_ENABLE_X64",
    "JAX_EXEC_TIME_OPTIMIZATION_EFFORT",
    "JAX_EXPLICIT_X64_DTYPES",
    "JAX_HIGH_DYNAMIC_RANGE_GUMBEL",
    "JAX_LEGACY_PRNG_KEY",
    "JAX_MEMORY_FITTING_EFFORT",
    "JAX_MEMORY_FITTING_LEVEL",
    "JAX_NO_EXECUTION",
    "JAX_NO_TRACING",
    "JAX_NUMPY_DTYPE_PROMOTION",
    "JAX_NUMPY_RANK_PROMOTION",
    "JAX_OPTIMIZATION_LEVEL",
    "JAX_RANDOM_SEED_OFFSET",
    "JAX_SOFTMAX_CUSTOM_JVP",
    "JAX_THREEFRY_GPU_KERNEL_LOWERING",
    "JAX_THREEFRY_PARTITIONABLE",
    "JAX_USE_DIRECT_LINEARIZE",
)


def set_aside() -> list[str]:
    """Take these out of the environment, unless jax has read it already; those that were there."""
    if "jax" in sys.modules:
        return []
    return [name for name in DECIDES_BITS if os.environ.pop(name, None)]
