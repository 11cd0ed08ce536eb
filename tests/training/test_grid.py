"""The grid of a sweep: its groups, the intervals, and the choice."""

import math

import pytest

from jaxnn.training.config import Config
from jaxnn.training.grid import best_point, best_run, grid, groups, interval, points

BASE = Config(epochs=2, validation=10.0)


def history(*losses):
    return tuple(
        {"epoch": epoch, "validation_loss": loss, "validation_accuracy": 1 - loss / 10}
        for epoch, loss in enumerate(losses, start=1)
    )


def test_every_combination_once_the_seeds_of_a_point_beside_each_other():
    configs = grid(BASE, {"lr": [0.1, 0.5, 0.1], "seed": range(2)})
    assert [(c.lr, c.seed) for c in configs] == [(0.1, 0), (0.1, 1), (0.5, 0), (0.5, 1)]
    assert {c.epochs for c in configs} == {2}


def test_runs_that_differ_in_arguments_alone_share_a_program():
    axes = {"n_h": [(3,), (3, 3)], "batch_size": [8, 9], "lr": [0.1, 1], "beta": [0, 0.5]}
    found = groups(grid(BASE, {**axes, "seed": [0, 1]}))
    assert [len(group) for group in found] == [8] * 4
    assert len({(group[0].n_h, group[0].batch_size) for group in found}) == 4


def test_students_interval_of_the_mean():
    # The 97.5 % quantile of t with 2 degrees of freedom is 4.302653; s = 1, n = 3.
    found = interval([1.0, 2.0, 3.0])
    assert found == (2.0, pytest.approx(4.302653 / math.sqrt(3), rel=1e-6), 3)


def test_a_single_run_has_no_interval():
    found = interval([0.5])
    assert (found.mean, found.n) == (0.5, 1)
    assert math.isnan(found.half)


def test_the_lowest_mean_is_chosen_and_its_best_run_kept():
    steady, lucky = (grid(BASE, {"lr": [lr], "seed": [0, 1]}) for lr in (0.1, 0.2))
    histories = {
        steady[0]: history(0.9, 0.4),
        steady[1]: history(0.3, 0.5),
        lucky[0]: history(0.1, 0.2),
        lucky[1]: history(0.8, 0.7),
    }
    found = points(histories)
    assert [p.loss.mean for p in found] == pytest.approx([0.35, 0.4])
    assert [p.runs[c]["epoch"] for p in found for c in p.runs] == [2, 1, 1, 2]
    best = best_point(found)
    assert best.config == steady[0]
    assert best_run(best) == steady[1]


def test_a_point_of_which_a_run_diverged_is_not_chosen():
    good, bad, worse = (grid(BASE, {"lr": [lr], "seed": [0, 1]}) for lr in (0.1, 0.2, 9))
    histories = {c: history(0.5) for c in good} | {bad[0]: history(0.1), bad[1]: history(0.1)}
    histories |= dict.fromkeys(worse, ())
    found = points(histories, [bad[1], *worse])
    assert [p.diverged for p in found] == [0, 1, 2]
    assert best_point(found).config == good[0]
    assert found[2].loss is None
    assert best_point(found[1:]) is None


def test_a_point_that_no_run_has_reached_is_left_out():
    one, other = grid(BASE, {"lr": [0.1, 0.2]})
    assert [p.config for p in points({one: history(0.5), other: ()})] == [one]
