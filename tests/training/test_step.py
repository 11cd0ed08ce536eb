"""The compiled step, epoch and evaluation: every example once, every row, one compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn.data.augmentation import Distortion
from jaxnn.nn.activations import relu, tanh
from jaxnn.nn.mlp import feed_forward, init_params, loss
from jaxnn.nn.optimisers import momentum
from jaxnn.training import evaluation
from jaxnn.training.evaluation import evaluate
from jaxnn.training.objective import one_hot, unit_interval
from jaxnn.training.program import Distillation, Hyperparameters, Program
from jaxnn.training.shuffle import permutation
from jaxnn.training.step import init_state, step_key, train_epoch, train_step

N_X, N_H, C = 11, 7, 5
SCALE = jnp.float32(1 / 255)
HYPER = Hyperparameters({"lr": jnp.float32(0.5), "beta": jnp.float32(0.9)})


def images_and_labels(n, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, N_X), dtype=np.uint8)
    return jnp.asarray(images), jnp.asarray(rng.integers(0, C, n, dtype=np.int32))


def fresh_state(hyper=HYPER, optimiser=momentum):
    return init_state(init_params(jax.random.key(3), (N_X, N_H, C)), hyper, optimiser)


@pytest.mark.parametrize(
    ("n", "batch_size"),
    [(64, 16), (67, 16), (5, 16), (16, 16), (3, 1)],
    ids=["whole", "rest of 3", "smaller than a batch", "one batch", "batch of 1"],
)
def test_an_epoch_is_one_step_per_batch_over_every_example(n, batch_size):
    images, labels = images_and_labels(n)
    key = jax.random.key(1)
    order = np.asarray(permutation(key, n))
    batches = [order[begin : begin + batch_size] for begin in range(0, n, batch_size)]
    assert sorted(np.concatenate(batches)) == list(range(n))

    expected = fresh_state()
    for rows in batches:
        X, Y = unit_interval(images[rows], SCALE), one_hot(labels[rows], C)
        expected = train_step(expected, X, Y, HYPER)
    found = train_epoch(
        fresh_state(), images, labels, SCALE, key, HYPER, program=Program(batch_size=batch_size)
    )

    # Both compute the same float32 sums, perhaps in another order: a few roundings per step.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-6), expected, found)


def test_a_step_is_a_step_of_an_epoch_with_every_term_there_is():
    """Dropout, distortions, an average, and a teacher of another activation: a step ignored them,
    or took the student's activation for the teacher's."""
    shape, n_x, m = (4, 4), 16, 8
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (20, n_x), dtype=np.uint8))
    labels = jnp.asarray(rng.integers(0, C, 20, dtype=np.int32))
    teacher = init_params(jax.random.key(9), (n_x, 6, C))
    f = jnp.float32
    hyper = HYPER._replace(
        l2=f(0.01),
        dropout=f(0.5),
        input_dropout=f(0.2),
        max_norm=f(1),
        label_smoothing=f(0.1),
        average=f(0.5),
        distortion=Distortion(f(2), f(1)),
        distillation=Distillation(teacher, f(2), f(0.5)),
    )
    program = Program(tanh, batch_size=m, image_shape=shape, teacher_activation=relu)
    key = jax.random.key(1)

    def fresh():
        params = init_params(jax.random.key(3), (n_x, N_H, C))
        return init_state(params, hyper)

    expected = fresh()
    order = permutation(key, 20)
    for place, begin in enumerate(range(0, 20, m)):
        rows = order[begin : begin + m]
        X, Y = unit_interval(images[rows], SCALE), one_hot(labels[rows], C)
        expected = train_step(expected, X, Y, hyper, step_key(key, place), program=program)
    found = train_epoch(fresh(), images, labels, SCALE, key, hyper, program=program)

    # Both compute the same float32 sums, perhaps in another order: a few roundings per step.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-6), expected, found)


@pytest.mark.parametrize(
    ("key", "shape", "term"),
    [
        (None, (4, 4), {"distortion": Distortion(1.0, 1.0)}),
        (jax.random.key(0), None, {"distortion": Distortion(1.0, 1.0)}),
        (None, (4, 4), {"dropout": jnp.float32(0.5)}),
    ],
)
def test_a_term_without_what_it_needs_is_refused(key, shape, term):
    state = init_state(init_params(jax.random.key(3), (16, N_H, C)), HYPER)
    X, Y = jnp.ones((2, 16)), jnp.ones((2, C)) / C
    with pytest.raises(ValueError, match="expected"):
        train_step(state, X, Y, HYPER._replace(**term), key, program=Program(image_shape=shape))


def test_the_last_batch_is_averaged_over_its_own_examples():
    """One epoch of a batch of 4 and a rest of 1, with β = 0: p − lr·g twice, g a mean each time."""
    images, labels = images_and_labels(5)
    hyper = Hyperparameters({"lr": jnp.float32(0.1), "beta": jnp.float32(0)})
    key = jax.random.key(1)
    order = permutation(key, 5)
    params = fresh_state().params
    for rows in (order[:4], order[4:]):
        batch = unit_interval(images[rows], SCALE), one_hot(labels[rows], C)
        grads = jax.jit(jax.grad(loss))(params, *batch)
        params = jax.tree.map(lambda p, g: p - jnp.float32(0.1) * g, params, grads)
    found = train_epoch(
        fresh_state(hyper), images, labels, SCALE, key, hyper, program=Program(batch_size=4)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), params, found.params
    )


def test_every_epoch_has_its_own_order():
    images, labels = images_and_labels(40)
    first, second = (
        train_epoch(
            fresh_state(),
            images,
            labels,
            SCALE,
            jax.random.key(seed),
            HYPER,
            program=Program(batch_size=8),
        ).params["W1"]
        for seed in (1, 2)
    )
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("n", [1, 7, 8, 16, 19])
def test_evaluation_counts_every_row(n, monkeypatch):
    monkeypatch.setattr(evaluation, "EVALUATION_ROWS", 8)
    images, labels = images_and_labels(n)
    params = fresh_state().params
    X, Y = unit_interval(images, SCALE), one_hot(labels, C)
    logits = jax.jit(feed_forward)(params, X)["Z2"]

    found = evaluate(params, images, labels, SCALE)

    np.testing.assert_allclose(found.logits, logits, atol=1e-6)
    np.testing.assert_allclose(found.loss, jax.jit(loss)(params, X, Y), rtol=1e-6)
    assert int(found.correct) == int((logits.argmax(axis=1) == labels).sum())
    assert found.accuracy == int(found.correct) / n


def test_an_other_learning_rate_runs_the_same_program(compilations):
    images, labels = images_and_labels(20)
    key = jax.random.key(0)
    train_epoch(fresh_state(), images, labels, SCALE, key, HYPER, program=Program(batch_size=8))
    other = Hyperparameters({"lr": jnp.float32(0.125), "beta": jnp.float32(0.5)})
    state = fresh_state(other)
    with compilations() as compiled:
        train_epoch(state, images, labels, SCALE, key, other, program=Program(batch_size=8))
    assert compiled == []


def test_the_state_is_donated():
    images, labels = images_and_labels(8)
    state = fresh_state()
    train_step(state, unit_interval(images, SCALE), one_hot(labels, C), HYPER)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_any_optax_optimiser_can_take_the_place_of_momentum():
    images, labels = images_and_labels(64)
    hyper = Hyperparameters({"learning_rate": jnp.float32(0.01)})
    program = Program(batch_size=16, optimiser=optax.adam)
    state = fresh_state(hyper, optax.adam)
    before = float(evaluate(state.params, images, labels, SCALE).loss)
    with jax.numpy_dtype_promotion("standard"):  # optax.adam raises a float to an integer power
        for epoch in range(5):
            key = jax.random.key(epoch)
            state = train_epoch(state, images, labels, SCALE, key, hyper, program=program)
    assert float(evaluate(state.params, images, labels, SCALE).loss) < before


def test_uint8_pixels_become_float32_from_0_to_1():
    X = unit_interval(jnp.arange(256, dtype=jnp.uint8)[None, :], SCALE)
    assert X.dtype == jnp.float32
    assert (X.min(), X.max()) == (0, 1)
    np.testing.assert_allclose(X[0], np.arange(256) / 255, rtol=2**-23)
