"""Many networks in one program: each is the run that it would be alone."""

import functools

import jax
import numpy as np
import pytest

from jaxnn.compilation import QUICKLY
from jaxnn.data import with_validation
from jaxnn.errors import UsageError
from jaxnn.training import sweep as sweeps
from jaxnn.training.evaluation import evaluate
from jaxnn.training.grid import best_run, grid, points
from jaxnn.training.loop import Engine, epoch_program, train_epochs
from jaxnn.training.program import Hyperparameters, Program

from .. import small

#: 33 examples in batches of 8 leave a last batch of one.
CONFIGS = grid(
    small.config(epochs=3, validation=10.0), {"lr": [0.5, 3.0], "beta": [0.9, 0.0], "seed": [0, 1]}
)


@pytest.fixture(scope="module", autouse=True)
def _compiled_quickly():
    """These programs run a few times only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeps, "compiled", lambda program, spread: program.compile(QUICKLY))
        yield


@pytest.fixture(scope="module")
def swept():
    """All runs at once: the last status."""
    return list(sweeps.sweep(small.dataset(), CONFIGS))[-1]


@functools.cache
def one_epoch():
    training_set = with_validation(small.dataset(), CONFIGS[0].validation, 0)
    program, hyper = Program.of(CONFIGS[0], training_set), Hyperparameters.of(CONFIGS[0])
    return epoch_program(training_set, CONFIGS[0], program, hyper)


@functools.cache
def alone(config):
    training_set = with_validation(small.dataset(), config.validation, config.seed)
    scale, hyper = np.float32(training_set.scale), Hyperparameters.of(config)

    def step(state, images, labels, key, order, done):
        return one_epoch()(state, images, labels, scale, key, hyper, order)

    engine = Engine(step, jax.device_put, functools.partial(evaluate, scale=scale))
    return list(train_epochs(training_set, config, engine=engine))[-1]


def figures(histories):
    names = [name for name in histories[CONFIGS[0]][0] if name != "seconds"]
    return np.array([[[record[n] for n in names] for record in h] for h in histories.values()])


def assert_same(one, other):
    """Up to the order of sums: 15 steps of float32."""
    np.testing.assert_allclose(figures(one.histories), figures(other.histories), rtol=1e-5)


def test_each_network_equals_the_same_run_alone(swept):
    assert (swept.done, swept.total, swept.diverged) == (24, 24, {})
    for config in CONFIGS:
        one, found = alone(config).history, swept.histories[config]
        for wanted, record in zip(one, found, strict=True):
            assert list(wanted) == list(record)
            wanted = {name: value for name, value in wanted.items() if name != "seconds"}
            assert {name: record[name] for name in wanted} == pytest.approx(wanted, rel=1e-5)


def test_the_state_of_a_points_best_run_is_kept(swept):
    found = points(swept.histories)
    assert len(found) == 4
    for point in found:
        config = best_run(point)
        one, kept = alone(config), swept.snapshot(config)
        assert kept.history == swept.histories[config]
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
            (one.state, one.best),
            (kept.state, kept.best),
        )


def test_parts_that_fit_into_little_memory_give_the_same(swept):
    devices = jax.devices()[:1]
    fixed, each = sweeps.memory_needed(small.dataset(), CONFIGS[0], 1, devices[0].platform)
    steps = list(sweeps.sweep(small.dataset(), CONFIGS, fixed + 3 * each, devices))
    assert [(step.first, len(step.chunk)) for step in steps[::3]] == [(0, 3), (3, 3), (6, 2)]
    assert_same(steps[-1], swept)
    for point in points(swept.histories):
        config = best_run(point)
        parts, whole = (s.snapshot(config).state.params["W1"] for s in (steps[-1], swept))
        np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-6)


def test_side_by_side_gives_the_same_as_in_turn(swept, monkeypatch):
    monkeypatch.setattr(sweeps, "_each", lambda platform: lambda one, runs: jax.vmap(one)(runs))
    assert_same(list(sweeps.sweep(small.dataset(), CONFIGS))[-1], swept)


def test_memory_too_small_for_one_network():
    with pytest.raises(UsageError, match=r"`memory`: expected at least 1 MiB .*layers 7 on each"):
        sweeps.require_memory(small.dataset(), CONFIGS, 1000)


def test_the_estimate_covers_what_xla_allots():
    data, device = small.dataset(n_train=4000, n_x=50), jax.devices()[:1]
    program = sweeps.SweepProgram(data, CONFIGS, device)
    fixed, each = sweeps.memory_needed(data, CONFIGS[0], 1, device[0].platform)
    for compiled in (program._epoch, program._measure):
        found = compiled.memory_analysis()
        allotted = (
            found.argument_size_in_bytes
            + found.output_size_in_bytes
            - found.alias_size_in_bytes
            + found.temp_size_in_bytes
        )
        assert allotted <= fixed + len(CONFIGS) * each <= 8 * allotted


def test_a_run_that_diverges_ends_and_the_others_go_on():
    chunk, histories, diverged = CONFIGS[:3], dict.fromkeys(CONFIGS[:3], ()), {}
    for epoch, losses in enumerate([(1, 1, 1), (1, np.nan, 1), (1, 1, np.inf)], start=1):
        measures = dict.fromkeys(sweeps.MEASURES, (0.5, 0.5, 0.5)) | {"train_loss": losses}
        sweeps._note(chunk, epoch, measures, 6.0, histories, diverged)
    assert diverged == {chunk[1]: 2, chunk[2]: 3}
    assert [len(histories[config]) for config in chunk] == [3, 1, 2]
    assert histories[chunk[1]] == (
        {"epoch": 1, "train_loss": 1, "validation_loss": 0.5}
        | {"train_accuracy": 0.5, "validation_accuracy": 0.5, "seconds": 2.0},
    )


@pytest.mark.parametrize("term", [{"dropout": 0.1}, {"init": "he"}, {"schedule": "cosine"}])
def test_a_sweep_refuses_what_it_does_not_train(term):
    with pytest.raises(UsageError, match="no further terms"):
        next(sweeps.sweep(small.dataset(), [small.config(validation=10.0, **term)]))
