"""`scripts/predict.py`: a person's own digits, read right, or refused in one line each."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnn.io import arrayfile
from jaxnn.report import text

from .. import shell, trained_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run.finished(tmp_path_factory.mktemp("predict") / "run")


@pytest.fixture
def predict(run, monkeypatch, capsys, tmp_path):
    """Run `scripts/predict.py` on that run with these arguments, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *argv: shell.here(monkeypatch, capsys, "predict", run, *argv)


def examples(n=1):
    """The first test images, (n, 8, 8) in [0, 1]."""
    digits = trained_run.digits()
    return (digits.x_test[:n] * np.float32(digits.scale)).reshape(-1, 8, 8)


def on_paper(image, dark=True):
    """A digit drawn large on a sheet, as bytes."""
    ink = np.pad(np.kron(image, np.ones((25, 25))), ((40, 70), (90, 30)))
    return (230 - 200 * ink if dark else 20 + 200 * ink).astype(np.uint8)


def lines(outcome):
    return [line.split() for line in outcome.out.splitlines()]


def test_a_table_with_digit_probability_and_runner_up(predict):
    Image.fromarray(on_paper(examples()[0])).save("zero.png")
    outcome = predict("zero.png")
    assert (outcome.status, outcome.err) == (0, "")
    header, (image, digit, probability, runner_up, less) = lines(outcome)
    assert header == ["image", "digit", "probability", "runner-up", "probability"]
    assert (image, digit) == ("zero.png", "0")
    assert runner_up != "0"
    assert 100 > float(probability.rstrip("%")) > 80 > 20 > float(less.rstrip("%")) > 0


def test_the_columns_are_aligned(predict):
    Image.fromarray(on_paper(examples()[0])).save("a.png")
    Image.fromarray(on_paper(examples()[0])).save("a-longer-name.png")
    outcome = predict("a.png", "a-longer-name.png")
    assert len({len(line) for line in outcome.out.splitlines()}) == 1


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("form", ["png", "jpg", "npy", "csv"])
def test_every_form_reads_as_most_of_its_labels(predict, form, dark):
    """Large drawings made of test images: most of them are read as the digit that they are."""
    drawings = [on_paper(image, dark) for image in examples(20)]
    names = [f"{n}.{form}" for n in range(20)]
    for name, drawing in zip(names, drawings, strict=True):
        if form == "npy":
            np.save(name, drawing)
        elif form == "csv":
            np.savetxt(name, drawing, fmt="%d", delimiter=",")
        else:
            Image.fromarray(drawing).save(name)
    outcome = predict(*names, "--json")
    found = [answer["digit"] for answer in json.loads(outcome.out)]
    assert np.mean(found == trained_run.digits().y_test[:20]) >= 0.85


def test_several_pictures_in_a_file(predict):
    np.save("three.npy", examples(3))
    rows = lines(predict("three.npy"))[1:]
    assert [row[:3] for row in rows] == [["three.npy", f"[{n}]", f"{n}"] for n in range(3)]


def test_rows_of_the_length_of_the_run(predict):
    np.savetxt("rows.csv", examples(3).reshape(3, -1), delimiter=",")
    assert [row[2] for row in lines(predict("rows.csv"))[1:]] == ["0", "1", "2"]


def test_json_has_every_probability(predict):
    np.save("one.npy", examples(1))
    (answer,) = json.loads(predict("one.npy", "--json").out)
    assert set(answer) == {
        "image", "digit", "class", "probability",
        "runner_up", "runner_up_class", "runner_up_probability", "probabilities",
    }  # fmt: skip
    assert len(answer["probabilities"]) == 10
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-6)
    ordered = sorted(answer["probabilities"], reverse=True)
    assert [answer["probability"], answer["runner_up_probability"]] == ordered[:2]
    assert answer["probabilities"][answer["digit"]] == ordered[0]


def test_show_draws_what_the_network_saw(predict):
    Image.fromarray(on_paper(examples()[0])).save("zero.png")
    *_, blank, name = (drawn := predict("zero.png", "--show").out.splitlines())[:-8]
    assert (blank, name) == ("", "zero.png")
    assert all(set(row) <= set(text.SHADES) for row in drawn[-8:])
    assert max(map(len, drawn[-8:])) <= 16
    assert any("██" in row for row in drawn[-8:])


