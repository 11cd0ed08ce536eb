"""A run folder: what was asked, what happened in each epoch, what came of it.

config.json             the configuration, the data, the versions, and how it began
history.jsonl           one line per epoch
checkpoints/            the two latest states saved, each enough to go on from
parameters.safetensors  W1, b1, W2, b2 …           }
table.txt               precision, recall, F1      }  when the run is complete
result.json             its figures                }
explore.html            the network, to look into  }
report.html             everything, written last   }
"""

import itertools
import json
import math
import platform
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from filelock import FileLock, Timeout

import jaxnn
from jaxnn.data import Dataset, framing, look
from jaxnn.data.named import NAMED
from jaxnn.errors import CheckpointError, SettingError, StorageError, UsageError
from jaxnn.io import arrayfile, command
from jaxnn.io.files import append_line, write_bytes, write_json
from jaxnn.nn.activations import ACTIVATIONS
from jaxnn.nn.mlp import Params
from jaxnn.runs import checkpoint
from jaxnn.runs.interval import Interval
from jaxnn.runs.layout import (
    CHECKPOINTS,
    CONFIG,
    HISTORY,
    PARAMETERS,
    REPORT,
    RESULT,
    TABLE,
    TEACHER,
)
from jaxnn.training.config import Config, unknown
from jaxnn.training.loop import Record, Snapshot, state_shapes
from jaxnn.training.program import Teacher

CHECKPOINTS_KEPT = 2


