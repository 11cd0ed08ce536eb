"""`report.html`: complete, self-contained, and safe whatever the names in it."""

import base64
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxnn.errors import StorageError
from jaxnn.report import canvas, page
from jaxnn.report.plots import ALL, CURVES, MISTAKES, Pictures
from jaxnn.runs.metrics import classification_report
from jaxnn.training.config import Config

CLASSES = classification_report(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 1]), 3)
RESULT = {
    "dataset": "digits",
    "n_train": 1438,
    "n_test": 4,
    "config": {"lr": 0.5, "n_h": [64, 32], "seed": 7, "patience": None, "activation": "tanh"},
    "epochs": 2,
    "chosen_epoch": 1,
    "train_loss": 0.25,
    "test_loss": 0.123456,
    "train_accuracy": 0.99,
    "test_accuracy": 0.75,
    "f1": 0.7667,
    "train_seconds": 1.25,
    "gradient_check": {"ok": True, "max_relative_error": 2.5e-7},
    "versions": {"jax": "0.10.2", "numpy": "2.4.6"},
}
HISTORY = [
    {"epoch": 1, "train_loss": 0.25, "test_loss": 0.5, "seconds": 0.125},
    {"epoch": 2, "train_loss": 0.2, "test_loss": 0.6, "seconds": 0.125},
]
VOID = {"meta", "img", "input"}


class Page(HTMLParser):
    """Elements with their attributes, and the text; complains of tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def attributes(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    def words(self):
        return " ".join(" ".join(self.text).split())


ABOUT = {
    "date": "2026-11-27 12:00:00 +0000",
    "command": "jaxnn train --data digits",
    "device": "cpu (cpu)",
    "data": "scikit-learn",
    "SHA-256 of the data": "0123456789abcdef",
    "parameters": "2,410: W1 32×64",
}


def rendered(result=RESULT, images=None, left_out=None, history=HISTORY, about=ABOUT):
    return page.page(result, about, CLASSES, history, images or {}, left_out or {})


def test_the_figures_the_configuration_the_versions_and_the_verdict():
    words = Page(rendered()).words()
    for expected in (
        "Training on digits",
        "1,438 training and 4 test examples; parameters of epoch 1 of 2; seed 7",
        "75.00% test accuracy",
        "0.1235 test loss (nats)",
        "99.00% training accuracy",
        "Every hand-written gradient agreed with jax.grad before training began: the largest "
        "relative error is 2.5e-07.",
        "lr 0.5",
        "n_h 64, 32",
        "patience –",
        "activation tanh",
        "jax 0.10.2",
        "epoch train_loss test_loss seconds 1 0.25 0.5 0.125 2 0.2 0.6 0.125",
    ):
        assert expected in words


def test_what_differs_from_the_document_comes_first_and_the_rest_is_folded():
    before, _, after = rendered().partition("<details>")
    assert "n_h 64, 32 seed 7 activation tanh" in Page(before + "</body></html>").words()
    folded = Page("<details>" + after.partition("</details>")[0] + "</details>").words()
    assert "lr 0.5" in folded
    assert "patience –" in folded
    assert "activation" not in folded


def test_a_run_of_the_document_differs_in_nothing():
    result = RESULT | {"config": Config().to_dict()}
    assert "Nothing: it is the document's run." in Page(rendered(result)).words()


def test_when_how_and_on_what_it_ran():
    words = Page(rendered()).words()
    for name, value in ABOUT.items():
        assert f"{name} {value}" in words


def test_a_run_that_is_not_finished_says_so():
    config = RESULT["config"] | {"epochs": 5}
    unfinished = RESULT | {"config": config, "gradient_check": None}
    words = Page(rendered(unfinished)).words()
    assert "Not finished: this is its state after 2 of 5 epochs." in words
    assert "Training begins only where every hand-written gradient agrees" in words
    assert "Not finished" not in rendered()


def test_a_picture_is_never_so_small_that_it_cannot_be_read():
    """9 points at 150 dots per inch are 18.75 pixels in the file."""
    figure = canvas.png(lambda: canvas.blank(9, 3))
    (image,) = Page(rendered(images={CURVES: figure})).attributes("img")
    assert image["style"] == f"min-width: {math.ceil(1350 * 11 / 18.75)}px; max-width: 1350px"


def test_every_table_and_picture_scrolls_by_itself():
    parsed = Page(rendered(images={CURVES: b"png"}))
    scrolling = [attrs for attrs in parsed.attributes("div") if attrs.get("class") == "scroll"]
    assert len(scrolling) == len(parsed.attributes("table")) + len(parsed.attributes("img"))


def test_the_table_is_that_of_table_txt():
    words = Page(rendered()).words()
    assert (
        "class precision recall f1-score support "
        "0 1.0000 1.0000 1.0000 1 "
        "1 0.5000 1.0000 0.6667 1 "
        "2 1.0000 0.5000 0.6667 2 "
        "accuracy 0.7500 4 "
        "macro avg 0.8333 0.8333 0.7778 4 "
        "weighted avg 0.8750 0.7500 0.7500 4"
    ) in words
    line_above = re.search(r'<tr class="section"><th>(.*?)</th>', rendered())
    assert line_above.group(1) == "accuracy"


def test_a_gradient_that_disagrees_is_said_to():
    result = RESULT | {"gradient_check": {"ok": False, "max_relative_error": 0.5}}
    assert "A hand-written gradient disagrees with jax.grad" in Page(rendered(result)).words()


def test_pictures_lie_within_the_page_and_have_a_description():
    images = {name: name.encode() for name in ALL}
    shown = Page(rendered(images=images)).attributes("img")
    assert [image["alt"] for image in shown] == [page.CAPTIONS[name] for name in ALL]
    contents = [base64.b64decode(image["src"].partition("base64,")[2]) for image in shown]
    assert contents == list(images.values())


def test_what_was_left_out_is_said_with_the_reason():
    words = Page(rendered(left_out={MISTAKES: "there are none"})).words()
    assert "The most confident mistakes: left out, because there are none." in words


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs():
    parsed = Page(rendered(images={CURVES: b"png"}))
    loads = [value for _, attrs in parsed.elements for name, value in attrs.items()
             if name in ("src", "href", "srcset", "data", "action")]  # fmt: skip
    assert len(loads) == 1
    assert loads[0].startswith("data:image/png;base64,")
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.elements}
    assert "url(" not in rendered()
    assert "@import" not in rendered()
    (policy,) = [a["content"] for a in parsed.attributes("meta") if "http-equiv" in a]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


EVIL = "</td></table><script>alert('\"&')</script>$title ${x}"


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": EVIL},
        {"config": {"seed": 0, EVIL: EVIL}},
        {"versions": {EVIL: EVIL}},
    ],
)
def test_names_are_text_and_never_markup(change):
    parsed = Page(rendered(RESULT | change))
    assert "script" not in {tag for tag, _ in parsed.elements}
    assert " ".join(EVIL.split()) in parsed.words()


def test_written_with_the_pictures_of_the_folder(tmp_path):
    (tmp_path / CURVES).write_bytes(b"a picture")
    pictures = Pictures((tmp_path / CURVES,), {})
    path = page.write(tmp_path, RESULT, ABOUT, CLASSES, HISTORY, pictures)
    assert path == tmp_path / "report.html"
    assert base64.b64encode(b"a picture").decode() in path.read_text(encoding="utf-8")


def test_a_folder_that_is_gone(tmp_path):
    with pytest.raises(StorageError, match=r"report\.html: cannot write the report"):
        page.write(tmp_path / "gone", RESULT, ABOUT, CLASSES, HISTORY, Pictures((), {}))
