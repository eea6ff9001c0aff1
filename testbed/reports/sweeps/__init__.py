"""The report of a sweep: one module a figure, and what they draw from."""
