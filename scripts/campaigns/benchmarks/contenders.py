"""Who takes part: for each name a module of `peers`, and the options it is prepared with."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks import processes
from benchmarks.problem import Spec

JAXNN = "jaxnn"


class Contender(NamedTuple):
    peer: str
    options: tuple[str, ...] = ()


#: Those of the epoch, from the document on.
CONTENDERS = {
    "NumPy, the document's": Contender("numpy_document"),
    "NumPy float32 by hand": Contender("numpy_float32"),
    "PyTorch eager": Contender("torch_autograd"),
    "PyTorch fused SGD": Contender("torch_autograd", ("fused",)),
    "PyTorch compiled": Contender("torch_autograd", ("fused", "compiled")),
    "PyTorch by hand": Contender("torch_by_hand"),
    "Flax NNX + optax": Contender("flax_nnx"),
    "jax.grad, jitted step": Contender("jax_grad"),
    "scikit-learn": Contender("sklearn_mlp"),
    JAXNN: Contender("jaxnn_epoch"),
}


def run(name: str, contender: Contender, specs: Sequence[Spec]) -> Any:
    """What the contender's own process measures: a list, or {"skipped": why} where it cannot run.

    Raises `FailedError` where that is jaxnn.
    """
    request = {**contender._asdict(), "specs": [spec._asdict() for spec in specs]}
    try:
        return processes.ask("benchmarks.contender", request)["results"]
    except processes.FailedError as error:
        if name == JAXNN:
            raise
        return {"skipped": str(error)}
