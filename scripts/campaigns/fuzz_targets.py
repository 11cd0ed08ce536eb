"""What `fuzz.py` tries: every reader, with honest files and with what lies behind checksums."""

import gzip
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxnn.errors import DataError


class Target(NamedTuple):
    """How a reader is tried.

    `seeds` are honest inputs; `place` makes files of an input in a folder, or raises ValueError
    where the input can be no such file; `read` returns what the reader makes of the folder. Of
    an input that begins with `checked` that must be what it makes of the first seed; of the first
    seed with a single change, where `one_change_checked`.
    """

    seeds: Sequence[bytes]
    place: Callable[[Path, bytes], object]
    read: Callable[[Path], Any]
    checked: bytes | None = None
    one_change_checked: bool = False


def arrays() -> dict[str, Any]:
    """A data set of 12 training and 7 test images of 3×5 pixels, 3 classes."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = {
        name: rng.integers(0, 256, (n, 3, 5), np.uint8) for name, n in (("train", 12), ("test", 7))
    }
    y = {name: (np.arange(len(images)) % 3).astype(np.uint8) for name, images in x.items()}
    return {f"{a}_{part}": v[part] for part in ("train", "test") for a, v in (("x", x), ("y", y))}


def fingerprint(name: str, folder: Path) -> str:
    from jaxnn import data

    return data.load(str(folder / name)).fingerprint()


def write(name: str, folder: Path, content: bytes) -> None:
    """A new file each time: a library may still hold the one before it."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(content)


def idx_bytes(array: Any) -> bytes:
    header = b"".join(number.to_bytes(4) for number in (0x800 + array.ndim, *array.shape))
    return header + bytes(array.tobytes())


def idx(name: str, gzipped: bool) -> Target:
    """One of the four files is mutated: as it is, in a gzip file of its own, or gzipped."""
    honest = {field: idx_bytes(array) for field, array in arrays().items()}
    files = {
        "x_train": "train-images-idx3-ubyte",
        "y_train": "train-labels-idx1-ubyte",
        "x_test": "t10k-images-idx3-ubyte",
        "y_test": "t10k-labels-idx1-ubyte",
    }

    def place(folder: Path, content: bytes) -> None:
        for field, whole in honest.items():
            write(files[field], folder, whole)
        if gzipped:
            (folder / files[name]).unlink()
            write(f"{files[name]}.gz", folder, content)
        else:
            write(files[name], folder, content)

    seed = gzip.compress(honest[name], mtime=0) if gzipped else honest[name]
    return Target([seed], place, partial(fingerprint, "."), b"\x1f\x8b" if gzipped else None)


def npz(compressed: bool) -> Target:
    import numpy as np

    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays())
    seed = file.getvalue()
    return Target([seed], partial(write, "a.npz"), partial(fingerprint, "a.npz"), b"PK\3\4")


def npz_member(name: str) -> Target:
    """What lies behind the checksum: an .npy file in an honest archive."""
    import numpy as np

    honest = {}
    for field, array in arrays().items():
        file = io.BytesIO()
        np.save(file, array)
        honest[field] = file.getvalue()

    def place(folder: Path, content: bytes) -> None:
        with zipfile.ZipFile(folder / "a.npz", "w") as archive:
            for field, whole in honest.items():
                archive.writestr(f"{field}.npy", content if field == name else whole)

    return Target([honest[name]], place, partial(fingerprint, "a.npz"))


def npy_files() -> Target:
    """One of four .npy files in a folder."""
    import numpy as np

    honest = {}
    for field, array in arrays().items():
        file = io.BytesIO()
        np.save(file, array)
        honest[f"{field}.npy"] = file.getvalue()

    def place(folder: Path, content: bytes) -> None:
        for name, whole in honest.items():
            write(name, folder, content if name == "x_test.npy" else whole)

    return Target([honest["x_test.npy"]], place, partial(fingerprint, "."))


def csv(header: bool) -> Target:
    """A table of whole numbers with a header, or of fractions and words without one."""
    lines = ["label,pixel0,pixel1,pixel2"] if header else []
    for i in range(12):
        cells = (str(i % 3), i, 7 * i, 255) if header else ("abc"[i % 3], i / 3, -i, "1e2")
        lines.append(",".join(map(str, cells)))
    seed = ("\n".join(lines) + "\n").encode()
    return Target([seed], partial(write, "a.csv"), partial(fingerprint, "a.csv"))


