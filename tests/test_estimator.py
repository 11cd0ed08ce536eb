"""From arrays to a trained network: `jaxnn.fit`, and the estimator by scikit-learn's own rules."""

import inspect
from dataclasses import fields

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import jaxnn
from jaxnn import estimator
from jaxnn.training.config import SETTINGS, Config

DIGITS = jaxnn.load_data("digits")
X, Y = DIGITS.x_train[:300], DIGITS.y_train[:300]
SMALL = {"n_h": (12,), "epochs": 12, "batch_size": 20}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@parametrize_with_checks([jaxnn.MLPClassifier(epochs=100, batch_size=16, n_h=(8,))])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_the_parameters_are_settings_with_their_defaults():
    parameters = inspect.signature(jaxnn.MLPClassifier).parameters
    assert {*parameters} - {*SETTINGS} == {"scaling", "random_state", "verbose"}
    defaults = {field.name: field.default for field in fields(Config)}
    assert {name: parameters[name].default for name in estimator.OWN_SETTINGS} == {
        name: defaults[name] for name in estimator.OWN_SETTINGS
    }


@pytest.fixture(scope="module")
def network():
    return jaxnn.fit(X, Y, quiet=True, **SMALL)


def test_one_line_trains_on_arrays_with_progress(network, capsys):
    again = jaxnn.fit(X, Y, **SMALL)
    out = capsys.readouterr().out
    assert out.count("\n") == SMALL["epochs"]
    assert "epoch 12/12   loss: train 0." in out
    for name, value in network.params.items():
        assert (again.params[name] == value).all()
    assert network.score(DIGITS.x_test, DIGITS.y_test) > 0.8
    assert network.config.n_h == (12,)


def test_images_labels_and_scales_as_people_have_them(network):
    names = np.array(["zero", "one", "two", "three", "four"] * 2)
    images = X.reshape(-1, 8, 8)
    named = jaxnn.fit(images, names[Y], quiet=True, **SMALL)
    assert {*named.predict(images[:20])} <= {*names}
    assert (named.predict(images) == names[Y]).mean() > 0.8
    features = np.random.default_rng(0).normal(size=(300, 5)) * [1, 10, 1e3, 1e-3, 0] + 50
    labels = (features[:, 1] > 50).astype(int)
    assert jaxnn.fit(features, labels, quiet=True, n_h=(8,)).score(features, labels) > 0.95


def test_the_network_is_that_of_the_compiled_run(network):
    """The same settings through `train_epochs`, on the inputs that the estimator computes with."""
    scaled = np.float32(X) / np.float32(16)
    data = estimator._dataset(scaled, Y, 10)
    *_, last = jaxnn.train_epochs(data, Config(**SMALL))
    for name, value in last.eval_params.items():
        assert np.abs(value - network.params[name]).max() < 1e-4


def test_in_a_pipeline_in_a_grid_and_cloned():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), jaxnn.MLPClassifier(**SMALL)),
        {"mlpclassifier__lr": [1e-4, 0.5]},
        cv=2,
    ).fit(np.float64(X), Y)
    assert search.best_params_ == {"mlpclassifier__lr": 0.5}
    best = search.best_estimator_[-1]
    assert clone(best).get_params() == best.get_params()
    assert not hasattr(clone(best), "params_")


def test_partial_fit_goes_on_from_where_training_stands():
    one = jaxnn.MLPClassifier(n_h=(12,), batch_size=20)
    for epoch in range(8):
        one.partial_fit(X, Y, classes=range(10))
        assert one.n_iter_ == epoch + 1
    losses = [record["train_loss"] for record in one.history_]
    assert losses[-1] < losses[0]
    whole = jaxnn.fit(X, Y, quiet=True, n_h=(12,), batch_size=20, epochs=8)
    for name, value in whole.params.items():
        assert np.abs(value - one.params[name]).max() < 1e-4
    with pytest.raises(ValueError, match="classes: expected those of the first call"):
        one.partial_fit(X, Y, classes=range(9))
    with pytest.raises(ValueError, match="expected labels among the classes, found 10"):
        one.partial_fit(X, Y + 1)
    with pytest.raises(jaxnn.JaxnnError, match="expected a constant schedule"):
        jaxnn.MLPClassifier(schedule="linear").partial_fit(X, Y, classes=range(10))


def test_validation_chooses_the_epoch_and_patience_ends():
    found = jaxnn.fit(X, Y, quiet=True, n_h=(12,), epochs=40, validation=0.2, patience=2, lr=2.0)
    assert "validation_loss" in found.history_[0]
    best = min(found.history_, key=lambda record: record["validation_loss"])["epoch"]
    assert found.n_iter_ in (40, best + 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 1}, r"learning_rate: no setting; .* did you mean lr\?"),
        ({"activation": "swish"}, r"`activation`: expected .* did you mean silu\?"),
        ({"epochs": 0}, "`epochs`: expected an integer from 1"),
        ({"scaling": "minmax"}, "scaling: expected auto or none, found 'minmax'"),
    ],
    ids=["name", "activation", "epochs", "scaling"],
)
def test_a_mistake_is_one_line(settings, message):
    with pytest.raises(jaxnn.JaxnnError, match=message):
        jaxnn.fit(X, Y, **settings)
