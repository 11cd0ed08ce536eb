"""A random order of the examples, drawn on the device."""

import jax
import jax.numpy as jnp
from jax import Array


def permutation(key: Array, n: int) -> Array:
    """A random permutation of 0 … n − 1 as uint32 (n,), for n up to 2³¹.

    The order of n random numbers, sorted digit by digit, the least significant digit first (a radix
    sort). Each digit is packed above the position that it belongs to, so that a round sorts single
    integers: XLA does that eight times as fast as it sorts keys together with values, which
    `jax.random.permutation` does. The digits of a number have at least 32 bits together.
    """
    position_bits = max(n - 1, 1).bit_length()
    digit_bits = 32 - position_bits
    rounds = -(-32 // digit_bits)
    positions = jnp.arange(n, dtype=jnp.uint32)
    order = positions
    for digits in jax.random.bits(key, (rounds, n), jnp.uint32):
        packed = (digits << position_bits) | positions
        order = order[jnp.sort(packed) & jnp.uint32(2**position_bits - 1)]
    return order
