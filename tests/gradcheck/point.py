"""Small points with distinct prime sizes, and a NumPy backward pass to plant faults in."""

from itertools import pairwise

import numpy as np

from jaxnn.gradcheck.network import network_at
from jaxnn.nn.activations import ACTIVATIONS

SIZES = {2: (17, 11, 7, 5), 3: (17, 11, 7, 13, 5)}


def network(depth=2, activation="tanh", dtype=np.float64, sizes=None, seed=0):
    """Parameters with biases that are not zero, X (m, n_x) and one-hot Y (m, C)."""
    m, *widths = sizes or SIZES[depth]
    rng = np.random.default_rng(seed)
    params = {}
    for layer, (n_in, n_out) in enumerate(pairwise(widths), start=1):
        params[f"W{layer}"] = (rng.normal(size=(n_out, n_in)) / np.sqrt(n_in)).astype(dtype)
        params[f"b{layer}"] = rng.normal(size=n_out).astype(dtype)
    X = rng.normal(size=(m, widths[0])).astype(dtype)
    Y = np.eye(widths[-1], dtype=dtype)[rng.integers(0, widths[-1], m)]
    return params, X, Y


def derivation_at(depth=2, activation="tanh", **options):
    """The right derivation at such a point."""
    params, X, Y = network(depth, activation)
    return network_at(params, X, Y, ACTIVATIONS[activation], **options)
