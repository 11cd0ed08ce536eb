"""Affine and elastic distortions, fresh for every image and every epoch, drawn on the device.

After Simard, Steinkraus and Platt (2003). A distorted image takes pixel (i, j) from (i + u, j + v)
of the original. u and v are smooth random fields: random combinations of fixed ones, so that those
of a whole batch are one product,

    u, v = C Φ        C (2m, K) random coefficients,  Φ (K, h·w) = {1, y, x, φ_1 … φ_k}.

1, y and x make the affine map, the φ the elastic one. Simard's field is noise smoothed by a
Gaussian of standard deviation s; its covariance is exp(−d²/4s²), with leading eigenvectors φ.
"""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

#: s, as a share of the image's longer side: 6 pixels of MNIST's 28, about Simard's choice.
SMOOTHNESS = 6 / 28

#: How many φ stand for all: they carry 99.9 % of the variance.
FIELDS = 40

#: At affine strength 1, standard deviations: a rotation and a shear of 7.5°, 10 % in each side's
#: length. The whole image moves by half a pixel of MNIST's 28.
ANGLE, STRETCH, SHIFT = 0.13, 0.10, 0.5 / 28


class Distortion(NamedTuple):
    """How far images are distorted: `elastic` is the standard deviation of a pixel's displacement,
    in pixels where the image is 28 wide; `affine` multiplies the affine map's own."""

    elastic: Array | float
    affine: Array | float


def distort(
    key: Array,
    X: Array,
    shape: tuple[int, ...] | None,
    distortion: Distortion,
    paper: float = 0.0,
) -> Array:
    """Rows (m, h·w) in [0, 1], each an image of `shape` = (h, w) with a distortion of its own; in
    colour, rows (m, h·w·3) of (h, w, 3), whose channels are distorted alike.

    Bilinear, and `paper` outside of the image. Raises ValueError where the rows are no images.
    """
    if shape is None:
        raise ValueError("distortions need images: these inputs have no height and width")
    h, w = shape[:2]
    u, v = displacements(key, len(X), (h, w), distortion)
    if len(shape) == 2:
        return _resampled(X, (h, w), u, v, paper)
    channels = jnp.moveaxis(X.reshape(len(X), h * w, -1), 2, 0)
    resampled = [_resampled(channel, (h, w), u, v, paper) for channel in channels]
    return jnp.stack(resampled, axis=2).reshape(X.shape)


def _resampled(X: Array, shape: tuple[int, int], u: Array, v: Array, paper: float) -> Array:
    """As `resample`, with `paper` outside. Where that is 0, nothing else is computed."""
    return resample(X - paper, shape, u, v) + paper if paper else resample(X, shape, u, v)


def displacements(
    key: Array, m: int, shape: tuple[int, int], distortion: Distortion
) -> tuple[Array, Array]:
    """Random u and v, (m, h·w): how far below and beside, in pixels, a value is taken from."""
    side = max(shape)
    affine_key, elastic_key = jax.random.split(key)
    turn, skew, log_y, log_x, down, right = jax.random.normal(affine_key, (6, m))
    angle, shear = (distortion.affine * ANGLE * normal for normal in (turn, skew))
    y, x = (jnp.exp(distortion.affine * STRETCH * normal) for normal in (log_y, log_x))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    # diag(y, x) · [[cos, −sin], [sin, cos]] · [[1, 0], [shear, 1]], less the identity
    below = (down, y * (cos - sin * shear) - 1, -y * sin)
    beside = (right, x * (sin + cos * shear), x * cos - 1)
    moved = distortion.affine * SHIFT * side
    affine = jnp.stack([jnp.stack([moved * s, a, b]) for s, a, b in (below, beside)])
    elastic = jax.random.normal(elastic_key, (2, FIELDS, m)) * (distortion.elastic * side / 28)
    coefficients = jnp.concatenate([affine, elastic], axis=1)
    u, v = jnp.einsum("ckm,kp->cmp", coefficients, jnp.asarray(_fields(shape)))
    return u, v


def resample(X: Array, shape: tuple[int, int], u: Array, v: Array) -> Array:
    """The values of images at (i + u, j + v), bilinear between pixels, 0 outside; (m, h·w)."""
    (h, w), m = shape, len(X)
    below_h, below_w = (np.nextafter(np.float32(side + 1), np.float32(0)) for side in shape)
    y = jnp.clip(jnp.repeat(jnp.arange(h, dtype=X.dtype), w)[None, :] + u + 1, 0, below_h)
    x = jnp.clip(jnp.tile(jnp.arange(w, dtype=X.dtype), h)[None, :] + v + 1, 0, below_w)
    row, column = y.astype(jnp.int32), x.astype(jnp.int32)
    below, beside = y - row.astype(X.dtype), x - column.astype(X.dtype)
    padded = jnp.pad(X.reshape(m, h, w), ((0, 0), (1, 1), (1, 1))).reshape(m, -1)
    corner = row * (w + 2) + column

    def at(offset: int) -> Array:
        return jnp.take_along_axis(padded, corner + offset, axis=1, mode="promise_in_bounds")

    upper = at(0) * (1 - beside) + at(1) * beside
    lower = at(w + 2) * (1 - beside) + at(w + 3) * beside
    return upper * (1 - below) + lower * below


@cache
def _fields(shape: tuple[int, int]) -> NDArray[np.float32]:
    """Φ (K, h·w): 1, y, x from the middle, in pixels, then the φ, of mean variance 1 together."""
    y, x = (np.arange(side) - (side - 1) / 2 for side in shape)
    grid = np.meshgrid(y, x, indexing="ij")
    fields = [np.ones(shape), *grid, *_smooth_fields(shape)]
    return np.stack(fields).reshape(len(fields), -1).astype(np.float32)


def _smooth_fields(shape: tuple[int, int]) -> NDArray[Any]:
    """The leading eigenvectors of the smoothed noise's covariance, which is a product of two."""
    (values_y, vectors_y), (values_x, vectors_x) = (_modes(side, max(shape)) for side in shape)
    variances = np.outer(values_y, values_x)
    rows, columns = np.unravel_index(np.argsort(-variances, axis=None)[:FIELDS], variances.shape)
    products = vectors_y.T[rows][:, :, None] * vectors_x.T[columns][:, None, :]
    phi = np.zeros((FIELDS, *shape))
    phi[: len(rows)] = products * np.sqrt(variances[rows, columns])[:, None, None]
    return np.asarray(phi / np.sqrt((phi**2).sum(axis=0).mean()))


def _modes(side: int, longest: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Eigenvalues and eigenvectors of exp(−d²/4s²) along one side."""
    place = np.arange(side) / longest
    distance = place[:, None] - place[None, :]
    values, vectors = np.linalg.eigh(np.exp(-(distance**2) / (4 * SMOOTHNESS**2)))
    return values.clip(0), vectors