def matlab(version_73: bool) -> Target:
    import h5py
    from scipy.io import savemat

    from jaxnn.data import hdf5 as reader

    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "a.mat")
        if version_73:
            with h5py.File(path, "w", userblock_size=512) as file:
                for name, array in arrays().items():
                    file[name] = array.T
            content = path.read_bytes()
            seed = b"MATLAB 7.3 MAT-file".ljust(128) + content[128:]
        else:
            savemat(path, arrays())
            seed = path.read_bytes()
    library = shared_library()
    reader.Library = lambda: library  # type: ignore[assignment,misc]
    return Target([seed], partial(write, "a.mat"), partial(fingerprint, "a.mat"))


def parquet() -> Target:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    cells = []
    for pixels in arrays()["x_train"]:
        picture = io.BytesIO()
        Image.fromarray(pixels).save(picture, "PNG")
        cells.append({"bytes": picture.getvalue()})
    file = io.BytesIO()
    pq.write_table(pa.table({"image": cells, "label": arrays()["y_train"]}), file)
    seed = file.getvalue()
    return Target([seed], partial(write, "a.parquet"), partial(fingerprint, "a.parquet"))


def libsvm() -> Target:
    lines = [f"{i % 3} 1:{i / 4} 3:-{i}.5 5:2" for i in range(12)]
    seed = ("\n".join(lines) + "\n").encode()
    return Target([seed], partial(write, "a.libsvm"), partial(fingerprint, "a.libsvm"))


def folder_of_pictures() -> Target:
    """One picture among those of three classes."""
    from PIL import Image

    def png(pixels: Any) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    honest = [png(pixels) for pixels in arrays()["x_train"]]

    def place(folder: Path, content: bytes) -> None:
        for number, whole in enumerate(honest):
            (folder / "a" / f"class {number % 3}").mkdir(parents=True, exist_ok=True)
            write(f"a/class {number % 3}/{number}.png", folder, content if number == 5 else whole)

    return Target([honest[5]], place, partial(fingerprint, "a"))


def hdf5(compressed: bool) -> Target:
    """The library stays in a process of its own, but in one for many files."""
    import h5py

    from jaxnn.data import hdf5 as reader

    def written(libver: str) -> bytes:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place, "a.hdf5")
            with h5py.File(path, "w", libver=libver) as honest:
                for name, array in arrays().items():
                    rows = array.reshape(len(array), -1)
                    how = {"chunks": rows.shape, "compression": "gzip"} if compressed else {}
                    honest.create_dataset(name, data=rows, **how)
            return path.read_bytes()

    seeds = [written(libver) for libver in ("latest", "earliest")]
    library = shared_library()
    reader.Library = lambda: library  # type: ignore[assignment,misc]
    read = partial(fingerprint, "a.hdf5")
    return Target(seeds, partial(write, "a.hdf5"), read, one_change_checked=compressed)


def shared_library() -> Any:
    """The HDF5 library's process for one file after the other. A damaged file can leak memory, of
    which the process has 4 GiB: it is another one after many files."""
    from jaxnn.data.hdf5 import Library

    class Shared(Library):
        FILES = 20_000
        files = 0

        def listed(self, path: Path) -> Any:
            self.files += 1
            if self.files % self.FILES == 0:
                self.end()
            return super().listed(path)

    return Shared()


