"""How far two predictors are apart on the same examples."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from testbed.divergence.broadcast import aligned


def rms_distance(f: ArrayLike, g: ArrayLike) -> jax.Array:
    """sqrt(mean over examples and outputs of (f - g)^2).

    Args:
      f: outputs (..., N, C).
      g: outputs (..., N, C); leading axes broadcast.

    Returns:
      (...), float64.
    """
    f, g = aligned(f, g)
    return jnp.sqrt(jnp.mean((f - g) ** 2, (-2, -1)))


def relative_distance(f: ArrayLike, g: ArrayLike, g_start: ArrayLike) -> jax.Array:
    """RMS(f - g) / RMS(g - g_start): the way the reference has gone is the unit.

    Why not RMS(g): a kernel predictor starts at 0 or at the network's own f_0, and a
    ratio to its size would mean two things.  This one does not change when f_0 is added
    to all three; and it tends to 0 as t -> 0 for a network f against its linearization
    g, because both leave f_0 with the same derivative.  (Against a reference that
    starts elsewhere, e.g. the infinite network's mean against an f that was not
    centred, it starts at infinity.)

    Args:
      f: outputs of the predictor (..., N, C).
      g: outputs of the reference.
      g_start: outputs of the reference at t = 0, exactly as recorded.
        Leading axes of all three broadcast.

    Returns:
      (...), float64.  nan where there is no unit: the reference has not moved, or is
      not finite itself.  inf where the reference is fine and f is not finite.
    """
    distance, moved = aligned(rms_distance(f, g), rms_distance(g, g_start))
    distance = jnp.where(jnp.isnan(distance), jnp.inf, distance)
    defined = (moved > 0) & jnp.isfinite(moved)
    return jnp.where(defined, distance / jnp.where(defined, moved, 1.0), jnp.nan)


def accuracy(outputs: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Share of examples whose predicted class is the true one.

    The predicted class is the largest output; for C = 1 it is 1 where the output is
    positive, since class 0 is coded -1 and class 1 is coded +1.  A tie goes to the
    lower class; an output that is nan is wrong.

    Args:
      outputs: (..., N, C).
      labels: integers 0, 1, ..., (..., N).

    Returns:
      (...), float64.
    """
    f, labels = jnp.asarray(outputs), jnp.asarray(labels)
    predicted = f[..., 0] > 0 if f.shape[-1] == 1 else jnp.argmax(f, -1)
    predicted = jnp.where(jnp.isnan(f).any(-1), -1, predicted)
    predicted, labels = aligned(predicted, labels)
    return jnp.mean(predicted == labels, -1, dtype=jnp.float64)
