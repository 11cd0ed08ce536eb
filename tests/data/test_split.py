"""The validation split: stratified, by seed, nothing lost, and nothing of the test set in it."""

import numpy as np
import pytest

from jaxnn.data import with_validation
from jaxnn.errors import UsageError

from .. import small

DATA = small.dataset(n_train=230)


def rows(x, y):
    return sorted((*image, label) for image, label in zip(x.tolist(), y.tolist(), strict=True))


@pytest.mark.parametrize(("share", "size"), [(0.2, 46), (23, 23), (1, 1), (229, 229)])
def test_every_example_is_on_one_side(share, size):
    split = with_validation(DATA, share, seed=0)
    assert (split.n_train, split.n_test) == (230 - size, size)
    together = np.concatenate([split.x_train, split.x_test])
    labels = np.concatenate([split.y_train, split.y_test])
    assert rows(together, labels) == rows(DATA.x_train, DATA.y_train)


@pytest.mark.parametrize("share", [0.1, 0.25, 50])
def test_each_class_gives_its_proportion_rounded(share):
    split = with_validation(DATA, share, seed=3)
    held, whole = np.bincount(split.y_test), np.bincount(DATA.y_train)
    assert np.abs(held - whole * split.n_test / 230).max() < 1


def test_the_seed_decides():
    one, again, other = (with_validation(DATA, 0.2, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.x_test, again.x_test)
    assert rows(one.x_test, one.y_test) != rows(other.x_test, other.y_test)


@pytest.mark.parametrize("share", [230, 1000, 0.001, 0.999])
def test_a_side_without_examples_is_refused(share):
    with pytest.raises(UsageError, match=r"`validation` .*expected 1 to 229 of the 230"):
        with_validation(DATA, share, seed=0)
