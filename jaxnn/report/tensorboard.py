"""The curves of a run for TensorBoard, beside `history.jsonl`: the optional extra `tensorboard`."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from jaxnn.errors import SettingError
from jaxnn.training.loop import Record, Snapshot

FOLDER = "tensorboard"


def require() -> None:
    """Raises `SettingError` where the package that writes them is not installed."""
    if find_spec("tensorboardX") is None:
        raise SettingError(
            "`log` tensorboard: expected the package tensorboardX, found none; "
            "`pip install tensorboardX` installs it"
        )


def logged(
    steps: Iterable[Snapshot], folder: Path, history: Iterable[Record]
) -> Iterator[Snapshot]:
    """Pass the epochs through, each on the disk for TensorBoard before the next one begins.

    `history` has the epochs before: they are written too, so that the curves of a run that is
    resumed begin with its first epoch.
    """
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder / FOLDER), purge_step=1) as writer:

        def write(record: Record) -> None:
            for name, value in record.items():
                part, _, measure = name.partition("_")
                if measure:
                    writer.add_scalar(f"{measure}/{part}", value, record["epoch"])
            writer.flush()

        for record in history:
            write(record)
        for snapshot in steps:
            write(snapshot.history[-1])
            yield snapshot
