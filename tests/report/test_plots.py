"""The pictures of a run: what they show, what they say, and what they leave alone."""

import io
import subprocess
import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image

from jaxnn.errors import StorageError
from jaxnn.report import canvas, plots


def epoch(number, held_out="test", **changes):
    return {
        "epoch": number,
        "train_loss": 1 / number,
        "train_accuracy": 1 - 0.5 / number,
        f"{held_out}_loss": 1.5 / number,
        f"{held_out}_accuracy": 1 - 0.7 / number,
        "seconds": 0.1,
        **changes,
    }


HISTORY = [epoch(n) for n in (1, 2, 3, 4)]
#: Four examples of three classes; the last two are taken for another, the fourth more confidently.
TRUTH = np.array([0, 1, 2, 0])
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.6, 0.3], [0.05, 0.05, 0.9]])
IMAGES = np.arange(4 * 12, dtype=np.uint8).reshape(4, 3, 4)


def draw(folder, image_shape=(3, 4), truth=TRUTH, **changes):
    arguments = {
        "folder": folder,
        "name": "small",
        "history": HISTORY,
        "images": IMAGES.reshape(4, -1),
        "truth": truth,
        "logits": np.log(PROBABILITIES).astype(np.float32),
        "W1": np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32),
        "image_shape": image_shape,
        "distorted": (np.ones((2, 12)), np.random.default_rng(1).random((2, 3, 12))),
    }
    return plots.draw_run(**(arguments | changes))


def texts(axes):
    return [text.get_text() for text in axes.texts]


