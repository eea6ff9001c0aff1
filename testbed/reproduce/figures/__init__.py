"""One figure a file; its docstring says what it asks, from where, and what to expect.

A file has `reproduce(quick) -> Result`; `testbed.reproduce.registry.NAMES` lists them.
"""
