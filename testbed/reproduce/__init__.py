"""Figures of the literature, drawn anew, each with its claims decided by numbers."""

from testbed.reports.toolkit.style import load_matplotlib

load_matplotlib()  # whatever backend is named, before the modules here import it
