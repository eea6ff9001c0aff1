"""Large kernels in tiles of rows and columns, symmetric halves once."""

from collections.abc import Iterator

import numpy as np

from testbed.errors import UserError


def check_block_rows(block_rows: int | None) -> None:
    """Raises a `UserError` unless `block_rows` is None or a positive integer."""
    if block_rows is not None and block_rows < 1:
        raise UserError("block_rows", block_rows, "must be at least 1", "raise it")


def tiles(n1: int, n2: int, rows: int, symmetric: bool) -> Iterator[tuple[int, int]]:
    """Yields first row and first column of the tiles; j >= i only if `symmetric`."""
    for i in range(0, n1, rows):
        for j in range(i if symmetric else 0, n2, rows):
            yield i, j


def take_rows(x: np.ndarray, start: int, rows: int) -> np.ndarray:
    """x[start : start + rows], the last row repeated to full length.

    Every tile so has one shape, and one compiled program serves all.
    """
    return x[np.minimum(np.arange(start, start + rows), len(x) - 1)]
