"""Comparison: what rounding explains is accepted, one wrong entry in 50,000 is not."""

import numpy as np
import pytest

from jaxnn.gradcheck.compare import (
    NOISE_FACTOR,
    amplification,
    as_real,
    compare_leaf,
    compare_leaves,
    entry_floor,
    epsilon,
)


def matrix(seed=0, shape=(64, 784)):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(("dtype", "eps"), [("float64", 2.0**-52), ("float32", 2.0**-23)])
def test_epsilon_is_the_spacing_at_one(dtype, eps):
    assert epsilon(np.dtype(dtype)) == eps


def test_one_entry_of_fifty_thousand_off_by_one_percent_is_seen_and_located():
    true = matrix()
    given = true.copy()
    given[41, 300] *= 1.01
    leaf = compare_leaf("W1", given, true, NOISE_FACTOR * 2.0**-52 * np.abs(true).max())
    assert (leaf.ok, leaf.wrong, leaf.worst_index) == (False, 1, (41, 300))
    assert (leaf.given, leaf.true) == (given[41, 300], true[41, 300])


def test_rounding_to_float32_is_within_the_floor_of_each_entry():
    true = matrix()
    given = true.astype(np.float32).astype(np.float64)
    noise = matrix(1) * 1e-8
    floor = entry_floor(true, noise, 2.0**-23, 2.0**-23)
    leaf = compare_leaf("W1", given, true, floor)
    assert leaf.ok
    assert 0 < leaf.noise < 1


def test_the_floor_of_an_entry_follows_its_row_and_column():
    noise = np.outer([1.0, 1e-3], [1.0, 1e-4])
    floor = entry_floor(np.zeros((2, 2)), noise, 1.0, 1.0)
    assert floor == pytest.approx(NOISE_FACTOR * noise)


def test_amplification_is_the_scale_of_all_leaves_or_the_error_of_autodiff():
    truth = {"a": np.array([2.0]), "b": np.array([0.5])}
    kappa = amplification(truth, {"b": np.array([0.5 + 1e-3])}, 1e-4)
    assert kappa == pytest.approx({"a": 2.0, "b": 10.0})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_wrong(bad):
    leaf = compare_leaf("a", np.array([1.0, bad]), np.ones(2), 1.0)
    assert not leaf.ok
    assert leaf.worst_index == (1,)


@pytest.mark.parametrize(
    ("given", "true", "ratio", "cosine"),
    [
        ([2.0, 4.0], [1.0, 2.0], 2.0, 1.0),
        ([-1.0, 0.0], [1.0, 0.0], -1.0, -1.0),
        ([0.0, 0.0], [1.0, 2.0], 0.0, 0.0),
        ([0.0, 0.0], [0.0, 0.0], 1.0, 1.0),
        ([1e300, 0.0], [1e300, 0.0], 1.0, 1.0),
        ([3e-310, 0.0], [1e-310, 0.0], 3.0, 1.0),
    ],
)
def test_ratio_and_cosine(given, true, ratio, cosine):
    leaf = compare_leaf("a", np.array(given), np.array(true), 1e-9)
    assert (leaf.ratio, leaf.cosine) == pytest.approx((ratio, cosine))


@pytest.mark.parametrize(("value", "ok"), [(-1.0, True), (0.3, True), (1.0, True), (4.0, False)])
def test_between_the_one_sided_derivatives_nothing_is_wrong(value, ok):
    interval = np.array([-1.0, 2.0]), np.array([1.0, 2.0])
    leaf = compare_leaf("a", np.array([value, 2.0]), np.array([0.0, 2.0]), 1e-9, interval)
    assert (leaf.ok, leaf.kinks, leaf.interval) == (ok, 1, (-1.0, 1.0))


def test_a_kink_excuses_no_other_entry():
    interval = np.array([-1.0, 2.0]), np.array([1.0, 2.0])
    leaf = compare_leaf("a", np.array([0.0, 2.1]), np.array([0.0, 2.0]), 1e-9, interval)
    assert (leaf.ok, leaf.worst_index) == (False, (1,))


def test_missing_and_misshapen_leaves_are_reported_by_name():
    truth = {"a": np.zeros(2), "b": np.zeros(3)}
    reports = compare_leaves({"b": np.zeros((3, 1))}, truth, {"a": 1.0, "b": 1.0})
    assert [leaf.problem for leaf in reports] == ["missing", "shape (3, 1), expected (3,)"]
    assert not any(leaf.ok for leaf in reports)


def test_a_complex_number_is_two_real_ones():
    assert as_real(np.array([1 + 2j])) == pytest.approx(np.array([[1.0, 2.0]]))
