"""The shuffle is a permutation, every permutation is as likely as any other, and keys decide."""

from collections import Counter

import jax
import numpy as np
import pytest

from jaxnn.training.shuffle import permutation


@pytest.mark.parametrize("n", [1, 2, 3, 64, 65, 1437, 65_536, 65_537, 300_000])
def test_every_index_occurs_once(n):
    assert np.array_equal(np.sort(permutation(jax.random.key(0), n)), np.arange(n))


def test_all_permutations_are_equally_likely():
    draws = 24_000
    keys = jax.random.split(jax.random.key(1), draws)
    orders = np.asarray(jax.vmap(lambda key: permutation(key, 4))(keys))
    counts = Counter(map(tuple, orders.tolist()))
    # Each of 4! = 24 orders is expected 1,000 times; χ² with 23 degrees of freedom stays below 49.7
    # in all but one of a thousand samples.
    assert len(counts) == 24
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 49.7


def test_large_orders_are_not_sorted_in_part():
    """Of all pairs of neighbours half are in ascending order: ± 5 standard deviations, √(n/12)."""
    n = 60_000
    order = np.asarray(permutation(jax.random.key(2), n)).astype(int)
    ascending = (np.diff(order) > 0).sum()
    assert abs(ascending - (n - 1) / 2) < 5 * np.sqrt(n / 12)


def test_the_key_decides():
    first, again, other = (permutation(jax.random.key(seed), 1000) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
