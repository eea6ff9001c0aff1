"""How a bayes sweep went: what it minimized, point by point."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from testbed.reports.toolkit import Caption, Drawing, blank, log_axis, style
from testbed.sweeps.gather import Table


def progress(runs: Table, order: Mapping[str, int]) -> Table:
    """The runs that have the metric, in the order in which they were proposed.

    Args:
      runs: of `Gathered`.
      order: {name of the run's folder: its place}.
    """
    found = runs[runs["metric"].notna()].copy()
    found["place"] = [
        order.get(str(run).rpartition("/")[2], -1) for run in found["run"]
    ]
    return found[found["place"] >= 0].sort_values("place")


def pictures(
    runs: Table, order: Mapping[str, int], metric: Mapping[str, Any]
) -> list[Drawing]:
    """The metric of each point, and the best so far."""
    found = progress(runs, order)
    if found.empty:
        return []
    from matplotlib.ticker import MaxNLocator

    maximize = metric.get("goal") == "maximize"
    values = found["metric"].to_numpy(float)
    best = (np.maximum if maximize else np.minimum).accumulate(values)
    figure, axes = blank(1, 1, 3.4)
    ax = axes[0, 0]
    places = found["place"].to_numpy() + 1
    ax.plot(places, values, "o", color=style.FINITE, label="a point")
    ax.step(places, best, where="post", color=style.LINEARIZED, label="best so far")
    if np.all(values > 0):
        log_axis(ax.yaxis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="points, in the order of their proposal", ylabel=str(metric["name"]))
    ax.legend()
    goal = "Maximized" if maximize else "Minimized"
    caption = Caption(
        f"{goal}: {metric['name']}. The first points are drawn at random, the later "
        "ones proposed by a Gaussian process from the results of those before.",
        look_for="Later points that lie nearer to the best one than the first ones do.",
    )
    return [Drawing("search", "The search", caption, figure)]
