"""A trained network read back from the folder of its run, for whatever comes after training."""

import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from jaxnn.data import pictures
from jaxnn.data.features import Standardisation
from jaxnn.data.framing import Frame, like_mnist, prepare
from jaxnn.data.look import Look
from jaxnn.data.pictures import Picture
from jaxnn.errors import CheckpointError, DataError, UsageError
from jaxnn.io import arrayfile
from jaxnn.nn.activations import ACTIVATIONS
from jaxnn.nn.ensemble import logits
from jaxnn.nn.losses import softmax
from jaxnn.nn.mlp import Params
from jaxnn.runs import checkpoint, layout, run_folder
from jaxnn.runs.run_folder import Run
from jaxnn.training.config import Config
from jaxnn.training.layers import layers_of, table
from jaxnn.training.loop import best_epoch, state_shapes

#: What a network is asked about: an array, or pictures by their paths.
Inputs = ArrayLike | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

#: The figures that are shown of a finished run, and held against a new evaluation.
FIGURES = (
    "train_loss",
    "test_loss",
    "train_accuracy",
    "test_accuracy",
    "precision",
    "recall",
    "f1",
)


class Trained(NamedTuple):
    """What was trained and how, its parameters, and the figures that were found at the end.

    `result` is None while the run is not finished: the parameters are then those so far. `epochs`
    have been trained. `frame` is that of the images, or None where the inputs are no images; `look`
    is None in an older run, which has no record of it.
    """

    run: Run
    params: Params
    epochs: int
    frame: Frame | None
    look: Look | None
    result: dict[str, Any] | None

    @property
    def standardisation(self) -> Standardisation | None:
        """What plain features were standardised by; None where the inputs are pixels."""
        noted = self.run.data.get("standardisation")
        return Standardisation.from_dict(noted) if noted else None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The C names of the classes, in the order of the network's outputs."""
        data = self.run.data
        return tuple(data.get("class_names") or map(str, range(data["n_classes"])))

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """(h, w) of the images, (h, w, 3) in colour, or None where the inputs are no images."""
        noted = self.run.data.get("image_shape", False)
        if noted is False:  # an older run, which knew no colours
            return self.frame.shape if self.frame else None
        return tuple(noted) if noted else None

    @property
    def config(self) -> Config:
        """What the network was trained with."""
        return self.run.config

    def logits(self, X: Inputs) -> Array:
        """Z_L (n, C) of inputs X: an array, or pictures in files.

        An array is (n, n_x) or (n, h, w), on the scale of the training data: whole numbers up to
        white, or [0, 1]. Pictures are the path of a file or several paths, and are read as the
        command `predict` reads them. Raises `UsageError` for another number of inputs or another
        scale, `DataError` for a file that is no picture.
        """
        if (paths := _paths(X)) is not None:
            return self.logits_in_unit(self._from_files(paths))
        found = np.asarray(X)
        n_x = self.run.data["n_x"]
        if found.ndim < 2 or math.prod(found.shape[1:]) != n_x:
            raise UsageError(
                f"expected inputs of shape (n, {n_x}), or images of so many pixels, found "
                f"{found.shape}"
            )
        return self.logits_in_unit(self.in_unit(found.reshape(len(found), n_x)))

    def logits_in_unit(self, X: NDArray[np.float32]) -> Array:
        """Z_L (n, C) of inputs X (n, n_x) in [0, 1], as the network was shown its own."""
        params = jax.tree.map(jnp.asarray, self.params)
        return logits(params, jnp.asarray(X), ACTIVATIONS[self.config.activation])

    def predict_proba(self, X: Inputs) -> NDArray[np.float32]:
        """A_L = softmax(Z_L), (n, C): the probability of each class, for X as in `logits`."""
        return np.asarray(softmax(self.logits(X)))

    def predict(self, X: Inputs) -> NDArray[np.int32]:
        """The most probable class of each input, (n,), for X as in `logits`."""
        return np.asarray(self.logits(X).argmax(axis=1), np.int32)

    def summary(self) -> str:
        """A table of the layers, with the number of parameters of each and of all."""
        return table(layers_of(self.config, self.run.data["n_x"], self.run.data["n_classes"]))

    def seen(self, picture: Picture) -> NDArray[np.float32]:
        """The picture as it is where it has the training images' form, else brought into that.

        Raises `DataError` where there is nothing in it, unless that is so in a training image too.
        """
        as_it_is, look = picture.as_it_is, self.look
        if as_it_is is not None and as_it_is.ndim == 3:
            return as_it_is
        if look is None:
            return prepare(picture.grey, require_frame(self))
        if as_it_is is None:
            return prepare(picture.grey, require_frame(self), look.paper, look.ink)
        if as_it_is.min() == as_it_is.max() and not look.blank:
            raise DataError(f"no ink: every pixel is {as_it_is.max():g} where white is 1")
        return as_it_is

    def pictures_in(self, path: Path, anew: bool = False) -> list[Picture]:
        """The pictures in a file: scaled as the network's own were, if those were files of a size
        that was asked for, or in colour; else as a person draws them, those of the training images'
        size as they are unless `anew`.

        Raises `DataError` where it cannot be read, `UsageError` where the inputs are no images.
        """
        shape, look = self.image_shape, self.look
        of_a_size = self.run.data.get("reading", {}).get("size")
        if shape is not None and look is not None and (len(shape) == 3 or of_a_size):
            return pictures.read_as(path, shape, look)
        return pictures.read(path, require_frame(self).shape, None if anew else look)

    def _from_files(self, paths: Iterable[Path]) -> NDArray[np.float32]:
        """Every picture in these files, (n, n_x), where white is 1."""
        found = [picture for path in paths for picture in self.pictures_in(path)]
        return np.stack([self.seen(picture).ravel() for picture in found])

    def in_unit(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Inputs (n, n_x) on the scale of the training data as the network was shown its own.

        Raises `UsageError` for another scale.
        """
        if self.standardisation is not None:
            return self.standardisation.applied(values)
        if self.look is not None:
            taken = self.look.taken(values)
        else:  # an older run has no record of a scale
            taken = values.astype(np.float32) if values.min() >= 0 and values.max() <= 1 else None
        if taken is None:
            raise UsageError(
                "expected inputs on the scale of the training data, found values from "
                f"{values.min():g} to {values.max():g} ({values.dtype})"
            )
        return taken


def _paths(X: Inputs) -> list[Path] | None:
    """The files that X names; None where it is an array."""
    if isinstance(X, str | os.PathLike):
        return [Path(X)]
    named = (
        [x for x in X if isinstance(x, str | os.PathLike)] if isinstance(X, list | tuple) else []
    )
    return [Path(x) for x in named] or None


def _warn(line: str) -> None:
    warnings.warn(line, stacklevel=3)


def load(folder: str | Path, notice: Callable[[str], None] = _warn) -> Trained:
    """The network of a finished run, or that of an unfinished one as far as it has come.

    It predicts arrays as it was trained: `load("runs/my-run").predict(X)`. An unfinished run is
    said to be so to `notice`, by default as a warning. Raises `UsageError` where there is no
    folder, and `CheckpointError` where it holds no run or a damaged file.

    >>> network = jaxnn.load(run)
    >>> network.config.n_h
    (24,)
    >>> images = jaxnn.load_data("digits").x_test
    >>> bool((network.predict(images) == network.predict_proba(images).argmax(axis=1)).all())
    True
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: expected the folder of a run, found none")
    if (folder / layout.RESULT).exists() or not (folder / layout.CHECKPOINTS).is_dir():
        network = _finished(folder)
        if run_folder.epochs_saved(folder) > network.epochs:
            notice(
                f"{folder}: its result after {network.epochs} epochs; it has been resumed since, "
                f"and is not finished after {run_folder.epochs_saved(folder)}"
            )
        return network
    run, snapshot = run_folder.load_latest(folder, notice)
    epochs = len(snapshot.history)
    chosen = (
        f", that of epoch {best_epoch(snapshot.history)} by validation" if snapshot.best else ""
    )
    notice(
        f"{folder}: not finished: its state after {epochs} of {run.config.epochs} epochs{chosen}"
    )
    with run_folder.checked_notes(folder):
        return Trained(run, snapshot.eval_params, epochs, _frame(run.data), _look(run.data), None)


def require_frame(trained: Trained) -> Frame:
    """Raises `UsageError` where the network's inputs are no images."""
    if trained.frame is None:
        raise UsageError(
            f"{trained.run.folder}: the network's {trained.run.data['n_x']} inputs are not the "
            "pixels of an image; expected a run on images"
        )
    return trained.frame


def _finished(folder: Path) -> Trained:
    path = folder / layout.PARAMETERS
    if not path.exists():
        raise CheckpointError(
            f"{folder}: not the folder of a run: expected {layout.PARAMETERS} or "
            f"{layout.CHECKPOINTS}/ in it"
        )
    arrays, notes = arrayfile.load(path)
    with run_folder.checked_notes(path):
        run = run_folder.described_by(folder, notes)
        like = _shapes(run)
        frame, look, result = _frame(run.data), _look(run.data), notes["result"]
        epochs = int(result["epochs"])
        if epochs < 1 or not all(math.isfinite(result[name]) for name in FIGURES):
            raise ValueError("figures that make no sense")
    return Trained(run, checkpoint.restore(path, arrays, like), epochs, frame, look, result)


def _shapes(run: Run) -> Any:
    return state_shapes(run.config, run.data["n_x"], run.data["n_classes"]).params


def _frame(data: Mapping[str, Any]) -> Frame | None:
    """As the run noted it; in MNIST's proportions if it did not, and the inputs are a square."""
    noted = data.get("frame", False)
    side = math.isqrt(data["n_x"])
    if noted is False:
        return like_mnist((side, side)) if side * side == data["n_x"] else None
    frame = Frame.from_dict(noted) if noted else None
    if frame and math.prod(frame.shape) != data["n_x"]:
        raise ValueError(f"images of {data['n_x']} pixels expected, found {frame.shape}")
    return frame


def _look(data: Mapping[str, Any]) -> Look | None:
    """How images look, if that was noted. Raises what `checked_notes` expects where this, or what
    else is noted of the data, makes no sense."""
    names, shape = data.get("class_names"), data.get("image_shape")
    if names and (len(names) != data["n_classes"] or any(type(name) is not str for name in names)):
        raise ValueError(f"{data['n_classes']} names of classes expected, found {names!r:.100}")
    if shape and (len(shape) not in (2, 3) or math.prod(shape) != data["n_x"]):
        raise ValueError(f"images of {data['n_x']} pixels expected, found {shape!r:.60}")
    if data.get("standardisation"):
        by = Standardisation.from_dict(data["standardisation"])
        if by.mean.size != data["n_x"]:
            raise ValueError(f"means of {data['n_x']} features expected, found {by.mean.size}")
    return Look.from_dict(data["look"]) if "look" in data else None
