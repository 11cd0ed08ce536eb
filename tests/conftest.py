"""Every test runs under jax's strictest rules; MNIST comes from JAXNN_DATA_DIR or not at all."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder that holds genuine MNIST."""
    place = os.environ.get("JAXNN_DATA_DIR")
    if not place:
        pytest.skip("JAXNN_DATA_DIR is not set: it names a folder that holds MNIST")
    return Path(place)
