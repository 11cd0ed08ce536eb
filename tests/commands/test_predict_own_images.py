"""`scripts/predict.py` on a run's own test images answers as the run's network did, every one."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxnn import data
from jaxnn.data import look
from jaxnn.io import arrayfile
from jaxnn.report import console
from jaxnn.runs import results, run_folder, trained
from jaxnn.training.config import Config
from jaxnn.training.loop import train_epochs

from .. import shell, trained_run
from ..data_files import write_npz

CONFIG = Config(epochs=4, batch_size=16, n_h=(24,))


def digits(change):
    """The embedded digits, 0 to 16 and ink bright, in another form: 600 and 120 of them."""
    d = trained_run.digits()
    n = {"train": 600, "test": 120}
    x = {f"x_{p}": change(getattr(d, f"x_{p}")[: n[p]].reshape(-1, 8, 8)) for p in n}
    return x | {f"y_{p}": getattr(d, f"y_{p}")[: n[p]] for p in n}


def as_bytes(x):
    return np.rint(x / 16 * 255).astype(np.uint8)


def bars(x):
    """Shapes from border to border: a bar whose place is the class; the last fills the image."""
    rng = np.random.default_rng(len(x))
    d = trained_run.digits()
    y = (d.y_train if len(x) == 600 else d.y_test)[: len(x)]
    image = rng.integers(0, 40, (len(x), 9, 12)).astype(np.uint8)
    for row, label in zip(image, y, strict=True):
        row[slice(0, 9) if label == 9 else label] = 255
        row[:, 0] = np.maximum(row[:, 0], 100)
    return image


SETS = {
    "bright on dark": as_bytes,
    "dark on light": lambda x: 255 - as_bytes(x),
    "grey on grey": lambda x: (180 - as_bytes(x) // 2).astype(np.uint8),
    "tall": lambda x: np.pad(as_bytes(x), ((0, 0), (3, 1), (0, 0))),
    "wide and dark on light": lambda x: 255 - np.pad(as_bytes(x), ((0, 0), (0, 0), (1, 5))),
    "framed off centre": lambda x: np.pad(as_bytes(x), ((0, 0), (0, 6), (0, 6))),
    "touching the border": bars,
    "turned": lambda x: as_bytes(x).transpose(0, 2, 1),
    "whole floats to 16": lambda x: x.astype(np.float64),
    "fractions": lambda x: x.astype(np.float32) / 16,
    "fractions to 100": lambda x: np.sqrt(x / 16) * 100,
    "16 bits": lambda x: x.astype(np.uint16) * 4095,
    "zeros and ones": lambda x: (x > 7).astype(np.int64),
    "a single channel": lambda x: as_bytes(x)[..., None],
}


def finished(folder, path):
    """A short run on the data in that file."""
    dataset = data.load(str(path))
    run = run_folder.create(str(folder), CONFIG, run_folder.describe(dataset, str(path)))
    *_, progress = train_epochs(dataset, CONFIG)
    test = results.test(dataset, CONFIG, progress.eval_params)
    classes = results.report(dataset, test)
    result = results.figures(dataset, CONFIG, progress, test, classes)
    run_folder.write_results(
        run, progress.eval_params, result, console.table(classes, test.accuracy)
    )
    return test


@pytest.fixture(scope="module")
def run_on(tmp_path_factory):
    """The folder of a run on one of the sets, its evaluation, and the arrays, made once."""
    made = {}

    def run_on(name):
        if name not in made:
            folder, arrays = tmp_path_factory.mktemp("own"), digits(SETS[name])
            test = finished(folder / "run", write_npz(folder / "set.npz", arrays))
            made[name] = folder / "run", test, arrays
        return made[name]

    return run_on


@pytest.fixture
def predict(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def predict(run, *argv):
        outcome = shell.here(monkeypatch, capsys, "predict", run, *argv, "--json")
        return outcome, json.loads(outcome.out)

    return predict


def write_npy(x, n_x):
    np.save("own.npy", x)
    return ["own.npy"]


def write_rows(x, n_x):
    np.savetxt("own.csv", x.reshape(len(x), n_x), fmt="%.9g", delimiter=",")
    return ["own.csv"]


def write_tables(x, n_x):
    names = [f"{i:03}.csv" for i in range(len(x))]
    for name, image in zip(names, x, strict=True):
        np.savetxt(name, image.reshape(image.shape[:2]), fmt="%.9g", delimiter=",")
    return names


def write_png(mode):
    def write(x, n_x):
        names = [f"{i:03}.png" for i in range(len(x))]
        for name, image in zip(names, x.reshape(x.shape[:3]), strict=True):
            Image.fromarray(image).convert(mode).save(name)
        return names

    return write


CASES = [
    *((name, write) for name in SETS for write in (write_npy, write_rows, write_tables)),
    *((name, write_png("L")) for name in SETS if SETS[name](np.ones((600, 8, 8))).dtype == "u1"),
    *(("dark on light", write_png(mode)) for mode in ("RGB", "RGBA", "LA", "P")),
]


@pytest.mark.sampled(14)
@pytest.mark.parametrize(("name", "write"), CASES)
def test_every_answer_is_the_networks_own(run_on, predict, name, write):
    run, test, arrays = run_on(name)
    n_x = int(np.prod(arrays["x_test"].shape[1:3]))
    outcome, answers = predict(run, *write(arrays["x_test"], n_x))
    assert (outcome.status, outcome.err) == (0, "")
    found = np.array([answer["digit"] for answer in answers])
    np.testing.assert_array_equal(found, np.asarray(test.logits).argmax(axis=1))
    assert (found == arrays["y_test"]).mean() == test.accuracy > 0.3


def test_a_drawing_of_another_size_comes_out_dark_on_light_too(run_on, predict):
    """The paper and the ink are those of the training images, in every make of drawing."""
    run, test, arrays = run_on("dark on light")
    x = arrays["x_test"][:40]
    large = np.pad(
        np.kron(x, np.ones((1, 20, 20), np.uint8)), ((0, 0), *((40, 40),) * 2), constant_values=255
    )
    for name, drawings in {"same": large, "other": 255 - large}.items():
        np.save(f"{name}.npy", drawings)
        outcome, answers = predict(run, f"{name}.npy")
        assert outcome.err == ""
        assert (
            np.mean([a["digit"] for a in answers] == arrays["y_test"][:40]) >= 0.9 * test.accuracy
        )


class TestAnotherPaper:
    """A drawing of the training images' size, but dark on light where they are light on dark."""

    @pytest.fixture
    def run(self, run_on):
        _, _, arrays = run_on("framed off centre")
        np.save("inverted.npy", 255 - arrays["x_test"][:20])
        return run_on("framed off centre")[0], arrays["y_test"][:20]

    def test_is_noticed_in_one_line(self, predict, run):
        outcome, _ = predict(run[0], "inverted.npy")
        assert outcome.err.startswith(
            "inverted.npy: 20 of 20 pictures: another paper than that of the training images"
        )
        assert "--prepare" in outcome.err
        assert len(outcome.err.splitlines()) == 1

    def test_prepare_reads_it(self, predict, run):
        outcome, answers = predict(run[0], "inverted.npy", "--prepare")
        assert outcome.err == ""
        assert np.mean([a["digit"] for a in answers] == run[1]) >= 0.6


