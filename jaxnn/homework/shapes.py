"""Our own network in several shapes: depths, activations, and with all that regularises it."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from jaxnn.gradcheck.network import Extras, derivatives_of, verdicts
from jaxnn.gradcheck.report import GradientReport
from jaxnn.nn import mlp
from jaxnn.nn.activations import ACTIVATIONS
from jaxnn.nn.losses import Distilled, distillation


class Shape(NamedTuple):
    """A network to examine; a regularised one has masks, a penalty and a teacher."""

    sizes: tuple[int, ...]
    activation: str
    regularised: bool = False

    def __str__(self) -> str:
        extras = ", dropout, L2 and distillation" if self.regularised else ""
        return f"{'-'.join(map(str, self.sizes))}, {self.activation}{extras}"


#: The document's network, then other depths and activations, and all that regularises one.
SHAPES = (
    Shape((784, 64, 10), "sigmoid"),
    Shape((13, 5), "sigmoid"),
    Shape((13, 11, 5), "tanh"),
    Shape((13, 11, 5), "relu"),
    Shape((13, 11, 5), "softplus"),
    Shape((13, 11, 7, 5), "leaky_relu"),
    Shape((13, 11, 7, 5), "gelu"),
    Shape((13, 11, 7, 3, 5), "silu"),
    Shape((13, 11, 7, 3, 5), "tanh", regularised=True),
)


def verify_shapes(m: int = 64) -> Iterator[GradientReport]:
    """The verdict on each of SHAPES on random data, in float32 and then in float64."""
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        X = rng.random((m, shape.sizes[0])).astype(np.float32)
        C = shape.sizes[-1]
        Y: Any = np.eye(C, dtype=np.float32)[rng.integers(0, C, m)]
        params: dict[str, Any] = {}
        for layer, (n_in, n_out) in enumerate(pairwise(shape.sizes), start=1):
            W, b = rng.standard_normal((n_out, n_in)) * n_in**-0.5, rng.standard_normal(n_out)
            params |= {f"W{layer}": W.astype(np.float32), f"b{layer}": b.astype(np.float32)}
        extras = Extras()
        if shape.regularised:
            teacher: Any = rng.dirichlet(np.ones(C), m).astype(np.float32)
            Y, masks = Distilled(Y, teacher), _masks(rng, m, shape.sizes[:-1])
            extras = Extras(masks, 0.1, distillation(3.0, 0.7))
        activation = ACTIVATIONS[shape.activation]
        derivatives = derivatives_of(params, X, Y, activation, mlp.back_propagate, extras)
        exact, in_dtype, testify = verdicts(params, X, Y, activation, extras, derivatives)
        seen = testify(derivatives.wide)
        for report in (in_dtype, exact):
            yield replace(report, title=f"{shape}, {report.precision}", witness=seen)


def _masks(rng: np.random.Generator, m: int, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Inverted dropout at a rate of 1/4."""
    return {
        f"D{layer}": np.float32(rng.random((m, n)) < 0.75) / np.float32(0.75)
        for layer, n in enumerate(sizes)
    }
