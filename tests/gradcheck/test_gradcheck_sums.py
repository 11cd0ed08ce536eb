"""Cotangents of which only a part is passed on."""

import jax.numpy as jnp
import numpy as np

from jaxnn import check_gradients

rng = np.random.default_rng(0)
W, X, T = rng.normal(size=(3, 4)), rng.normal(size=(6, 3)), rng.normal(size=(6, 4))


def test_a_clip_is_told_and_a_factor_is_no_clip():
    """A clip of derivatives that are all 1 gives the same numbers as a factor."""

    def weighted(p):
        spread = jnp.sin(X @ p["W"])
        return jnp.sum(spread * T)

    def unweighted(p):
        spread = jnp.sin(X @ p["W"])
        return jnp.sum(spread)

    def clipped(p, weights):
        return {"W": X.T @ (np.clip(weights, -0.5, 0.5) * np.cos(X @ p["W"]))}

    report = check_gradients(weighted, lambda p: clipped(p, T), {"W": W})
    assert report.cause == "clipped"
    assert "±0.5" in report.explanation
    report = check_gradients(unweighted, lambda p: clipped(p, np.ones_like(T)), {"W": W})
    assert report.cause != "clipped"
    assert "1/2" in report.explanation
