"""The loss as a witness: differences, Taylor slopes and kinks."""

import numpy as np
import pytest

from jaxnn.gradcheck import witness

POINT = {"x": np.array([0.7, -1.3, 2.1])}


def cubic(point):
    return float((point["x"] ** 3).sum())


@pytest.mark.parametrize(
    ("factor", "status", "said", "slope"),
    [
        (1.0, "confirms", "agrees with autodiff", 2.0),
        (1.01, "disputes", "disputes what autodiff claims", 1.0),
    ],
)
def test_the_taylor_slope_is_two_for_the_derivative_only(factor, status, said, slope):
    gradient = {"x": 3 * POINT["x"] ** 2}
    claimed = {"x": factor * gradient["x"]}
    found = witness.examine(cubic, POINT, claimed, gradient)
    assert found.status == status
    assert str(found).startswith(f"The loss {said}: central difference ")
    assert found.slope == pytest.approx(slope, abs=0.2)
    assert found.given_slope == pytest.approx(2.0, abs=0.05)


def test_a_linear_loss_has_no_remainder():
    found = witness.examine(
        lambda p: float(p["x"].sum()), POINT, {"x": np.ones(3)}, {"x": np.ones(3)}
    )
    assert (found.status, found.slope) == ("confirms", 2.0)


def test_a_kink_is_no_dispute():
    found = witness.examine(
        lambda p: float(np.abs(p["x"]).sum()),
        {"x": np.zeros(3)},
        {"x": np.zeros(3)},
        {"x": np.zeros(3)},
    )
    assert found.status == "kink"
    assert str(found).startswith("The loss has a kink here: central difference ")


def test_a_loss_that_overflows_nearby_is_silent():
    found = witness.examine(lambda p: float("inf"), POINT, POINT, POINT)
    assert found.status == "silent"
    assert str(found).startswith("The loss could not be evaluated nearby: central difference ")


def test_only_entries_on_a_kink_have_an_interval():
    point = {"x": np.array([0.0, 1.0, -1e-3])}
    low_high = witness.kinks(
        lambda p: {"x": np.where(p["x"] > 0, 2.0 + p["x"], -1.0)},
        point,
        {"x": np.array([-1.0, 3.0, -1.0])},
        {"x": np.zeros(3)},
    )
    low, high = low_high["x"]
    np.testing.assert_allclose(high - low, [3.0, 0.0, 0.0], atol=1e-5)


def test_partial_derivatives_by_differences():
    disputed = np.array([True, False, True])
    found, error = witness.partials(cubic, POINT, "x", disputed)
    expected = 3 * POINT["x"] ** 2
    assert np.isnan(found[1])
    assert (np.abs(found - expected)[disputed] <= error[disputed]).all()
    assert (error[disputed] < 1e-4).all()


def test_at_an_optimum_the_loss_confirms():
    """Every entry of the gradient cancels to rounding, and so does the difference quotient."""
    X = np.random.default_rng(0).normal(size=(31, 5))
    y = X @ np.arange(1.0, 6.0) + 0.1 * np.random.default_rng(1).normal(size=31)
    best = np.linalg.lstsq(X, y, rcond=None)[0]
    truth = {"w": X.T @ (X @ best - y)}
    found = witness.examine(
        lambda point: float(((X @ point["w"] - y) ** 2).sum() / 2), {"w": best}, truth, truth
    )
    assert found.status == "confirms"
