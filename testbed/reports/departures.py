"""When a run's networks left their linearizations, in numbers and in words."""

import numpy as np

from testbed.divergence import Departure, departure_time
from testbed.reports.record import Record


def departures(record: Record, split: str) -> np.ndarray:
    """Departure time of each network from its linearization on `split`, (E,)."""
    return departure_time(record.times, _relative(record, split), _tolerance(record))


def above_at_end(record: Record, split: str) -> int:
    """How many networks are above the tolerance at the last recorded time."""
    return int((_relative(record, split)[-1] > _tolerance(record)).sum())


def departure_words(record: Record, split: str) -> str:
    """Who departed and when, short enough for a title."""
    d = Departure.of_seeds(departures(record, split))
    if not d.of:
        return "nothing can be said"
    if not d.departed:
        return "no network departs" if d.of > 1 else "the network does not depart"
    when = f"t = {d.lowest:.3g}"
    if d.highest > d.lowest:
        when += f" to {d.highest:.3g}"
    if d.of == 1:
        return f"the network departs at {when}"
    if d.departed < d.of:
        return f"{d.departed} of {d.of} networks depart, at {when}"
    return f"{'both' if d.of == 2 else f'all {d.of}'} networks depart, at {when}"


def _relative(record: Record, split: str) -> np.ndarray:
    return record.metrics[f"distance/finite_linearized/{split}/relative"]


def _tolerance(record: Record) -> float:
    return record.config["measure.tolerance"]