def test_out_draws_a_picture(predict, tmp_path):
    np.save("two.npy", examples(2))
    assert predict("two.npy", "--out", "seen.png").status == 0
    with Image.open(tmp_path / "seen.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("L").getcolors()) > 10


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["one.npy", "--out", "one.jpg"], "--out one.jpg: expected a file name that ends in .png"),
        (["a.png", "--out", "../x/../a.png"], "no such"),
        (["a.png", "--out", "./a.png"], "--out ./a.png: is one of the pictures to be read"),
        (["one.npy", "--json", "--show"], "--show: contradicts --json"),
        (["one.npy", "--out", "gone/seen.png"], "gone/seen.png: cannot write the picture"),
        ([], "required: IMAGE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(predict, tmp_path, argv, message):
    np.save("one.npy", examples(1))
    outcome = predict(*argv)
    assert outcome.status == 2
    assert outcome.err.startswith("error: ")
    assert message in outcome.err.splitlines()[0]
    assert not (tmp_path / "a.png").exists()


def test_one_bad_picture_does_not_lose_the_others(predict):
    np.save("one.npy", examples(1))
    np.save("blank.npy", np.stack([examples()[0], np.ones((8, 8))]))
    Path("cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    outcome = predict("gone.png", "one.npy", "cut.png", "blank.npy")
    assert outcome.status == 2
    assert [row[0] for row in lines(outcome)[1:]] == ["one.npy", "blank.npy"]
    missing, cut, blank = outcome.err.splitlines()
    assert missing == "error: gone.png: PNG, JPEG, CSV or NPY expected, no such file"
    assert cut.startswith("error: cut.png: a PNG or JPEG picture expected")
    assert blank.startswith("error: blank.npy [1]: no ink")


def test_a_name_cannot_forge_a_line(predict):
    name = "a\n\x1b[31mb.npy"
    np.save(name, examples(1))
    outcome = predict(name, "--show")
    assert r"a\n\x1b[31mb.npy" in outcome.out
    assert "\x1b" not in outcome.out


def test_an_unfinished_run_predicts_as_it_stands(predict, monkeypatch, capsys, tmp_path):
    np.save("one.npy", examples(1))
    unfinished = trained_run.unfinished(tmp_path / "unfinished")
    outcome = shell.here(monkeypatch, capsys, "predict", unfinished, "one.npy")
    assert outcome.status == 0
    assert "not finished" in outcome.err


class TestRunsWithoutAFrame:
    """Of data whose images' form was not noted, or that are no images."""

    @pytest.fixture
    def changed(self, predict, tmp_path, monkeypatch, capsys):
        def changed(*flags, **data):
            run = trained_run.finished(tmp_path / "run")
            path = run / "parameters.safetensors"
            arrays, notes = arrayfile.load(path)
            arrayfile.save(path, arrays, notes | {"data": notes["data"] | data})
            np.save("one.npy", examples(1))
            return shell.here(monkeypatch, capsys, "predict", run, "one.npy", "--show", *flags)

        return changed

    def test_inputs_that_are_no_images(self, changed):
        outcome = changed(frame=None)
        assert outcome.status == 2
        assert "the network's 64 inputs are not the pixels of an image" in outcome.err

    def test_another_frame_shows(self, changed):
        frame = {"shape": [8, 8], "box": [4, 4], "centre": [0, 0]}
        drawn = changed("--prepare", frame=frame).out.splitlines()[-8:]
        assert drawn[4:] == [""] * 4


def test_blocks_in_any_terminal():
    image = np.array([[0, 0.01, 0.5, 1]])
    assert text.blocks(image, "utf-8") == "  ░░▒▒██"
    assert text.blocks(image, "ascii") == "  ..::##"
    assert text.blocks(image, None) == "  ..::##"


def test_columns_count_wide_characters_as_wide():
    assert text.columns([["日本", "1"], ["a", "22"]], right=[1]) == "日本   1\na     22"
