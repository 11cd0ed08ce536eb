"""`scripts/predict.py` on tables, on pictures in colour and on features; classes by their names."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnn import data
from jaxnn.report import console
from jaxnn.runs import results, run_folder
from jaxnn.training.config import Config
from jaxnn.training.loop import train_epochs

from .. import shell, trained_run

CONFIG = Config(epochs=8, batch_size=16, n_h=(24,), lr=0.3)

#: Of the digits 0 … 9, in an order of their own.
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def finished(folder, path, **reading):
    """A short run on those data, and its own answers to their test part."""
    config = Config(**{**CONFIG.to_dict(), **reading})
    dataset = data.load(str(path), **config.reading())
    run = run_folder.create(
        str(folder), config, run_folder.describe(dataset, str(path), config.reading())
    )
    *_, snapshot = train_epochs(dataset, config)
    test = results.test(dataset, config, snapshot.eval_params)
    classes = results.report(dataset, test)
    table = console.table(classes, test.accuracy)
    result = results.figures(dataset, config, snapshot, test, classes)
    run_folder.write_results(run, snapshot.eval_params, result, table)
    return dataset, np.asarray(test.logits).argmax(axis=1), table


def rows(x, y=None, number=None, header=True):
    """A table of pixels, with labels or without."""
    x = x.reshape(len(x), -1)
    columns = [f"pixel{i}" for i in range(x.shape[1])]
    columns = (["Id"] if number is not None else []) + ([] if y is None else ["label"]) + columns
    lines = [columns] if header else []
    for i, row in enumerate(x):
        first = ([number + i] if number is not None else []) + ([] if y is None else [y[i]])
        lines.append([*first, *row])
    return "\n".join(",".join(map(str, line)) for line in lines) + "\n"


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory):
    """A folder with train.csv, a run on it, and the test pictures as the run knows them."""
    place = tmp_path_factory.mktemp("kaggle")
    d = trained_run.digits()
    labels = [NAMES[y] for y in d.y_train[:500]]
    (place / "train.csv").write_text(rows(d.x_train[:500], labels))
    dataset, answers, table = finished(place / "run", place)
    return place, dataset, answers, table


@pytest.fixture
def predict(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def predict(run, *argv):
        return shell.here(monkeypatch, capsys, "predict", run, *argv)

    return predict


def classes_of(outcome):
    assert (outcome.status, outcome.err) == (0, "")
    return [answer["class"] for answer in json.loads(outcome.out)]


class TestTable:
    @pytest.mark.parametrize("labelled", [False, True])
    @pytest.mark.parametrize("number", [None, 7])
    @pytest.mark.parametrize("header", [True, False])
    def test_every_answer_is_the_networks_own(self, kaggle, predict, labelled, number, header):
        place, dataset, answers, _ = kaggle
        if not header and (number is not None or labelled):
            number, labelled = None, True
        y = [dataset.class_names[c] for c in dataset.y_test] if labelled else None
        Path("test.csv").write_text(rows(dataset.x_test, y, number, header))
        found = classes_of(predict(place / "run", "test.csv", "--json"))
        assert found == [dataset.class_names[c] for c in answers]

    def test_the_classes_have_their_names_everywhere(self, kaggle, predict):
        place, dataset, answers, table = kaggle
        assert sorted(dataset.class_names) == sorted(NAMES)
        found = [line.split()[0] for line in table.splitlines() if line.split()]
        assert [name for name in NAMES if name not in found] == []
        np.save("one.npy", dataset.x_test[:1].reshape(1, 8, 8))
        shown = predict(place / "run", "one.npy").out
        assert dataset.class_names[answers[0]] in shown
        assert "class" in shown.splitlines()[0]

    def test_a_table_of_other_columns_is_refused(self, kaggle, predict):
        Path("test.csv").write_text(rows(np.ones((3, 9), int)))
        outcome = predict(kaggle[0] / "run", "test.csv")
        assert outcome.status == 2
        assert outcome.err == (
            "error: test.csv: 64 inputs per row expected as the network has, found 9\n"
        )


class TestSubmission:
    @pytest.fixture
    def submitted(self, kaggle, predict):
        place, dataset, answers, _ = kaggle

        def submitted(**how):
            Path("test.csv").write_text(rows(dataset.x_test, **how))
            outcome = predict(place / "run", "test.csv", "--submission", "mine.csv")
            return outcome, list(csv.reader(Path("mine.csv").read_text().splitlines()))

        return submitted, [dataset.class_names[c] for c in answers]

    def test_counts_from_one(self, submitted):
        outcome, lines = submitted[0]()
        assert lines[0] == ["ImageId", "Label"]
        assert lines[1:] == [[str(i), name] for i, name in enumerate(submitted[1], 1)]
        assert outcome.out == f"{len(lines) - 1} predictions in mine.csv\n"

    def test_has_the_tables_own_identifiers(self, submitted):
        _, lines = submitted[0](number=500)
        assert lines[:2] == [["Id", "Label"], ["500", submitted[1][0]]]

    def test_has_the_form_of_a_sample(self, submitted):
        count = len(submitted[1])
        Path("sample_submission.csv").write_text(
            "row,kind\n" + "".join(f"r{i},0\n" for i in range(count))
        )
        _, lines = submitted[0]()
        assert lines[0] == ["row", "kind"]
        assert lines[-1] == [f"r{count - 1}", submitted[1][-1]]

    @pytest.mark.parametrize("name", ["test.csv", "mine.txt"])
    def test_writes_over_nothing_that_is_read(self, kaggle, predict, name):
        Path("test.csv").write_text("kept")
        outcome = predict(kaggle[0] / "run", "test.csv", "--submission", name)
        assert (outcome.status, outcome.out) == (2, "")
        assert outcome.err.startswith(f"error: --submission {name}: ")
        assert Path("test.csv").read_text() == "kept"

    def test_is_not_written_where_a_file_could_not_be_read(self, kaggle, predict, tmp_path):
        outcome = predict(kaggle[0] / "run", "nothing.csv", "--submission", "mine.csv")
        assert outcome.status == 2
        assert list(tmp_path.iterdir()) == []


def test_features_are_standardised_as_the_training_part_was(tmp_path, predict):
    rng = np.random.default_rng(0)
    x = rng.normal([5, -2, 1000], [1, 0.1, 300], (90, 3)).round(4)
    y = np.where(x[:, 0] > 5, "large", "small")
    (tmp_path / "flowers").mkdir()
    text = "a,b,c,kind\n" + "".join(
        f"{','.join(map(str, r))},{k}\n" for r, k in zip(x, y, strict=True)
    )
    (tmp_path / "flowers" / "train.csv").write_text(text)
    dataset, answers, _ = finished(tmp_path / "run", tmp_path / "flowers")
    by = dataset.standardisation
    raw = dataset.x_test * by.std + by.mean
    np.savetxt("test.csv", raw, "%.9g", ",", header="a,b,c", comments="")
    found = classes_of(predict("run", "test.csv", "--json"))
    assert found == [dataset.class_names[c] for c in answers]
    assert np.mean(found == np.array(dataset.class_names)[dataset.y_test]) > 0.8
    outcome = predict("run", "test.csv", "--show")
    assert outcome.err == "error: run: expected a network of pictures for --show and --out\n"


@pytest.mark.parametrize(
    ("mode", "reading"),
    [("RGB", {}), ("RGB", {"size": (6, 5)}), ("L", {"size": (6, 5)}), ("RGB", {"grey": True})],
    ids=["colour", "colour scaled", "grey scaled", "colour as grey"],
)
def test_pictures_in_folders_are_scaled_as_the_training_part_was(tmp_path, predict, mode, reading):
    """A cat is no digit: it is not framed."""
    rng = np.random.default_rng(0)
    for k in range(60):
        place = tmp_path / "pets" / ("train" if k < 40 else "test") / ("cat", "dog")[k % 2]
        place.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 90, (8, 8, 3), np.uint8) + np.uint8(120 * (k % 2))
        Image.fromarray(image).convert(mode).save(place / f"{k}.png")
    dataset, answers, _ = finished(tmp_path / "run", tmp_path / "pets", **reading)
    files = [
        *sorted((tmp_path / "pets" / "test" / "cat").iterdir()),
        *sorted((tmp_path / "pets" / "test" / "dog").iterdir()),
    ]
    found = classes_of(predict("run", *files, "--json"))
    assert found == [dataset.class_names[c] for c in answers]
    assert np.mean(found == np.array(dataset.class_names)[dataset.y_test]) == 1
    outcome = predict("run", files[0], "--show", "--out", "seen.png")
    assert outcome.status == 0
    assert (tmp_path / "seen.png").exists()
