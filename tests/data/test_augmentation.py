"""Distortions: what they leave alone, how large and how smooth they are, and what they repeat."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from jaxnn.data.augmentation import (
    ANGLE,
    SHIFT,
    SMOOTHNESS,
    STRETCH,
    Distortion,
    displacements,
    distort,
    resample,
)
from jaxnn.nn.mlp import init_params
from jaxnn.training.config import Config
from jaxnn.training.objective import one_hot, unit_interval
from jaxnn.training.program import Hyperparameters, Program
from jaxnn.training.shuffle import permutation
from jaxnn.training.step import init_state, train_epoch, train_step

from .. import trained_run

SHAPES = [(28, 28), (8, 8), (6, 11)]
KEY = jax.random.key(7)


def rows(shape, m=5):
    return np.random.default_rng(1).random((m, shape[0] * shape[1]), np.float32)


def fields(shape, elastic, affine, m=4000):
    """u and v of m images, (2, m, h, w)."""
    u, v = displacements(KEY, m, shape, Distortion(elastic, affine))
    return np.stack([u, v]).reshape(2, m, *shape).astype(np.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_distortion_changes_no_bit(shape):
    X = rows(shape)
    np.testing.assert_array_equal(distort(KEY, X, shape, Distortion(0.0, 0.0)), X)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_values_are_scipys(shape):
    """At any displacement, far outside of the image as well."""
    X = rows(shape)
    rng = np.random.default_rng(2)
    u, v = rng.normal(0, max(shape) / 4, (2, *X.shape)).astype(np.float32)
    i, j = np.indices(shape).reshape(2, -1)
    expected = [
        map_coordinates(image.reshape(shape), [i + du, j + dv], order=1, mode="grid-constant")
        for image, du, dv in zip(X.astype(np.float64), u, v, strict=True)
    ]
    # A place up to 30 is known to 2e-6 in float32, and no slope is above 1.
    np.testing.assert_allclose(resample(X, shape, u, v), expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_elastic_field_has_the_strength_that_is_asked_for(shape):
    """Over all pixels, in pixels of an image 28 wide; a field's few modes leave 1 % to chance."""
    found = fields(shape, elastic=1.5, affine=0.0).std(axis=(1, 2, 3))
    np.testing.assert_allclose(found, 1.5 * max(shape) / 28, rtol=0.04)


def test_the_elastic_field_is_as_smooth_as_simards():
    """Its correlation is that of noise under a Gaussian, exp(−d²/4s²); 4,000 fields show it."""
    u, v = fields((28, 28), elastic=1.0, affine=0.0)[:, :, 8:20, 4:24]
    for field in (u, v):
        for d in (1, 4, 8, 12):
            variance = (field[:, :, :-d] ** 2).mean()
            found = (field[:, :, :-d] * field[:, :, d:]).mean() / variance
            assert found == pytest.approx(np.exp(-(d**2) / (4 * (SMOOTHNESS * 28) ** 2)), abs=0.04)
    assert abs((u * v).mean()) < 0.02


@pytest.mark.parametrize("shape", SHAPES)
def test_an_affine_distortion_is_an_affine_map_of_the_strength_that_is_asked_for(shape):
    """u and v are planes over (y, x) from the middle; 4,000 draws know their spread to 1 %."""
    y, x = np.indices(shape).reshape(2, -1) - (np.array(shape)[:, None] - 1) / 2
    plane = np.stack([np.ones_like(y), y, x], axis=1)
    u, v = fields(shape, elastic=0.0, affine=0.5).reshape(2, 4000, -1)
    (down, u_by_y, u_by_x), *_ = np.linalg.lstsq(plane, u.T)
    (right, _, v_by_x), *_ = np.linalg.lstsq(plane, v.T)
    np.testing.assert_allclose(plane @ [down, u_by_y, u_by_x], u.T, rtol=0, atol=1e-5)
    spreads = [np.std(found) for found in (down, right, u_by_x, u_by_y, v_by_x)]
    shift = SHIFT * max(shape)
    expected = 0.5 * np.array([shift, shift, ANGLE, STRETCH, STRETCH])
    np.testing.assert_allclose(spreads, expected, rtol=0.05)


def test_every_image_has_a_distortion_of_its_own_and_a_key_repeats_it():
    X = np.tile(rows((8, 8), m=1), (4, 1))
    strength = Distortion(1.0, 1.0)
    one, again, other = (distort(jax.random.key(k), X, (8, 8), strength) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert len(np.unique(np.concatenate([one, other]), axis=0)) == 8
    assert 0 <= one.min() < one.max() <= 1


def test_what_is_no_image_is_not_distorted():
    with pytest.raises(ValueError, match="no height and width"):
        distort(KEY, rows((8, 8)), None, Distortion(1.0, 1.0))


def test_every_step_learns_from_fresh_distortions():
    """An epoch of two batches, with the keys that its documentation promises, step by step."""
    images = np.random.default_rng(3).integers(0, 256, (10, 64), np.uint8)
    labels, scale = jnp.arange(10, dtype=jnp.int32) % 5, jnp.float32(1 / 255)
    hyper = Hyperparameters({"lr": jnp.float32(0.5), "beta": jnp.float32(0.9)})
    strength = Distortion(jnp.float32(1.0), jnp.float32(1.0))
    key = jax.random.key(1)
    found, expected = (
        init_state(init_params(jax.random.key(0), (64, 7, 5)), hyper) for _ in range(2)
    )
    found = train_epoch(
        found,
        images,
        labels,
        scale,
        key,
        hyper._replace(distortion=strength),
        program=Program(batch_size=5, image_shape=(8, 8)),
    )
    order = np.asarray(permutation(key, 10)).reshape(2, 5)
    for place, batch in enumerate(order):
        distorting, _ = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 1), place))
        X = distort(distorting, unit_interval(images[batch], scale), (8, 8), strength)
        expected = train_step(expected, X, one_hot(labels[batch], 5), hyper)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-6), found, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_outside_of_a_dark_drawing_is_its_paper(shape):
    """A drawing and its negative are distorted alike."""
    X, distortion = rows(shape), Distortion(2.0, 3.0)
    expected = 1 - distort(KEY, X, shape, distortion)
    np.testing.assert_allclose(distort(KEY, 1 - X, shape, distortion, 1.0), expected, atol=1e-6)
    assert not np.allclose(distort(KEY, 1 - X, shape, distortion), expected, atol=0.1)


@pytest.mark.parametrize("paper", [0.0, 0.8])
def test_the_channels_of_a_colour_are_distorted_alike(paper):
    shape, distortion = (6, 11), Distortion(2.0, 3.0)
    channels = np.random.default_rng(3).random((3, 5, 66), np.float32)
    X = np.moveaxis(channels, 0, 2).reshape(5, -1)
    found = np.moveaxis(distort(KEY, X, (*shape, 3), distortion, paper).reshape(5, 66, 3), 2, 0)
    expected = [distort(KEY, channel, shape, distortion, paper) for channel in channels]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("light", "paper"), [(False, 0.0), (True, 1.0)])
def test_the_paper_is_that_of_the_training_images(light, paper):
    digits = trained_run.digits()
    framed = np.pad(digits.x_train.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    x = (16 - framed if light else framed).reshape(len(framed), -1)
    dataset = replace(digits, x_train=x, image_shape=(10, 10))
    assert Program.of(Config(elastic=1.0), dataset).paper == paper
    assert Program.of(Config(), dataset).paper == 0
