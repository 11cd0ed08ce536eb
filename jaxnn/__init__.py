"""Neural networks in JAX, with backpropagation derived by hand and verified equation by equation.

The names below are loaded when they are first used, so that `import jaxnn` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "back_propagate": "nn.mlp",
    "feed_forward": "nn.mlp",
    "gradient": "nn.mlp",
    "init_params": "nn.mlp",
    "loss": "nn.mlp",
    "momentum": "nn.optimisers",
    "evaluate": "training.evaluation",
    "train_epoch": "training.step",
    "train_step": "training.step",
    "check_gradients": "gradcheck",
    "check_vjp": "gradcheck",
    "GradientReport": "gradcheck",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jaxnn' has no attribute {name!r}")
    return getattr(import_module(f"jaxnn.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
