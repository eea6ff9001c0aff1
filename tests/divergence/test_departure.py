import numpy as np
import pytest

from testbed.divergence import Departure, departure_time, relative_distance
from testbed.errors import UserError

TIMES = np.array([0.0, 0.5, 1.0, 2.0, 4.0])
NAN, INF = np.nan, np.inf


def test_departure_is_the_first_recorded_time_beyond_the_tolerance():
    """The first passing counts, a later return does not undo it; equality is within."""
    assert departure_time(TIMES, [NAN, 0.05, 0.2, 0.01, 0.3]) == 1.0
    assert departure_time(TIMES, [NAN, 0.05, 0.1, 0.1, 0.3]) == 4.0
    assert departure_time(TIMES, [NAN, 0.05, 0.2, 0.3, 0.4], tolerance=0.25) == 2.0


def test_departure_never_comes_within_the_tolerance():
    """A seed that never passes departs at +inf."""
    assert departure_time(TIMES, [NAN, 0.01, 0.02, 0.03, 0.04]) == INF


def test_nan_says_nothing_and_inf_has_passed():
    """0/0 at the start is passed over; a diverged predictor has departed."""
    assert departure_time(TIMES, [NAN, 0.01, INF, INF, INF]) == 1.0
    assert departure_time(TIMES, [NAN, NAN, 0.2, 0.2, 0.2]) == 1.0
    assert np.isnan(departure_time(TIMES, [NAN] * 5))


def test_departure_of_each_seed():
    """A column a seed; a larger tolerance never comes earlier."""
    relative = np.array(
        [[NAN, NAN, NAN], [0.2, 0.0, 0.05], [0.3, 0.0, 0.15], [1, 0, 0.2], [2, 0, 0.3]]
    )
    np.testing.assert_array_equal(departure_time(TIMES, relative), [0.5, INF, 1.0])
    stacked = departure_time(TIMES, np.stack([relative, relative], 1))
    np.testing.assert_array_equal(stacked, [[0.5, INF, 1.0]] * 2)
    tolerances = (0.01, 0.1, 0.2, 0.5, 5.0)
    later = [departure_time(TIMES, relative, tol) for tol in tolerances]
    assert (np.diff(np.where(np.isinf(later), 1e9, later), axis=0) >= 0).all()


def test_departure_of_a_diverging_trajectory():
    """Outputs t v against (t + t^2) v: relative t; then nan: departed at that time."""
    v = np.array([[1.0], [-2.0]])
    t = TIMES[:, None, None]
    f, g = (t + t**2) * v, t * v
    relative = relative_distance(f, g, g[0])
    assert np.isnan(relative[0])
    np.testing.assert_allclose(relative[1:], TIMES[1:], rtol=1e-14)
    assert departure_time(TIMES, relative, 0.7) == 1.0
    f[3:] = np.nan
    assert departure_time(TIMES, relative_distance(f, g, g[0]), 1.5) == 2.0


@pytest.mark.parametrize("tolerance", [0.0, -1.0, NAN])
def test_departure_tolerance_must_be_positive(tolerance):
    """A tolerance that everything passes is refused."""
    with pytest.raises(UserError, match="tolerance"):
        departure_time(TIMES, np.zeros(5), tolerance)


def test_departure_time_comes_first():
    """Relative distances must have the recorded times as their first axis."""
    with pytest.raises(UserError, match="relative.shape=.*first"):
        departure_time(TIMES, np.zeros((3, 5)))
    with pytest.raises(UserError, match="relative.shape"):
        departure_time(TIMES, 0.3)


@pytest.mark.parametrize(
    ("times", "expected", "text"),
    [
        ([1.0, 2.0, 4.0], Departure(2, 1, 4, 3, 3), "2 [1, 4], 3 of 3"),
        ([INF, 2.0, 0.9], Departure(2, 0.9, 2, 2, 3), "2 [0.9, 2], 2 of 3"),
        ([1.0, INF], Departure(INF, 1, 1, 1, 2), "1 of 2 seeds, first at 1"),
        ([1, INF, INF], Departure(INF, 1, 1, 1, 3), "1 of 3 seeds, first at 1"),
        ([INF, INF], Departure(INF, INF, INF, 0, 2), "never"),
        ([1.3], Departure(1.3, 1.3, 1.3, 1, 1), "1.3 [1.3, 1.3], 1 of 1"),
        ([NAN, 1.0, 3.0], Departure(2, 1, 3, 2, 2), "2 [1, 3], 2 of 2"),
    ],
)
def test_departure_summary(times, expected, text):
    """Median with never as +inf, range over those that departed, and how many did."""
    summary = Departure.of_seeds(times)
    assert summary == expected
    assert str(summary) == text


@pytest.mark.parametrize("times", [[], [NAN, NAN]])
def test_departure_of_no_seeds_is_undefined(times):
    """Nothing known is neither a time nor never."""
    summary = Departure.of_seeds(times)
    assert str(summary) == "undefined" and summary.of == 0
    assert np.isnan(summary.median)


def test_departure_numbers_are_plain():
    """Fields are Python numbers, so that a summary goes into JSON as it is."""
    summary = Departure.of_seeds(np.array([1.0, INF, 2.0]))
    assert type(summary.median) is float and type(summary.highest) is float
    assert type(summary.departed) is int and type(summary.of) is int
