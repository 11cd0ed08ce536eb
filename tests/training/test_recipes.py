"""The named configurations, from the command line, on images that are no digits of 28 by 28."""

import json
import re

import pytest

from jaxnn.training.recipes import RECIPES, configuration

from .. import shell
from ..data_files import arrays, write_idx

#: Of scikit-learn's digits, which are at hand without a network connection.
TRAINING_DIGITS = 1437


@pytest.fixture
def train(monkeypatch, capsys, tmp_path):
    """Run `scripts/train.py` in an empty folder on a dozen images of 3 by 5 pixels, 3 classes."""
    monkeypatch.chdir(tmp_path)
    write_idx(tmp_path / "idx", arrays())
    small = ("--data", "idx", "--n_h", 6, 5, "--batch_size", 5, "--no_plots", "--out", "run")
    return lambda *argv: shell.here(monkeypatch, capsys, "train", *argv, *small)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "document"])
def test_other_images_and_other_classes(name, train, tmp_path):
    outcome = train("--recipe", name, "--epochs", 2)
    assert outcome.status == 0, outcome.err
    assert "verified  every hand-written gradient agrees" in outcome.out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    members = result["member_accuracies"]
    assert len(members) == (3 if name == "record" else 0)
    said = re.findall(r"members alone: (.*)", outcome.out)
    assert said == [", ".join(f"{m:.2%}" for m in members)] * bool(members)


@pytest.mark.parametrize("name", RECIPES)
def test_a_batch_fits_into_the_digits(name):
    assert configuration(name).batch_size <= TRAINING_DIGITS