class TestBlank:
    def test_is_refused_where_no_training_image_is(self, run_on, predict):
        np.save("blank.npy", np.zeros((8, 8), np.uint8))
        outcome, answers = predict(run_on("bright on dark")[0], "blank.npy")
        assert (outcome.status, answers) == (2, [])
        assert "no ink: every pixel is 0" in outcome.err

    def test_is_taken_as_it_is_where_a_training_image_is(self, run_on, predict):
        run, _, _ = run_on("touching the border")
        assert trained.load(run, pytest.fail).look.blank
        np.save("full.npy", np.full((9, 12), 255, np.uint8))
        outcome, (answer,) = predict(run, "full.npy")
        assert (outcome.status, answer["digit"]) == (0, 9)


def test_a_run_without_a_record_still_reads_drawings(run_on, predict, tmp_path):
    run, _, arrays = run_on("bright on dark")
    path = tmp_path / "old"
    path.mkdir()
    parameters, notes = arrayfile.load(run / "parameters.safetensors")
    del notes["data"]["look"]
    arrayfile.save(path / "parameters.safetensors", parameters, notes)
    np.save("own.npy", arrays["x_test"][:40])
    outcome, answers = predict(path, "own.npy")
    assert (outcome.status, outcome.err) == (0, "")
    assert np.mean([a["digit"] for a in answers] == arrays["y_test"][:40]) >= 0.6


class TestLook:
    def test_of_the_digits(self):
        found = look.of_dataset(trained_run.digits())
        assert (found.dtype, found.scale, found.paper, found.ink) == ("uint8", 1 / 16, 0, 1)
        assert not found.is_dark_on_light
        assert not found.blank

    def test_survives_json(self):
        found = look.of_dataset(trained_run.digits())
        assert look.Look.from_dict(json.loads(json.dumps(found.to_dict()))) == found

    @pytest.mark.parametrize(
        "change",
        [
            {"dtype": "int8"}, {"scale": 0}, {"scale": float("inf")}, {"paper": None},
            {"borders": [1]}, {"blank": 3}, {"ink": float("nan")},
        ],
    )  # fmt: skip
    def test_nonsense_is_noticed(self, change):
        values = look.Look("uint8", 1 / 255).to_dict() | change
        with pytest.raises((KeyError, TypeError, ValueError)):
            look.Look.from_dict(values)
