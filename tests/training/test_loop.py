"""Whole runs: what an epoch records, exact continuation, validation, divergence, compilation."""

from dataclasses import fields

import jax
import numpy as np
import pytest

from jaxnn.errors import TrainingDivergedError
from jaxnn.nn.initialisation import INITIALISERS, document
from jaxnn.training.config import Config
from jaxnn.training.loop import best_epoch, out_of_patience, resident, start, train_epochs
from jaxnn.training.program import Hyperparameters, Program

from .. import small

FIELDS = ["epoch", "train_loss", "test_loss", "train_accuracy", "test_accuracy", "seconds"]


def without_time(history):
    return [{name: value for name, value in r.items() if name != "seconds"} for r in history]


def same_bits(a, b):
    return all(
        jax.tree.leaves(
            jax.tree.map(lambda x, y: x.dtype == y.dtype and np.array_equal(x, y), a, b)
        )
    )


def test_a_record_for_every_epoch():
    *_, last = train_epochs(small.dataset(), small.CONFIG)
    assert [list(record) for record in last.history] == [FIELDS] * 5
    assert [record["epoch"] for record in last.history] == [1, 2, 3, 4, 5]
    assert last.history[-1]["train_loss"] < last.history[0]["train_loss"]


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not():
    data = small.dataset()
    (*_, one), (*_, again), (*_, other) = (
        train_epochs(data, small.config(seed=seed)) for seed in (1, 1, 2)
    )
    assert same_bits(one.state, again.state)
    assert without_time(one.history) == without_time(again.history)
    assert not same_bits(one.state, other.state)


@pytest.mark.parametrize("validation", [None, 10.0])
def test_going_on_from_any_epoch_repeats_the_uninterrupted_run(validation):
    data, config = small.dataset(), small.config(validation=validation)
    engine = resident(data, config)
    steps = [start(config, data.n_x, data.n_classes), *train_epochs(data, config, engine=engine)]
    for step in steps[:-1]:
        *_, resumed = train_epochs(data, config, step, engine)
        assert same_bits((resumed.state, resumed.best), (steps[-1].state, steps[-1].best))
        assert without_time(resumed.history) == without_time(steps[-1].history)


def test_no_epoch_after_the_first_compiles_anything(compilations):
    steps = train_epochs(small.dataset(n_train=61), small.CONFIG)
    next(steps)
    with compilations() as compiled:
        assert len(list(steps)) == 4
    assert compiled == []


def test_what_was_yielded_stays_as_it_was():
    first, *others = train_epochs(small.dataset(), small.CONFIG)
    again = next(train_epochs(small.dataset(), small.CONFIG))
    assert len(others) == 4
    assert same_bits(first.state, again.state)


def test_a_learning_rate_that_diverges_is_noticed_in_its_epoch():
    steps = train_epochs(small.dataset(), small.config(lr=1e5, activation="relu", n_h=(7,) * 5))
    with pytest.raises(TrainingDivergedError, match=r"epoch 1: .*`lr`"):
        list(steps)


def test_with_validation_the_best_epoch_is_kept():
    config = small.config(lr=3.0, epochs=30, validation=10.0)
    *steps, last = train_epochs(small.dataset(), config)
    best = best_epoch(last.history)
    assert best < len(last.history)
    assert same_bits(last.eval_params, [*steps, last][best - 1].state.params)
    assert list(last.history[0])[2] == "validation_loss"


def test_without_validation_the_last_epoch_counts():
    *_, last = train_epochs(small.dataset(), small.CONFIG)
    assert last.eval_params is last.state.params


def losses(*values):
    return [{"validation_loss": value} for value in values]


@pytest.mark.parametrize(
    ("history", "patience", "stop"),
    [
        (losses(), 1, False),
        (losses(3, 2, 1), 1, False),
        (losses(3, 1, 1), 1, True),
        (losses(3, 1, 2), 2, False),
        (losses(3, 1, 2, 2), 2, True),
        (losses(1, 2, 3, 4), None, False),
    ],
)
def test_patience_counts_epochs_without_a_lower_validation_loss(history, patience, stop):
    assert out_of_patience(history, patience) is stop


def test_training_stops_when_patience_runs_out():
    config = small.config(lr=3.0, epochs=200, validation=10.0, patience=3)
    *_, last = train_epochs(small.dataset(), config)
    assert len(last.history) == best_epoch(last.history) + 3 < 200


def test_the_defaults_are_the_documents():
    of_the_document = {
        "lr": 0.5,
        "beta": 0.9,
        "epochs": 50,
        "batch_size": 64,
        "n_h": [64],
        "activation": "sigmoid",
        "seed": 0,
        "validation": None,
        "patience": None,
    }
    beyond = {f.name: f.default for f in fields(Config) if f.name not in of_the_document}
    assert Config().to_dict() == beyond | of_the_document
    of_document = Hyperparameters({"lr": np.float32(0.5), "beta": np.float32(0.9)})
    assert Hyperparameters.of(Config()) == of_document
    assert Program.of(Config(), small.dataset()) == Program()
    assert INITIALISERS[Config().init] is document
    assert Config.from_dict(Config().to_dict()) == Config()


def test_the_random_numbers_are_the_same_whatever_the_process_draws_with():
    """A notebook may have set another generator for its own numbers."""
    data = small.dataset()
    *_, expected = train_epochs(data, small.CONFIG)
    with jax.default_prng_impl("rbg"):
        *_, found = train_epochs(data, small.CONFIG)
    assert same_bits(found.state.params, expected.state.params)