def parameters() -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Arrays and notes, as the folder of a finished run has them."""
    import numpy as np

    from jaxnn.runs.trained import FIGURES

    a = {"W1": (3, 4), "b1": (3,), "W2": (2, 3), "b2": (2,)}
    notes = {
        "config": {"lr": 0.5, "epochs": 1, "n_h": [3], "activation": "tanh", "patience": None},
        "data": {
            "name": "a",
            "argument": "a",
            "sha256": "0",
            "n_x": 4,
            "n_classes": 2,
            "frame": {"shape": [2, 2], "box": [2, 2], "centre": [0.5, 0.5]},
        },
        "versions": {"jax": "0"},
        "result": {"epochs": 1, **dict.fromkeys(FIGURES, 0.5)},
    }
    return {name: np.ones(shape, np.float32) for name, shape in a.items()}, notes


def safetensors() -> Target:
    """The file of a finished run, as it is: a SHA-256 covers it."""
    from jaxnn.io import arrayfile
    from jaxnn.runs.layout import PARAMETERS

    with tempfile.TemporaryDirectory() as place:
        arrayfile.save(Path(place, PARAMETERS), *parameters())
        seed = Path(place, PARAMETERS).read_bytes()

    def read(folder: Path) -> Any:
        found, notes = arrayfile.load(folder / PARAMETERS)
        return sorted((k, v.dtype, v.shape, v.tobytes()) for k, v in found.items()), notes

    return Target([seed], partial(write, PARAMETERS), read, b"")


def run_notes() -> Target:
    """What lies behind the checksum of a finished run: its notes, as JSON."""
    from jaxnn.io import arrayfile
    from jaxnn.runs import trained
    from jaxnn.runs.layout import PARAMETERS

    values, notes = parameters()

    def place(folder: Path, content: bytes) -> None:
        arrayfile.save(folder / PARAMETERS, values, json_of(content))

    def read(folder: Path) -> Any:
        network = trained.load(folder, lambda line: None)
        return network.run.config, network.frame, network.result

    return Target([json.dumps(notes).encode()], place, read)


def checkpoint_notes() -> Target:
    """The same of a run that goes on."""
    from jaxnn import data
    from jaxnn.io import arrayfile
    from jaxnn.runs import layout, run_folder
    from jaxnn.training.config import Config
    from jaxnn.training.loop import Snapshot, start

    record = {f"{s}_{m}": 0.5 for s in ("train", "test") for m in ("loss", "accuracy")}
    config = Config(epochs=2, n_h=(3,))
    progress = Snapshot(start(config, 64, 10).state, ({"epoch": 1, **record, "seconds": 0.1},))
    with tempfile.TemporaryDirectory() as place:
        run = run_folder.create(place, config, run_folder.describe(data.load("digits"), "digits"))
        run_folder.save_epoch(run, progress)
        (path,) = Path(place, layout.CHECKPOINTS).iterdir()
        values, notes = arrayfile.load(path)
        name = path.name

    def put(folder: Path, content: bytes) -> None:
        (folder / layout.CHECKPOINTS).mkdir(exist_ok=True)
        arrayfile.save(folder / layout.CHECKPOINTS / name, values, json_of(content))

    def read(folder: Path) -> Any:
        return run_folder.load_latest(folder, lambda line: None)[0].config

    return Target([json.dumps(notes).encode()], put, read)


def json_of(content: bytes) -> Any:
    """Raises ValueError where that is no JSON that could have been written."""
    try:
        value = json.loads(content)
        json.dumps(value, allow_nan=False).encode()
    except RecursionError as error:
        raise ValueError from error
    return value


def result() -> Target:
    """The only JSON that is read without a checksum: evaluate.py compares `result.json`."""
    from jaxnn.commands.evaluate import agrees

    recorded = parameters()[1]["result"]
    seed = json.dumps(recorded, indent=2).encode()
    read = lambda folder: agrees(folder / "result.json", recorded)  # noqa: E731
    return Target([seed], partial(write, "result.json"), read)


def image(form: str, checked: bytes | None = None) -> Target:
    import numpy as np
    from PIL import Image

    from jaxnn.data import framing
    from jaxnn.data import pictures as images
    from jaxnn.data.look import Look

    pixels = (np.arange(48).reshape(6, 8) * 5).astype(np.uint8)
    file = io.BytesIO()
    if form == "NPY":
        np.save(file, pixels)
    elif form == "CSV":
        np.savetxt(file, pixels, fmt="%d", delimiter=",")
    else:
        Image.fromarray(pixels).save(file, form)

    def read(folder: Path) -> Any:
        frame = framing.like_mnist(pixels.shape)
        pictures = images.read(folder / "image", frame.shape, Look("uint8", 1 / 255))
        for picture in pictures:
            assert picture.as_it_is is None or np.isfinite(picture.as_it_is).all()
        seen = [picture.grey for picture in pictures]
        for grey in seen:
            with suppress(DataError):  # no ink
                assert np.isfinite(framing.prepare(grey, frame)).all()
        return [(grey.shape, grey.tobytes()) for grey in seen]

    return Target([file.getvalue()], partial(write, "image"), read, checked)


TARGETS: dict[str, Callable[[], Target]] = {
    "idx": partial(idx, "x_train", gzipped=False),
    "idx-labels": partial(idx, "y_train", gzipped=False),
    "idx-gzip": partial(idx, "x_train", gzipped=True),
    "npz": partial(npz, compressed=True),
    "npz-stored": partial(npz, compressed=False),
    "npz-member": partial(npz_member, "y_test"),
    "hdf5": partial(hdf5, compressed=False),
    "hdf5-gzip": partial(hdf5, compressed=True),
    "safetensors": safetensors,
    "run-notes": run_notes,
    "checkpoint": checkpoint_notes,
    "result-json": result,
    "npy": npy_files,
    "csv": partial(csv, header=True),
    "csv-words": partial(csv, header=False),
    "matlab-v5": partial(matlab, version_73=False),
    "matlab-v7.3": partial(matlab, version_73=True),
    "parquet": parquet,
    "libsvm": libsvm,
    "folder": folder_of_pictures,
    "png": partial(image, "PNG", b"\x89PNG"),
    "jpeg": partial(image, "JPEG"),
    "picture-csv": partial(image, "CSV"),
    "picture-npy": partial(image, "NPY"),
}
