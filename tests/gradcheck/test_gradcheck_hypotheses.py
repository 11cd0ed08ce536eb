"""One array, one mistake: each hypothesis finds its own."""

import numpy as np
import pytest

from jaxnn.gradcheck.hypotheses import Facts, explain_leaf, factor_name

FACTS = Facts({"m": 17, "C": 5, "n_x": 11})
W = np.random.default_rng(1).normal(size=(7, 7))
PARTS = np.random.default_rng(0).normal(size=(17, 7, 7))
TRUE = PARTS.sum(axis=0)


def without(*examples):
    return np.delete(PARTS, examples, axis=0).sum(axis=0)


def changed(index, value):
    array = TRUE.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("given", "codes", "detail"),
    [
        (TRUE, [], ""),
        (-TRUE, ["sign"], ""),
        (17 * TRUE, ["missing_mean"], ""),
        (TRUE / 17, ["extra_mean"], ""),
        (-TRUE / 17, ["sign", "extra_mean"], ""),
        (np.pi * TRUE, ["scale"], ""),
        (0 * TRUE, ["zero"], ""),
        (TRUE.T, ["transpose"], ""),
        (2 * TRUE.T, ["transpose", "scale"], ""),
        (TRUE - 0.1 * W, ["missing_regularisation"], "0.1 W is missing"),
        (17 * TRUE - 1.6 * W, ["missing_mean"], ""),
        (changed(3, 0.0), ["partial"], "row 3 of it 0"),
        (changed((slice(None), 2), 0.0), ["partial"], "column 2 of it 0"),
        (changed((4, 5), 0.0), ["partial"], "entry (4, 5) of it 0"),
        (changed(3, -TRUE[3]), ["sign"], "only row 3"),
        (changed((4, 5), 1.01 * TRUE[4, 5]), ["scale"], "only entry (4, 5)"),
        (without(16), ["partial"], "example 16 of 17 do not contribute"),
        (without(0, 5, 9), ["partial"], "examples 0, 5, 9 of 17 do not contribute"),
        (PARTS[3], ["partial"], "all but example 3 of 17 do not contribute"),
        (changed((1, 1), np.nan), ["non_finite"], "1 of 49"),
        (PARTS, ["bias_not_reduced"], "shape (17, 7, 7)"),
        (TRUE.ravel(), ["shape"], "expected (7, 7), found (49,)"),
    ],
)
def test_the_mistake_is_named(given, codes, detail):
    marks = explain_leaf(given, TRUE, 1e-12, FACTS, W, lambda: PARTS)
    assert [mark.code for mark in marks or ()] == codes
    assert [mark.detail for mark in marks or ()][:1] == [detail] * bool(codes)


def test_what_no_hypothesis_explains_is_unknown():
    assert explain_leaf(TRUE**3, TRUE, 1e-12, FACTS, W, lambda: PARTS) is None


def test_a_transposed_matrix_that_is_not_square_is_no_mere_shape():
    marks = explain_leaf(TRUE[:3].T, TRUE[:3], 1e-12, FACTS)
    assert [mark.code for mark in marks or ()] == ["transpose"]


@pytest.mark.parametrize(
    ("constant", "name"),
    [
        (0.2, "0.2 = 1/C"),
        (17 / 16, "1.0625 = m/(m − 1)"),
        (0.1, "0.1 = 1 − β for β = 0.9"),
        (17 / 11, "1.54545 = m/n_x"),
        (np.pi, "3.14159"),
    ],
)
def test_constants_have_names(constant, name):
    assert factor_name(constant, FACTS.sizes) == name
