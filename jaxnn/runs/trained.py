"""A trained network read back from the folder of its run, for whatever comes after training."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxnn.data.framing import Frame, like_mnist
from jaxnn.data.look import Look
from jaxnn.errors import CheckpointError, UsageError
from jaxnn.io import arrayfile
from jaxnn.nn.mlp import Params
from jaxnn.runs import checkpoint, layout
from jaxnn.runs import folder as runs
from jaxnn.runs.folder import Run
from jaxnn.training.loop import best_epoch, state_shapes

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


def load(folder: Path, notice: Callable[[str], None]) -> Trained:
    """The network of a finished run, or that of an unfinished one as far as it has come.

    An unfinished run is said to be so to `notice`. Raises `UsageError` where there is no folder,
    and `CheckpointError` where it holds no run or a damaged file.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: expected the folder of a run, found none")
    if (folder / layout.RESULT).exists() or not (folder / layout.CHECKPOINTS).is_dir():
        network = _finished(folder)
        if runs.epochs_saved(folder) > network.epochs:
            notice(
                f"{folder}: its result after {network.epochs} epochs; it has been resumed since, "
                f"and is not finished after {runs.epochs_saved(folder)}"
            )
        return network
    run, progress = runs.load(folder, notice)
    epochs = len(progress.history)
    chosen = (
        f", that of epoch {best_epoch(progress.history)} by validation" if progress.best else ""
    )
    notice(
        f"{folder}: not finished: its state after {epochs} of {run.config.epochs} epochs{chosen}"
    )
    with runs.sensible_notes(folder):
        return Trained(run, progress.chosen, epochs, _frame(run.data), _look(run.data), None)


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
    with runs.sensible_notes(path):
        run = runs.noted(folder, notes)
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
    return Look.from_dict(data["look"]) if "look" in data else None
