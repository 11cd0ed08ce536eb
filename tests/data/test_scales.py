"""What is white, and what the labels are: taken from the training part, and said."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from jaxnn.data import DataError, load
from jaxnn.data.pixels import in_unit
from jaxnn.report import console
from jaxnn.runs.metrics import classification_report
from jaxnn.training import data_parallel
from jaxnn.training.config import Config

from .. import shell, small, trained_run
from ..data_files import arrays, with_images, write_hdf5, write_npz

#: Images of bytes from 0 to 255, in other scales: what is white, and the largest stored number.
SCALES = {
    "0 to 16 in whole floats": (lambda x: np.rint(x / 255 * 16), 16),
    "0 to 16 in bytes": (lambda x: np.rint(x / 255 * 16).astype(np.uint8), 16),
    "0 to 16 in floats": (lambda x: x / 255 * 16, 16),
    "0 to 100 in int64": (lambda x: np.rint(x / 2.55).astype(np.int64), 100),
    "0 to 2.55": (lambda x: x / 100, 2.55),
    "divided by 255 twice": (lambda x: x / 255**2, 1 / 255),
    "fractions to 255": (lambda x: np.sqrt(x / 255) * 255, 255),
    "fractions to 1": (lambda x: np.sqrt(x / 255), 1),
    "10 bits": (lambda x: np.rint(x / 255 * 1023).astype(np.uint16), 1023),
    "16 bits": (lambda x: x.astype(np.uint16) * 257, 65_535),
    "16 bits in floats": (lambda x: x * 257.0, 65_535),
    "not quite 255": (lambda x: np.minimum(x, 250), 255),
    "not quite 1": (lambda x: np.minimum(np.sqrt(x / 255), 0.97), 1),
}


@pytest.mark.parametrize("case", SCALES)
@pytest.mark.parametrize(("write", "suffix"), [(write_npz, "npz"), (write_hdf5, "hdf5")])
def test_white_is_the_training_parts(tmp_path, write, suffix, case):
    change, white = SCALES[case]
    dataset = load(str(write(tmp_path / f"set.{suffix}", with_images(change))))
    expected = change(arrays()["x_train"]).reshape(len(dataset.x_train), -1) / white
    np.testing.assert_allclose(dataset.x_train * dataset.scale, expected, rtol=1e-6)
    said = () if white in (1, 255, 65_535) else (f"white is {white:g}",)
    assert [remark.split(",")[0] for remark in dataset.remarks] == list(said)


def test_the_digits_as_scikit_learn_gives_them(tmp_path):
    digits = trained_run.digits()
    a = {n: getattr(digits, n) for n in ("x_train", "y_train", "x_test", "y_test")}
    a |= {n: a[n].astype(np.float64) for n in ("x_train", "x_test")}
    dataset = load(str(write_npz(tmp_path / "set.npz", a)))
    assert dataset.fingerprint() == digits.fingerprint()
    assert dataset.origin.endswith("; white is 16, the largest value of the training part")


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_zeros_and_ones_are_black_and_white(tmp_path, dtype):
    a = with_images(lambda x: (x > 127).astype(dtype))
    dataset = load(str(write_npz(tmp_path / "set.npz", a)))
    white = load(str(write_npz(tmp_path / "white.npz", with_images(lambda x: (x > 127) * 255))))
    np.testing.assert_array_equal(
        dataset.x_train * dataset.scale, a["x_train"].reshape(len(a["x_train"]), -1)
    )
    assert dataset.fingerprint() == white.fingerprint()
    assert dataset.remarks == ()


@pytest.mark.parametrize(
    ("train", "test"), [(1, 1 / 255), (1 / 255, 1), (1, 16 / 255), (16 / 255, 1), (1, 0.39)]
)
@pytest.mark.parametrize("kind", [np.rint, np.float32], ids=["whole", "fractions"])
def test_parts_on_two_scales_are_refused(tmp_path, train, test, kind):
    a = arrays()
    a |= {"x_train": kind(a["x_train"] * train), "x_test": kind(a["x_test"] * test)}
    with pytest.raises(DataError, match=r"x_test: the scale .* found values up to .* one scale"):
        load(str(write_npz(tmp_path / "set.npz", a)))


def test_whole_bytes_beside_fractions_are_refused(tmp_path):
    a = arrays() | {"x_train": np.sqrt(arrays()["x_train"] / 255)}
    a["x_test"] = a["x_test"].astype(np.float64)
    with pytest.raises(DataError, match="which reaches 1, found values up to 255"):
        load(str(write_npz(tmp_path / "set.npz", a)))


def test_a_test_part_beyond_white_is_said(tmp_path):
    a = with_images(lambda x: np.rint(x / 255 * 16))
    a["x_test"][0, 0, 0] = 20
    dataset = load(str(write_npz(tmp_path / "set.npz", a)))
    assert dataset.scale == 1 / 16
    assert dataset.remarks[1] == "the test part goes beyond white, up to 20"


@pytest.mark.parametrize("case", SCALES)
@pytest.mark.parametrize("one_by_one", [False, True])
def test_in_unit_gives_what_the_network_was_trained_on(tmp_path, case, one_by_one):
    """To the bit, also of a single dim image."""
    a = with_images(SCALES[case][0])
    a["x_test"][1:] = a["x_test"][1:] // 2 if a["x_test"].dtype.kind != "f" else a["x_test"][1:] / 2
    dataset = load(str(write_npz(tmp_path / "set.npz", a)))
    expected = dataset.x_test.astype(np.float32) * np.float32(dataset.scale)
    given = a["x_test"].reshape(len(expected), -1)
    parts = given if one_by_one else [given]
    found = [in_unit(x, dataset.x_train.dtype.name, dataset.scale) for x in parts]
    np.testing.assert_array_equal(np.concatenate(found, axis=None), expected.ravel())


@pytest.mark.parametrize("scale", [1 / 255, 1 / 16, 1.0])
def test_in_unit_takes_other_notations_for_what_they_are(scale):
    dtype = "float32" if scale == 1 else "uint8"
    expected = np.array([0, 0.2, 0.8, 1], np.float32)
    for values in (
        expected,
        (255 * expected).round().astype(np.uint8),
        255 * expected,
        (65_535 * expected).round().astype(np.uint16),
    ):
        np.testing.assert_allclose(in_unit(values, dtype, scale), expected, atol=1e-6)
    drawn = np.array([0, 1, 1, 0])
    for kind in (np.bool_, np.uint8, np.float32):
        np.testing.assert_array_equal(in_unit(drawn.astype(kind), dtype, scale), drawn)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, 1e6])
def test_in_unit_knows_no_other_scale(value):
    assert in_unit(np.array([0, 0.5, value]), "uint8", 1 / 255) is None


class TestLabels:
    @pytest.mark.parametrize("start", [-1, 1, 2**40])
    def test_they_count_from_any_start(self, tmp_path, start):
        a = arrays()
        a |= {n: a[n].astype(np.int64) + start for n in ("y_train", "y_test")}
        dataset = load(str(write_npz(tmp_path / "set.npz", a)))
        assert dataset.class_names == tuple(str(start + k) for k in range(3))
        np.testing.assert_array_equal(dataset.y_train, arrays()["y_train"])
        assert dataset.remarks == ()

    def test_parts_that_count_from_different_numbers(self, tmp_path):
        a = arrays() | {"y_train": arrays()["y_train"] + 1}
        with pytest.raises(DataError, match=r"y_test: .*expected \(1, 2, 3\), found 0, of which"):
            load(str(write_npz(tmp_path / "set.npz", a)))

    def test_a_class_that_only_the_test_part_has_is_said(self, tmp_path):
        a = arrays()
        a["y_train"] = np.where(a["y_train"] == 1, 0, a["y_train"])
        (remark,) = load(str(write_npz(tmp_path / "set.npz", a))).remarks
        assert remark == "no training example of class 1, of which the test part has some"

    def test_averages_are_over_classes_that_occur(self):
        truth, predicted = np.array([1, 1, 2, 2]), np.array([1, 1, 2, 1])
        counted_from_0 = classification_report(truth - 1, predicted - 1, 2)
        counted_from_1 = classification_report(truth, predicted, 3)
        for average in ("macro avg", "weighted avg"):
            assert counted_from_1[average] == counted_from_0[average]
        assert counted_from_1["0"]["support"] == 0


def test_the_line_of_the_data_says_it(capsys):
    dataset = replace(small.dataset(), remarks=("white is 16", "labels 1 to 5"))
    console.summary(dataset, Config(), data_parallel.mesh(1))
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("data      small: ")
    assert first.endswith("; white is 16; labels 1 to 5")


class TestEvaluate:
    """Other data of the scale of a run, whose own white is another."""

    @pytest.fixture
    def evaluated(self, tmp_path, monkeypatch, capsys):
        def evaluated(change):
            folder = trained_run.finished(tmp_path / "run")
            digits = trained_run.digits()
            a = {n: getattr(digits, n) for n in ("y_train", "y_test")}
            a |= {n: change(getattr(digits, n)) for n in ("x_train", "x_test")}
            path = write_npz(tmp_path / "other.npz", a)
            return shell.here(monkeypatch, capsys, "evaluate", folder, "--data", path)

        return evaluated

    def test_the_runs_scale_is_used(self, evaluated):
        """A dimmer copy is not made brighter."""
        outcome = evaluated(lambda x: np.where(x > 11, 11, x).astype(np.float32))
        assert outcome.status == 0
        assert "white is 16, as in the run" in outcome.out

    @pytest.mark.parametrize("white", [1, 255, 65_535])
    def test_another_notation_keeps_its_own(self, tmp_path, evaluated, white):
        """The digits in other numbers are the same digits: the accuracy is the run's."""
        outcome = evaluated(lambda x: x.astype(np.float64) / 16 * white)
        (accuracy,) = re.findall(r"test accuracy ([\d.]+%) on", outcome.out)
        assert "as in the run" not in outcome.out
        recorded = json.loads((tmp_path / "run" / "result.json").read_text())
        assert accuracy == f"{recorded['test_accuracy']:.2%}"
