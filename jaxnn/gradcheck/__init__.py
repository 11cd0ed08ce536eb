"""The gradient doctor: is a hand-written derivative right, and if not, which equation and why.

`check_gradients` and `check_vjp` examine anybody's gradient, `verify_network` our own network with
every intermediate derivative. Names are loaded when they are first used: the lessons of
`explanations` need no jax.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "check_gradients": "check",
    "check_vjp": "vjp",
    "verify_network": "network",
    "assert_gradients": "testing",
    "assert_vjp": "testing",
    "GradientReport": "report",
    "LeafReport": "compare",
    "Finding": "report",
    "explain": "explanations",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jaxnn.gradcheck' has no attribute {name!r}")
    return getattr(import_module(f"jaxnn.gradcheck.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