class Run(NamedTuple):
    """A folder, and what its training is defined by: configuration and data."""

    folder: Path
    config: Config
    data: dict[str, Any]
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """What computes the result."""
    packages = ("jax", "jaxlib", "numpy", "optax")
    return {
        "jaxnn": jaxnn.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def describe(
    dataset: Dataset, argument: str, reading: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The data as a run remembers it: where from, how they were read (`Config.reading`), how much
    of what, and its SHA-256."""
    images = look.of_dataset(dataset)
    frame = framing.of_dataset(dataset, images)
    named = argument in (*NAMED, "digits")
    by = dataset.standardisation
    return {
        "name": dataset.name,
        "argument": dataset.name
        if argument == "auto"
        else argument
        if named
        else str(Path(argument).resolve()),
        "n_train": dataset.n_train,
        "n_test": dataset.n_test,
        "n_x": dataset.n_x,
        "n_classes": dataset.n_classes,
        "frame": frame.to_dict() if frame else None,
        "look": images.to_dict(),
        "sha256": dataset.fingerprint(),
        "class_names": list(dataset.class_names),
        "image_shape": list(dataset.image_shape) if dataset.image_shape else None,
        "standardisation": by.to_dict() if by else None,
        "reading": dict(reading or {}),
    }


#: What to do where a folder is not empty: a run in it could go on, a sweep could not.
ANOTHER = "name another folder"
CONTINUE = f"{ANOTHER}, or continue that run with `resume`"


def require_new(out: str | None, advice: str = CONTINUE) -> None:
    """Raises `UsageError` where the folder `out` is a file, holds anything, or cannot be read."""
    if not out:
        return
    folder, found = Path(out), ""
    with _writable(folder):
        if folder.is_dir():
            found = "files in it" if any(folder.iterdir()) else ""
        elif folder.exists():
            found = "a file"
    if found:
        raise SettingError(
            f"`out` {folder}: expected a new or empty folder, found {found}; nothing was changed: "
            f"{advice}"
        )


def new_folder(out: str | None, name: str, advice: str = CONTINUE) -> Path:
    """Make the folder `out`, or a new one under `runs/` named after the time and `name`.

    Raises `UsageError` as `require_new` does, and where it cannot be made.
    """
    require_new(out, advice)
    folder = Path(out) if out else _unused(f"{time.strftime('%Y-%m-%d-%H%M%S')}-{name}")
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def create(out: str | None, config: Config, data: dict[str, Any]) -> Run:
    """A new run in the folder `out`, or in a new one under `runs/` named after time and data.

    Raises `UsageError` where `out` is a file, holds anything already, or cannot be written.
    """
    folder = new_folder(out, data["name"])
    run = Run(folder, config, data, versions())
    with _writable(folder):
        (folder / CHECKPOINTS).mkdir()
        _write_config(run)
    return run


def checkpointed(
    run: Run, steps: Iterable[Snapshot], every: Interval
) -> Generator[Snapshot, None, None]:
    """Pass the epochs through, each with its line of history written, and its checkpoint if due.

    The last epoch has its checkpoint however the steps end, or whoever takes them: done, with any
    exception, or closed. Raises `StorageError` as `save_epoch` does.
    """
    unsaved, epochs, begun = None, 0, time.monotonic()
    try:
        for snapshot in steps:
            unsaved, epochs = snapshot, epochs + 1
            append_history(run, snapshot)
            if every.is_over(epochs, time.monotonic() - begun):
                save_checkpoint(run, snapshot)
                unsaved, epochs, begun = None, 0, time.monotonic()
            yield snapshot
    except StorageError:
        raise
    except BaseException:
        if unsaved:
            save_checkpoint(run, unsaved)
        raise
    if unsaved:
        save_checkpoint(run, unsaved)


def save_epoch(run: Run, snapshot: Snapshot) -> None:
    """The epoch's line of history and its checkpoint."""
    append_history(run, snapshot)
    save_checkpoint(run, snapshot)


def append_history(run: Run, snapshot: Snapshot) -> None:
    """The line of history of the epoch, if there was one. Raises as `save_checkpoint` does."""
    with _rescuing(run, snapshot):
        if snapshot.history:
            append_line(run.folder / HISTORY, json.dumps(snapshot.history[-1], allow_nan=False))


def save_checkpoint(run: Run, snapshot: Snapshot) -> None:
    """A checkpoint; older ones than the last but one go.

    Raises `StorageError` where it cannot be written. The checkpoints before it are left alone, and
    the new state is kept in a temporary folder if that is possible.
    """
    with _rescuing(run, snapshot):
        _write_checkpoint(run, snapshot)
    for old in _checkpoints(run.folder)[:-CHECKPOINTS_KEPT]:
        with suppress(OSError):  # one checkpoint too many does no harm
            old.unlink()


def save_teacher(run: Run, teacher: Teacher | None) -> None:
    """The teacher's parameters, so that the run can go on without the teacher's own folder."""
    if teacher is not None:
        arrays = {name: np.asarray(value) for name, value in teacher.params.items()}
        with _writable(run.folder):
            arrayfile.save(run.folder / TEACHER, arrays, {"activation": teacher.activation})


def load_teacher(run: Run) -> Teacher | None:
    """What `save_teacher` saved. Raises `CheckpointError` where it is damaged or gone."""
    if run.config.teacher is None:
        return None
    path = run.folder / TEACHER
    arrays, notes = arrayfile.load(path)
    with checked_notes(path):
        ACTIVATIONS[notes["activation"]]
    return Teacher(
        {name: jnp.asarray(value) for name, value in arrays.items()}, notes["activation"]
    )


def load_latest(folder: Path, notice: Any) -> tuple[Run, Snapshot]:
    """The run in `folder` and its latest whole state.

    A damaged checkpoint is named to `notice` and the one before it taken. Raises `CheckpointError`
    where the folder has none that is whole, and `UsageError` where the run has settings that this
    version does not know, or `config.json` others than the run.
    """
    paths = _checkpoints(folder)
    if not paths:
        raise CheckpointError(
            f"{folder}: not the folder of a run: it has no {CHECKPOINTS}/epoch-*.safetensors"
        )
    for path in reversed(paths):
        try:
            run, snapshot = _read_checkpoint(folder, path)
        except CheckpointError as error:
            notice(f"{error}; trying the checkpoint before it")
            continue
        _require_same_settings(folder / CONFIG, run.config)
        return run, snapshot
    raise CheckpointError(f"{folder}: none of its {len(paths)} checkpoints is whole")


def require_same_data(run: Run, dataset: Dataset) -> None:
    """Raises `UsageError` unless `dataset` is, byte for byte, the one that the run began with."""
    if dataset.fingerprint() != run.data["sha256"]:
        raise SettingError(
            f"`resume` {run.folder}: the run began on other data than {dataset.source}: expected "
            f"SHA-256 {run.data['sha256'][:12]}…, found {dataset.fingerprint()[:12]}…"
        )


def reopen(run: Run, snapshot: Snapshot) -> None:
    """Make the folder agree with the state that training goes on from.

    The state is saved once more, with the number of epochs now asked for, so that a run that is
    killed before its next checkpoint goes on to as many. The results of fewer epochs stay until
    `write_results` replaces them. Raises `UsageError` where the folder cannot be written.
    """
    lines = (json.dumps(record, allow_nan=False) + "\n" for record in snapshot.history)
    with _writable(run.folder, "resume"):
        _write_config(run)
        write_bytes(run.folder / HISTORY, "".join(lines).encode())
        _write_checkpoint(run, snapshot)


def is_complete(run: Run, snapshot: Snapshot) -> bool:
    """Whether nothing is left to do: no epoch, no result of all epochs and no report of it."""
    if len(snapshot.history) < run.config.epochs or not (run.folder / REPORT).exists():
        return False
    try:
        return bool(json.loads((run.folder / RESULT).read_bytes())["epochs"] == run.config.epochs)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def write_results(run: Run, params: Params, result: Mapping[str, Any], table: str) -> None:
    """The parameters, the table and, last of the three, the figures.

    The file of parameters says what they are and what came of them, under a checksum, but not in
    how many seconds or sittings: equal runs write equal files. A report of earlier results goes
    first, so that there is one of these results or none.
    """
    (run.folder / REPORT).unlink(missing_ok=True)
    notes = {
        "config": run.config.to_dict(),
        "data": run.data,
        "versions": run.versions,
        "result": {
            name: value
            for name, value in result.items()
            if "seconds" not in name and name != "resumed_after"
        },
    }
    arrays = {name: np.asarray(value) for name, value in params.items()}
    arrayfile.save(run.folder / PARAMETERS, arrays, notes)
    write_bytes(run.folder / TABLE, table.encode())
    write_json(run.folder / RESULT, result)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Only one process trains in a folder.

    Raises `UsageError` where another one does already, or the folder is no run's or read-only.
    """
    lock = FileLock(folder / ".lock")
    with _writable(folder, "resume"):
        if not folder.is_dir():
            found = "a file" if folder.exists() else "nothing of that name"
            raise UsageError(f"{folder}: expected the folder of a run, found {found}")
        if not (folder / CHECKPOINTS).is_dir():
            raise UsageError(
                f"{folder}: expected the folder of a run, found no {CHECKPOINTS}/ in it"
            )
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UsageError(f"{folder}: another process is training in this folder") from error
    try:
        yield
    finally:
        lock.release()


def beginning(folder: Path) -> dict[str, str]:
    """When a run began, by which command and on which device; an older run has no record of it."""
    try:
        found = json.loads((folder / CONFIG).read_bytes())["began"]
        return {name: str(found[name]) for name in ("date", "command", "device") if name in found}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _begin() -> dict[str, str]:
    device, typed = jax.devices()[0], command.typed()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        **({"command": typed} if typed else {}),
        "device": f"{device.platform} ({device.device_kind})",
    }


def _write_config(run: Run) -> None:
    """A run that is resumed began when it did."""
    notes = {"config": run.config.to_dict(), "data": run.data, "versions": run.versions}
    began = beginning(run.folder) or _begin()
    write_json(run.folder / CONFIG, {**notes, "began": began})


def _write_checkpoint(run: Run, snapshot: Snapshot) -> None:
    notes = {
        "config": run.config.to_dict(),
        "data": run.data,
        "versions": run.versions,
        "history": snapshot.history,
    }
    path = run.folder / CHECKPOINTS / f"epoch-{len(snapshot.history):06d}.safetensors"
    checkpoint.save(path, {"state": snapshot.state, "best": snapshot.best}, notes)


def _read_checkpoint(folder: Path, path: Path) -> tuple[Run, Snapshot]:
    arrays, notes = arrayfile.load(path)
    with checked_notes(path):
        run = described_by(folder, notes)
        history = _history(notes["history"], run.config)
        sizes = run.data["n_x"], run.data["n_classes"]
        state = state_shapes(run.config, *sizes)
        has_best = any(name.startswith("best/") for name in arrays)
        like = {"state": state, "best": state.params if has_best else None}
    restored = checkpoint.restore(path, arrays, like)
    return run, Snapshot(restored["state"], history, restored["best"])


@contextmanager
def checked_notes(path: Path) -> Iterator[None]:
    """What notes that make no sense raise within this block becomes a `CheckpointError`."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path}: not the notes of a run ({error!r:.200})") from error


def described_by(folder: Path, notes: Mapping[str, Any]) -> Run:
    """The run that a file's notes describe; raises what `checked_notes` expects."""
    _require_known(notes["config"], notes["versions"])
    try:
        config = Config.from_dict(notes["config"])
    except SettingError as error:
        raise CheckpointError(f"its notes make no sense: {error}") from error
    run = Run(folder, config, notes["data"], notes["versions"])
    texts = [run.data[name] for name in ("name", "argument", "sha256")]
    counts = [run.data["n_x"], run.data["n_classes"]]
    if not all(
        (
            all(type(text) is str for text in [*texts, *run.versions, *run.versions.values()]),
            all(type(count) is int and 0 < count < 2**31 for count in counts),
        )
    ):
        raise ValueError("names, sizes or versions that make no sense")
    return run


def _require_known(settings: Any, versions: Any) -> None:
    """Raises `UsageError` where settings have names that no `Config` has."""
    if strange := unknown(dict(settings)):
        raise UsageError(
            f"expected settings that jaxnn {jaxnn.__version__} knows, found "
            f"{', '.join(map(repr, strange)):.200}: go on with the version that began the run, "
            f"jaxnn {versions['jaxnn']:.40}, or begin a new one"
        )


def _require_same_settings(path: Path, config: Config) -> None:
    """Raises `UsageError` where a run's `config.json` has been changed; epochs may be added.

    The checkpoints are what counts: a file that is damaged or gone is written anew.
    """
    try:
        found = json.loads(path.read_bytes())
        settings, wrote = dict(found["config"]), found.get("versions", {}).get("jaxnn", "unknown")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    try:
        _require_known(settings, {"jaxnn": str(wrote)})
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    for name, value in config.to_dict().items():
        if name != "epochs" and name in settings and settings[name] != value:
            raise UsageError(
                f"{path}: expected {name} {value!r:.60} as the run began, found "
                f"{settings[name]!r:.60}: put it back, or begin a new run"
            )


def _history(records: Any, config: Config) -> tuple[Record, ...]:
    """One finite record for each epoch; raises what `checked_notes` expects."""
    held_out = "validation" if config.validation else "test"
    names = {"seconds", *(f"{s}_{m}" for s in ("train", held_out) for m in ("loss", "accuracy"))}
    for epoch, record in enumerate(records, 1):
        if record["epoch"] != epoch or not all(math.isfinite(record[name]) for name in names):
            raise ValueError(f"a record of epoch {epoch} expected, found {record!r:.60}")
    return tuple(records)


def epochs_saved(folder: Path) -> int:
    """By the name of the newest checkpoint; 0 where there is none."""
    numbers = [path.stem.removeprefix("epoch-") for path in _checkpoints(folder)]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / CHECKPOINTS).glob("epoch-*.safetensors"))


@contextmanager
def _rescuing(run: Run, snapshot: Snapshot) -> Iterator[None]:
    """An OSError within becomes a `StorageError` that says where the state is kept instead."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{run.folder}: cannot write epoch {len(snapshot.history)}: {error.strerror}; "
            + _rescue(run, snapshot)
        ) from error


def _rescue(run: Run, snapshot: Snapshot) -> str:
    """Keep a state that the run folder has no room for; how to go on, as the end of a sentence."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="jaxnn-rescued-"))
        (folder / CHECKPOINTS).mkdir()
        _write_checkpoint(run._replace(folder=folder), snapshot)
    except OSError as error:
        return (
            f"nor could it be kept elsewhere ({error.strerror}); the checkpoint before is untouched"
        )
    return f"it is kept in {folder}: go on with `resume` {folder}"


@contextmanager
def _writable(folder: Path, setting: str = "out") -> Iterator[None]:
    """An OSError within becomes a `UsageError`."""
    try:
        yield
    except OSError as error:
        raise SettingError(f"`{setting}` {folder}: cannot write there: {error.strerror}") from error


def _unused(name: str) -> Path:
    names = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
    return next(path for path in map(Path("runs").joinpath, names) if not path.exists())