def lightness(colour):
    """CIE L*: what is left of a colour on a grey printer."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 116 * np.cbrt(np.dot([0.2126, 0.7152, 0.0722], linear)) - 16


class TestDrawRun:
    def test_every_picture_of_a_run(self, tmp_path):
        pictures = draw(tmp_path)
        assert [path.name for path in pictures.written] == list(plots.ALL)
        assert pictures.left_out == {}
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(plots.ALL)
        for path in pictures.written:
            with Image.open(path) as image:
                assert image.format == "PNG"
                assert 500 <= image.width <= 2000
                assert len(image.convert("RGB").getcolors(1 << 20)) > 20

    @pytest.mark.usefixtures("only_named")
    def test_inputs_that_are_no_images(self, tmp_path):
        pictures = draw(tmp_path, image_shape=None, distorted=None)
        assert [path.name for path in pictures.written] == [plots.CURVES, plots.CONFUSION]
        reason = "the inputs are not the pixels of an image"
        assert pictures.left_out == {plots.MISTAKES: reason, plots.WEIGHTS: reason}

    @pytest.fixture
    def only_named(self, monkeypatch):
        """Pictures that are written without being drawn."""
        monkeypatch.setattr(canvas, "write", lambda path, draw: path.write_text("drawn"))

    @pytest.mark.usefixtures("only_named")
    def test_no_mistakes_and_what_an_earlier_state_left_behind(self, tmp_path):
        (tmp_path / plots.MISTAKES).write_text("of an earlier epoch")
        pictures = draw(tmp_path, truth=PROBABILITIES.argmax(axis=1))
        assert pictures.left_out == {plots.MISTAKES: "the network made no mistake on the test set"}
        assert not (tmp_path / plots.MISTAKES).exists()

    @pytest.mark.usefixtures("only_named")
    def test_distortions_are_drawn_only_where_there_were_any(self, tmp_path):
        assert plots.DISTORTIONS not in [p.name for p in draw(tmp_path, distorted=None).written]

    @pytest.mark.usefixtures("only_named")
    def test_none_at_all(self, tmp_path):
        draw(tmp_path)
        pictures = plots.draw_nothing(tmp_path)
        assert (pictures.written, set(pictures.left_out)) == ((), set(plots.ALL))
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_gone(self, tmp_path):
        with pytest.raises(StorageError, match=r"curves\.png: cannot write the picture"):
            draw(tmp_path / "gone")


class TestCurves:
    def test_both_parts_by_epoch(self):
        loss, accuracy = plots.curves(HISTORY, "digits").axes
        for axes, measure, factor in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
            for line, part in zip(axes.lines, ("train", "test"), strict=True):
                assert line.get_xdata().tolist() == [1, 2, 3, 4]
                expected = [factor * record[f"{part}_{measure}"] for record in HISTORY]
                np.testing.assert_allclose(line.get_ydata(), expected)
        assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "cross-entropy (nats)")
        assert (accuracy.get_xlabel(), accuracy.get_ylabel()) == ("epoch", "classified right (%)")

    def test_the_legend_has_the_last_values(self):
        figure = plots.curves(HISTORY, "digits")
        legends = [axes.get_legend() for axes in figure.axes]
        assert [legend.get_title().get_text() for legend in legends] == ["epoch 4", "epoch 4"]
        assert [text.get_text() for text in legends[0].get_texts()] == [
            "train 0.2500",
            "test 0.3750",
        ]
        assert [text.get_text() for text in legends[1].get_texts()] == [
            "train 87.50%",
            "test 82.50%",
        ]

    def test_the_epoch_chosen_by_validation_is_marked(self):
        history = [epoch(n, "validation") for n in (1, 2, 3)]
        history.append(epoch(4, "validation", validation_loss=9.0))
        loss = plots.curves(history, "digits").axes[0]
        assert loss.get_legend().get_title().get_text() == "epoch 3, chosen by validation loss"
        assert loss.lines[-1].get_xdata() == [3, 3]

    def test_a_single_epoch_is_seen(self):
        figure = plots.curves(HISTORY[:1], "digits")
        assert {line.get_marker() for axes in figure.axes for line in axes.lines} == {"o"}
        low, high = figure.axes[0].get_xlim()
        assert [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high] == [1]


class TestConfusion:
    def test_rows_are_true_classes_and_columns_predicted_ones(self):
        axes = plots.confusion(TRUTH, PROBABILITIES, "small").axes[0]
        shown = axes.images[0].get_array()
        np.testing.assert_array_equal(shown, [[0.5, 0, 0.5], [0, 1, 0], [0, 1, 0]])
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
        assert "2 of 4 test examples are right (50.00%)" in axes.get_title()
        places = {text.get_position(): text.get_text() for text in axes.texts}
        assert places == {(0, 0): "1", (2, 0): "1", (1, 1): "1", (1, 2): "1"}

    @pytest.mark.parametrize(("n_classes", "labels"), [(2, 2), (20, 20), (47, 47), (300, 60)])
    def test_any_number_of_classes(self, n_classes, labels):
        truth = np.arange(n_classes)
        figure = plots.confusion(truth, np.eye(n_classes)[::-1] + 0.1, "many")
        assert len(figure.axes[0].get_xticks()) == labels
        assert len(figure.axes[0].texts) == (n_classes if n_classes <= 50 else 0)
        assert max(figure.get_size_inches()) <= 17

    def test_class_labels_do_not_overlap(self):
        figure = plots.confusion(np.arange(47), np.eye(47), "letters")
        figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
        assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))


class TestMistakes:
    def test_the_most_confident_first_with_truth_and_prediction(self):
        figure = plots.mistakes(IMAGES, TRUTH, PROBABILITIES, "small")
        axes = figure.axes[0]
        title, *captions = texts(axes)
        assert captions == ["0 read as 2\n90.00%", "2 read as 1\n60.00%"]
        assert title.startswith("small: mistakes on the test set, 2 of 2, most confident first")
        for shown, index in zip(axes.images, (3, 2), strict=True):
            np.testing.assert_allclose(shown.get_array(), IMAGES[index] / 47)

    def test_of_many_the_first_24(self):
        probabilities = np.eye(2)[np.zeros(100, int)]
        axes = plots.mistakes(np.ones((100, 8, 8)), np.ones(100, int), probabilities, "x").axes[0]
        assert len(axes.images) == 24
        assert "24 of 100" in axes.texts[0].get_text()

    def test_no_network_is_certain(self):
        assert plots.percent(1.0) == "> 99.99%"
        assert plots.percent(0.9999) == "99.99%"


def test_distortions_stand_beside_their_image():
    originals = np.zeros((2, 3, 4))
    versions = np.linspace(0.1, 0.9, 6)[:, None, None].repeat(3, 1).repeat(4, 2).reshape(2, 3, 3, 4)
    (axes,) = plots.distortions(originals, versions, "digits").axes
    shown = [float(image.get_array().mean()) for image in axes.images]
    np.testing.assert_allclose(shown, [0, 0.1, 0.26, 0.42, 0, 0.58, 0.74, 0.9])
    captions = texts(axes)[1:]
    assert captions == ["as given", "distorted", "distorted", "distorted"] * 2


class TestWeights:
    def test_one_symmetric_scale_with_nothing_as_the_middle(self):
        W1 = np.random.default_rng(0).normal(size=(5, 3, 4)) + 1
        image = plots.weights(W1, "small").axes[0].images[0]
        low, high = image.get_clim()
        assert -low == high > 0
        assert image.get_cmap().name == "coolwarm"

    def test_every_unit_in_its_place(self):
        W1 = np.arange(5 * 12.0).reshape(5, 3, 4)
        sheet = plots.weights(W1, "small").axes[0].images[0].get_array()
        assert sheet.shape == (11, 9)  # two columns of 4 pixels and three rows of 3, with gaps of 1
        np.testing.assert_array_equal(sheet[:3, :4], W1[0])
        np.testing.assert_array_equal(sheet[:3, 5:], W1[1])
        np.testing.assert_array_equal(sheet[8:, :4], W1[4])
        assert np.ma.count(sheet) == W1.size

    def test_of_many_the_64_strongest(self):
        W1 = np.ones((70, 2, 2)) * np.arange(70)[:, None, None]
        figure = plots.weights(W1, "small")
        sheet = figure.axes[0].images[0].get_array()
        assert np.ma.count(sheet) == 64 * 4
        assert sheet.min() == 6
        assert "strongest units, 64 of 70" in figure.axes[0].get_title()

    def test_weights_that_are_all_zero(self):
        assert canvas.png(lambda: plots.weights(np.zeros((1, 8, 8)), "still"))


class TestComparison:
    def test_runs_of_different_lengths_and_measures(self):
        runs = {"a": HISTORY, "b": [epoch(1, "validation"), epoch(2, "validation")]}
        figure = plots.comparison(runs)
        for axes in figure.axes:
            assert [len(line.get_xdata()) for line in axes.lines] == [4, 2]
        np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), [1.5, 0.75])

    @pytest.mark.parametrize(
        "name", ["_private", "runs/$x^$", "日本", "a" * 300, "line\nfeed", "$"]
    )
    def test_every_name_is_drawn(self, name):
        figure = plots.comparison({name: HISTORY})
        (label,) = [text.get_text() for text in figure.legends[0].get_texts()]
        assert label.strip().lstrip("…") in name
        assert canvas.png(lambda: plots.comparison({name: HISTORY}))

    def test_equal_curves_are_told_apart(self):
        figure = plots.comparison({"a: lr 1": HISTORY, "b: lr 2": HISTORY[:2], "c: lr 3": HISTORY})
        one, _, three = figure.axes[0].lines
        assert one.get_linewidth() > three.get_linewidth() > 1
        assert one.get_linestyle() != three.get_linestyle()
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels == ["a: lr 1", "b: lr 2", "c: lr 3, the same curve as a"]

    def test_many_runs_differ_in_colour_or_dashes(self):
        lines = plots.comparison({str(n): HISTORY for n in range(28)}).axes[0].lines
        assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 28


class TestSeen:
    def test_given_and_prepared_side_by_side(self):
        given = [np.full((50, 20), 0.25), np.full((8, 8), 1.0)]
        prepared = [np.eye(8), np.eye(8)]
        axes = plots.seen(given, prepared, ["7, 90.00%\na.png", "1, 80.00%\nb.png"]).axes[0]
        assert [image.get_array().shape for image in axes.images] == [
            (50, 20),
            (8, 8),
            (8, 8),
            (8, 8),
        ]
        assert axes.images[0].get_array()[0, 0] == 0.75
        assert texts(axes)[1:] == ["given", "7, 90.00%\na.png", "given", "1, 80.00%\nb.png"]

    def test_of_many_the_first_60(self):
        axes = plots.seen([np.eye(4)] * 61, [np.eye(4)] * 61, ["x"] * 61).axes[0]
        assert len(axes.images) == 120
        assert "the first 60 of 61" in axes.texts[0].get_text()


class TestCanvas:
    def test_lines_differ_on_a_grey_printer_too(self):
        """In lightness where there are two, and in dashes wherever there are more."""
        assert plots.BLUE != plots.VERMILION
        train, test = plots.curves(HISTORY, "digits").axes[0].lines
        assert train.get_linestyle() != test.get_linestyle()
        assert all(lightness(colour) < 75 for colour in plots.SERIES)  # dark enough for white paper

    def test_the_users_style_is_neither_used_nor_changed(self):
        expected = canvas.png(lambda: plots.curves(HISTORY, "digits"))
        with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "text.usetex": True}):
            before = dict(matplotlib.rcParams)
            assert canvas.png(lambda: plots.curves(HISTORY, "digits")) == expected
            assert dict(matplotlib.rcParams) == before

    def test_pyplot_is_not_imported_nor_matplotlib_before_it_is_needed(self):
        code = (
            "import sys\n"
            "from jaxnn.report import canvas, page, plots\n"
            "assert 'matplotlib' not in sys.modules\n"
            "assert 'jax' not in sys.modules\n"
            "names = 'epoch', 'train_loss', 'test_loss', 'train_accuracy', 'test_accuracy'\n"
            "canvas.png(lambda: plots.curves([dict.fromkeys(names, 1)], 'x'))\n"
            "assert 'matplotlib.pyplot' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_equal_figures_make_equal_files(self):
        one, other = (canvas.png(lambda: plots.curves(HISTORY, "x")) for _ in range(2))
        assert one == other

    def test_the_picture_is_what_the_figure_says(self):
        with Image.open(io.BytesIO(canvas.png(lambda: plots.curves(HISTORY, "x")))) as image:
            assert image.size == (9 * canvas.DPI, int(3.8 * canvas.DPI))


@pytest.mark.parametrize("n_classes", [3, 10, 26, 47, 80])
def test_counts_of_many_classes_can_be_read_and_do_not_touch(n_classes):
    """Every text of every picture has 9 points at least; a count fits into its cell."""
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, n_classes, (2, 40 * n_classes))
    truth[: 10 * n_classes] = predicted[: 10 * n_classes] = 1
    probabilities = np.eye(n_classes)[predicted]
    figure = plots.confusion(truth, probabilities, "many")
    figure.canvas.draw()
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 9
    axes = figure.axes[0]
    cell = axes.get_window_extent().width / n_classes
    assert all(text.get_window_extent().width <= cell for text in axes.texts)
    assert bool(axes.texts) is (n_classes < 50)
