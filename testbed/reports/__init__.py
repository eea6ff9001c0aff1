"""Figures and a one-file HTML report of a run, from the run's folder alone.

matplotlib is imported when a report is written, not before.
"""

from testbed.reports.record import Record, load_record
from testbed.reports.write import write_report

__all__ = ["Record", "load_record", "write_report"]
