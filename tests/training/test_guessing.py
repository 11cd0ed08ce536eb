"""A network that has learned nothing is said to be so, and one that starts slowly is not."""

from dataclasses import replace

import numpy as np
import pytest

from jaxnn.errors import SettingError
from jaxnn.nn.optimisers import OPTIMISERS
from jaxnn.training import guessing
from jaxnn.training.config import LEARNING_RATES, Config
from jaxnn.training.loop import Snapshot, train_epochs

from .. import shell, small, trained_run

LABELS = np.repeat(np.arange(10, dtype=np.int32), 640)  # 100 steps in an epoch of batches of 64
LOST = {"train_loss": 2.4, "train_accuracy": 0.1}
LEARNING = {"train_loss": 2.2, "train_accuracy": 0.1}


def said(records, config):
    steps = (
        Snapshot(None, tuple({"epoch": e, **r} for e, r in enumerate(records[:n], 1)))
        for n in range(1, len(records) + 1)
    )
    lines = []
    at = [len(lines) for _ in guessing.watched(steps, LABELS, config, lines.append)]
    return at, lines


def test_a_guess_knows_how_frequent_each_class_is():
    guess = guessing.of_labels(np.array([0, 0, 0, 2]))
    assert guess.loss == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert (guess.accuracy, guess.n) == (0.75, 4)


def test_it_is_said_once_and_not_before_a_thousand_steps():
    at, lines = said([LOST] * 12, Config())
    assert at == [*[0] * 9, 1, 1, 1]
    assert len(lines) == 1
    assert lines[0].startswith("after epoch 10 the network is no better than guessing: ")
    assert "10.00%, where the most frequent class alone has 10.00%" in lines[0]


def test_a_shorter_run_does_not_end_in_silence():
    at, lines = said([LOST] * 3, Config(lr=1000))
    assert at == [0, 0, 0]
    assert "after epoch 3 " in lines[0]
    assert lines[0].endswith("try a smaller step, such as `lr` 0.5")


@pytest.mark.parametrize(
    ("records", "config"),
    [
        ([LOST] * 9 + [LEARNING] * 3, Config()),
        ([LOST] * 30 + [LEARNING], Config(average=0.998)),
        ([{"train_loss": 3.0, "train_accuracy": 0.6}] * 12, Config()),
    ],
    ids=["a plateau at first", "a running mean of the parameters", "sure of itself, often right"],
)
def test_there_is_no_false_alarm(records, config):
    assert said(records, config)[1] == []


def test_slow_starts_that_are_trained():
    """Three sigmoid layers stay at a loss of 2.3 for some 200 steps; small steps do not."""
    data = trained_run.digits()
    for config in (
        Config(n_h=(32, 32, 32), epochs=25, batch_size=32, lr=1.0),
        Config(lr=0.01, epochs=25, batch_size=32),
        Config(optimiser="adam", epochs=8),
    ):
        lines = []
        for _ in guessing.watched(train_epochs(data, config), data.y_train, config, lines.append):
            pass
        assert lines == []


def test_training_says_it(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    argv = ("--data", "digits", "--no_plots", "--epochs", 2, "--lr", 1000, "--out", "run")
    outcome = shell.here(monkeypatch, capsys, "train", *argv)
    assert outcome.status == 0
    assert outcome.err.count("no better than guessing") == 1
    assert "--lr 0.5" in outcome.err


def test_every_optimiser_has_a_learning_rate_of_its_own():
    assert LEARNING_RATES.keys() == OPTIMISERS.keys()
    assert Config().lr == 0.5
    assert Config(optimiser="adam").lr == 0.001
    assert Config(optimiser="adam", lr=0.5).lr == 0.5
    of_an_old_run = replace(Config(), optimiser="adam").to_dict()
    assert Config.from_dict(of_an_old_run).lr == 0.5
    with pytest.raises(SettingError, match="lr"):
        Config.from_dict({**of_an_old_run, "lr": None})


@pytest.mark.parametrize(
    ("recipe", "given", "lr"),
    [
        ("document", {"optimiser": "adam"}, 0.001),
        ("document", {"optimiser": "adam", "lr": 0.25}, 0.25),
        ("document", {"optimiser": "nesterov"}, 0.5),
        ("fast", {}, 2.5),
        ("fast", {"optimiser": "nesterov"}, 2.5),
        ("fast", {"optimiser": "adamw"}, 0.001),
        ("small", {"optimiser": "adam"}, 0.005),
        ("small", {"optimiser": "momentum"}, 0.5),
    ],
)
def test_the_learning_rate_of_a_command(recipe, given, lr):
    train = shell.script("train")
    assert train.recipe(recipe).altered(given).lr == lr


def test_the_last_line_names_the_chosen_epoch(capsys):
    from jaxnn.report import console

    result = {
        "member_accuracies": [],
        "test_accuracy": 0.975,
        "chosen_epoch": 26,
        "epochs": 30,
        "train_seconds": 1.0,
        "total_seconds": 2.0,
        "resumed_after": 0,
    }
    console.outcome("table", result)
    assert "97.50% of epoch 26, chosen by validation among 30; 1.0 s" in capsys.readouterr().out
    console.outcome("table", {**result, "chosen_epoch": 30})
    assert "97.50% after 30 epochs; 1.0 s" in capsys.readouterr().out


def test_softmax_regression_is_a_network_without_a_hidden_layer():
    *_, last = train_epochs(small.dataset(), small.config(n_h=()))
    assert {name: value.shape for name, value in last.eval_params.items()} == {
        "W1": (5, 11),
        "b1": (5,),
    }
    assert last.history[-1]["train_loss"] < last.history[0]["train_loss"]


def test_softmax_regression_from_training_to_comparing(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def command(name, *argv):
        outcome = shell.here(monkeypatch, capsys, name, *argv)
        assert outcome.status == 0, outcome.err
        return outcome.out

    argv = ("--data", "digits", "--n_h", 0, "--epochs", 2, "--out", "run", "--input_dropout", 0.1)
    assert "network   64-10, softmax; lr" in command("train", *argv)
    command("train", "--resume", "run", "--epochs", 3)
    assert (tmp_path / "run" / "weights.png").exists()
    assert "identical, to the bit" in command("evaluate", "run")
    np.save("x.npy", trained_run.digits().x_test[:2].reshape(2, 8, 8))
    assert "x.npy" in command("predict", "run", "x.npy")
    assert "n_h 0" in command("compare", "run")
    sweep = ("--data", "digits", "--n_h", 0, 8, "--epochs", 2, "--seeds", 2, "--out", "sweep")
    table = command("sweep", *sweep)
    assert any(line.split()[0] == "0" for line in table.splitlines() if line.strip())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--n_h", 0, 64], "or 0 alone for no hidden layer, found '0 64'"),
        (["--n_h", 0, "--dropout", 0.5], "--dropout: expected a hidden layer"),
        (["--n_h", 0, "--activation", "relu"], "--activation: expected a hidden layer"),
    ],
)
def test_what_no_hidden_layer_contradicts(monkeypatch, capsys, argv, message):
    outcome = shell.here(monkeypatch, capsys, "train", *argv)
    assert outcome.status == 2
    assert message in outcome.err
