"""Networks to look into, without training: small, and of every kind that a run can be."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.data import Dataset, framing, look
from jaxnn.nn.mlp import init_params
from jaxnn.runs import run_folder
from jaxnn.runs.trained import Trained
from jaxnn.training.config import Config

from .. import trained_run


def enlarged() -> Dataset:
    """The digits at MNIST's size: 24×24 pixels of ink in 28×28."""
    small = trained_run.digits()
    parts = []
    for x in (small.x_train, small.x_test):
        images = np.kron(x.reshape(-1, 8, 8), np.ones((3, 3), x.dtype))
        parts.append(np.pad(images, ((0, 0), (2, 2), (2, 2))).reshape(len(x), -1))
    return Dataset(
        "enlarged", "made for a test", parts[0], small.y_train, parts[1], small.y_test,
        10, (28, 28), small.scale,
    )  # fmt: skip


def network(dataset: Dataset, config: Config, folder: Path = Path("run")) -> Trained:
    """With weights and biases as they are drawn, and epochs of which none is done."""
    noted = run_folder.describe(dataset, "digits")
    run = run_folder.Run(folder, config, noted, run_folder.versions())
    sizes = (dataset.n_x, *config.n_h, dataset.n_classes)
    keys = jax.random.split(jax.random.key(3), len(sizes))
    params = dict(init_params(keys[0], sizes))
    for layer in range(1, len(sizes)):
        params[f"b{layer}"] = 0.3 * jax.random.normal(keys[layer], (sizes[layer],), jnp.float32)
    images = look.of_dataset(dataset)
    return Trained(run, params, 0, framing.of_dataset(dataset, images), images, None)
