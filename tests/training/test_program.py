"""What goes beyond the document, in the loop: each term does what it says, or is absent."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.commands.experiment import verify
from jaxnn.errors import UsageError
from jaxnn.nn import activations, mlp
from jaxnn.nn.ensemble import logits, soft_answer
from jaxnn.nn.losses import smooth, softmax
from jaxnn.training import recipes
from jaxnn.training.config import Config
from jaxnn.training.loop import initial_state, resident, start, state_shapes, train_epochs
from jaxnn.training.objective import dropout_masks
from jaxnn.training.program import Hyperparameters, Teacher
from jaxnn.training.step import init_state, train_step

from .. import small
from .test_loop import same_bits, without_time

DESCENT = Hyperparameters({"lr": jnp.float32(0.5), "beta": jnp.float32(0)})
X = jnp.float32(np.random.default_rng(0).random((9, 11)))
Y = jnp.eye(5)[np.arange(9) % 5]
forward, gradient = jax.jit(mlp.feed_forward), jax.jit(mlp.gradient)
ROUNDINGS = 1e-6  # of numbers below 1, computed in two programs


def params():
    return initial_state(Config(n_h=(7,)), 11, 5).params


def stepped(key=None, **terms):
    """The parameters after one plain step of gradient descent with these terms."""
    hyper = DESCENT._replace(**{name: jnp.float32(value) for name, value in terms.items()})
    return train_step(init_state(params(), hyper), X, Y, hyper, key).params


def descended(grads):
    return jax.tree.map(lambda p, g: p - jnp.float32(0.5) * g, params(), grads)


def close(actual, expected):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=ROUNDINGS), actual, expected)


def test_each_term_is_in_the_step():
    p, key = params(), jax.random.key(3)
    rates = {"dropout": jnp.float32(0.5), "input_dropout": jnp.float32(0.25)}
    masks = dropout_masks(p, X, DESCENT._replace(**rates), jax.random.split(key)[1])
    assert {name: D.shape for name, D in masks.items()} == {"D0": (9, 11), "D1": (9, 7)}
    close(stepped(), descended(gradient(p, X, Y)))
    close(stepped(key, **rates), descended(gradient(p, X, Y, masks=masks)))
    close(stepped(l2=0.3), descended(gradient(p, X, Y, l2=jnp.float32(0.3))))
    epsilon = jnp.float32(0.2)
    close(stepped(label_smoothing=epsilon), descended(gradient(p, X, smooth(Y, epsilon))))


def test_weights_stay_within_the_largest_norm():
    norms = np.linalg.norm(stepped(max_norm=0.3)["W1"], axis=1)
    assert norms.max() <= 0.3 * (1 + 2**-20)
    assert np.linalg.norm(stepped()["W1"], axis=1).max() > 0.3


def test_dropout_without_a_key_is_an_error():
    with pytest.raises(ValueError, match="key"):
        stepped(dropout=0.5)


def test_the_average_is_a_running_mean_and_is_what_counts():
    hyper = DESCENT._replace(average=jnp.float32(0.75))
    after = train_step(init_state(params(), hyper), X, Y, hyper)
    expected = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, params(), after.params)
    close(after.average, expected)
    assert after.eval_params is after.average


EVERYTHING = {
    "dropout": 0.2,
    "input_dropout": 0.1,
    "l2": 1e-3,
    "max_norm": 2.0,
    "label_smoothing": 0.1,
    "average": 0.5,
    "optimiser": "nesterov",
    "schedule": "one_cycle",
    "init": "he",
    "activation": "silu",
}


def test_a_run_with_everything_goes_on_to_the_same_bits():
    data, config = small.dataset(), small.config(**EVERYTHING, epochs=3)
    engine = resident(data, config)
    steps = [start(config, data.n_x, data.n_classes), *train_epochs(data, config, engine=engine)]
    *_, resumed = train_epochs(data, config, steps[1], engine=engine)
    assert same_bits(resumed.state, steps[-1].state)
    assert without_time(resumed.history) == without_time(steps[-1].history)


def test_a_network_with_everything_is_verified_as_it_is_trained():
    data = small.dataset()
    teacher = Teacher(start(small.CONFIG, data.n_x, data.n_classes).state.params, "sigmoid")
    for config in (small.config(**EVERYTHING), small.config(teacher="a run", committee=2)):
        assert verify(data, config, teacher if config.teacher else None).ok


def test_another_strength_runs_the_same_program(compilations):
    stepped(l2=0.1)
    state, hyper = init_state(params(), DESCENT), DESCENT._replace(l2=jnp.float32(0.2))
    with compilations() as compiled:
        train_step(state, X, Y, hyper, None)
    assert compiled == []


# --------------------------------------------------------------------------------------- committees


def test_a_member_of_a_committee_is_the_run_of_its_seed():
    data = small.dataset()
    *_, committee = train_epochs(data, small.config(committee=3, seed=4))
    *_, alone = train_epochs(data, small.config(seed=5))
    member = jax.tree.map(lambda leaf: leaf[1], committee.state)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-5), member, alone.state)


def test_a_committee_answers_with_the_mean_of_its_members():
    members = [initial_state(Config(n_h=(7,), seed=seed), 11, 5).params for seed in (1, 2)]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    Z = [forward(member, X)["Z2"] for member in members]
    close(softmax(logits(together, X)), (softmax(Z[0]) + softmax(Z[1])) / 2)
    T = jnp.float32(3)
    softened = soft_answer(together, X, activations.sigmoid, T)
    close(softened, (softmax(Z[0] / T) + softmax(Z[1] / T)) / 2)
    close(logits(members[0], X), Z[0])


def test_the_shapes_of_a_state_are_known_beforehand():
    config = small.config(committee=2, average=0.9, optimiser="adam")
    shapes, state = state_shapes(config, 11, 5), initial_state(config, 11, 5)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), shapes) == jax.tree.map(
        lambda a: (a.shape, a.dtype), state
    )
    assert state.params["W1"].shape == (2, 7, 11)


# ------------------------------------------------------------------------------ teachers, schedules


def test_a_teacher_is_learnt_from():
    """Labels that say nothing, and a teacher that knows: the student does as the teacher does."""
    data = small.dataset(n_train=200)
    *_, taught = train_epochs(data, small.config(epochs=60, lr=1.0))
    teacher = Teacher(jax.tree.map(jnp.asarray, taught.state.params), "sigmoid")
    config = small.config(epochs=60, lr=1.0, seed=9, teacher="a run", teacher_weight=1.0)
    blind = replace(data, y_train=np.zeros_like(data.y_train))
    *_, student = train_epochs(blind, config, engine=resident(blind, config, teacher))
    assert student.history[-1]["test_accuracy"] > 0.6
    assert student.history[-1]["train_accuracy"] < 0.4  # of the labels that say nothing


def test_a_schedule_lasts_as_long_as_the_run():
    hyper = Hyperparameters.of(Config(schedule="cosine", epochs=3, batch_size=8), n_train=43)
    assert hyper.optimiser["steps"] == 3 * 6


def test_distortions_weaken_in_a_line():
    config = Config(elastic=2.0, affine=1.0, ease=0.5)
    hyper = Hyperparameters.of(config)
    assert hyper.annealed(config, 0.0).distortion == (2, 1)
    assert hyper.annealed(config, 0.5).distortion == (1.5, 0.75)
    assert DESCENT.annealed(config, 0.5) is DESCENT


# -------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_recipe_is_a_configuration_that_can_be_planned(name):
    config = recipes.configuration(name)
    assert Config.from_dict(config.to_dict()) == config
    assert Hyperparameters.of(config, 60_000).optimiser["lr"] == np.float32(config.lr)
    assert f"{name}: " in recipes.listing()


def test_the_document_is_a_recipe_without_changes():
    assert recipes.configuration("document") == Config()


def test_an_unknown_recipe_is_an_error_that_lists_them():
    with pytest.raises(UsageError, match=r"`recipe` slow: expected one of document, fast"):
        recipes.configuration("slow")
