"""How far two predictors are apart on the same examples."""

import numpy as np
from numpy.typing import ArrayLike


def rms_distance(f: ArrayLike, g: ArrayLike) -> np.ndarray:
    """sqrt(mean over examples and outputs of (f - g)^2).

    Args:
      f: outputs (..., N, C).
      g: outputs (..., N, C); leading axes broadcast.

    Returns:
      (...), float64.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # a diverged predictor
        difference = np.asarray(f, np.float64) - np.asarray(g, np.float64)
        return np.sqrt(np.mean(difference**2, (-2, -1)))


def relative_distance(
    f: ArrayLike, g: ArrayLike, g_start: ArrayLike, rounding: ArrayLike = 0.0
) -> np.ndarray:
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
      rounding: size of rounding errors in f, (...) or a number.

    Returns:
      (...), float64.  nan where there is no unit: the reference has not moved, or is
      not finite itself; and where all that is seen is rounding, RMS(f - g) below
      `rounding` although the reference has moved less than a thousand times that, so
      that a small distance could not be told from a large one.  inf where the reference
      is fine and f is not finite.
    """
    distance, moved = rms_distance(f, g), rms_distance(g, g_start)
    distance = np.where(np.isnan(distance), np.inf, distance)
    rounding = np.asarray(rounding, np.float64)
    told = (distance > rounding) | (moved > 1000 * rounding)
    defined = (moved > 0) & np.isfinite(moved) & told
    return np.where(defined, distance / np.where(defined, moved, 1.0), np.nan)


def accuracy(outputs: ArrayLike, labels: ArrayLike) -> np.ndarray:
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
    f, labels = np.asarray(outputs), np.asarray(labels)
    predicted = f[..., 0] > 0 if f.shape[-1] == 1 else np.argmax(f, -1)
    predicted = np.where(np.isnan(f).any(-1), -1, predicted)
    return np.asarray(np.mean(predicted == labels, -1, dtype=np.float64))
