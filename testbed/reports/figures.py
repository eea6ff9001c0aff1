"""All figures of a report, in their order."""

from testbed.reports.kernels import kernel, spectrum
from testbed.reports.network import layers, movement
from testbed.reports.predictions import distances, ensemble, losses
from testbed.reports.record import Record
from testbed.reports.toolkit import Drawing

FIGURES = (losses, distances, ensemble, kernel, spectrum, layers, movement)


def draw(record: Record) -> list[Drawing]:
    """Draws every figure; one that cannot be drawn says why in its caption."""
    return [figure(record) for figure in FIGURES]
