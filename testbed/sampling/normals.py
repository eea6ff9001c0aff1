"""Gaussian numbers and fair signs from one set of random bits."""

import jax
import jax.numpy as jnp
import numpy as np


def normal_and_sign(
    key: jax.Array, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """Independent N(0, 1) numbers and fair signs in {-1, +1}, float32.

    Of every 32 random bits the upper 23 make the uniform number u in (-1, 1) of
    sqrt(2) erfinv(u), as in `jax.random.normal`, and the lowest one makes the sign.  So
    the signs of a Balanced network cost nothing.

    Args:
      key: a PRNG key.
      shape: of both results.
    """
    bits = jax.random.bits(key, shape, jnp.uint32)
    sign = 1.0 - 2.0 * (bits & 1).astype(jnp.float32)
    # Exponent bits of 1.0 make a float in [1, 2) of any 23 bits of mantissa.
    unit = jax.lax.bitcast_convert_type((bits >> 9) | jnp.uint32(0x3F800000), "float32")
    low = np.nextafter(np.float32(-1), np.float32(0))
    u = jnp.maximum(low, (unit - 1) * (np.float32(1) - low) + low)
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(u), sign
