"""Where MNIST is looked for on this machine."""

import os
import sys
from pathlib import Path

ENVIRONMENT = "JAXNN_DATA_DIR"


def places() -> list[Path]:
    """Folders in which MNIST may lie, in the order in which they are tried.

    First the one that JAXNN_DATA_DIR names, then our cache, then those of torchvision and Keras.
    """
    return [
        *_named_by(ENVIRONMENT),
        cache_dir(),
        *(Path(root, "MNIST", "raw") for root in ("data", "../data", ".", _home("data"))),
        *(folder / "datasets" for folder in _named_by("KERAS_HOME")),
        _home(".keras", "datasets"),
    ]


def cache_dir() -> Path:
    """Where downloads are kept: the user's cache directory by the custom of the system."""
    for base in _named_by("XDG_CACHE_HOME"):
        return base / "jaxnn"
    if sys.platform == "darwin":
        return _home("Library", "Caches", "jaxnn")
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or _home("AppData", "Local")) / "jaxnn"
    return _home(".cache", "jaxnn")


def expand(path: str) -> Path:
    """`path` with ~ and ~user replaced by their home, where there is one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _named_by(variable: str) -> list[Path]:
    value = os.environ.get(variable)
    return [expand(value)] if value else []


def _home(*parts: str) -> Path:
    return expand("~").joinpath(*parts)
