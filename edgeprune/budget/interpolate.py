"""Multilinear interpolation on grids of widths: exact at grid points, clamped at the edges."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray


def interpolate(
    grids: Sequence[NDArray[np.int64]], table: NDArray[np.float64], totals: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Values of several quantities at n points.

    Args:
        grids: d ascending arrays of widths.
        table: shape (len(grids[0]), …, len(grids[d-1]), q).
        totals: d arrays of shape (n,), the points.

    Returns:
        Shape (n, q).
    """
    brackets = [_bracket(g, t) for g, t in zip(grids, totals, strict=True)]
    value = np.zeros((len(totals[0]), table.shape[-1]))
    for corner in product((0, 1), repeat=len(brackets)):
        index = tuple(above if c else below for c, (below, above, _) in zip(corner, brackets, strict=True))
        weight = np.ones(len(value))
        for c, (_, _, t) in zip(corner, brackets, strict=True):
            weight *= t if c else 1.0 - t
        value += weight[:, None] * table[index]
    return value


def tabulate(
    grids: Sequence[NDArray[np.int64]], table: NDArray[np.float64], totals: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """The same at every combination of totals, one axis after the other: what lies on the grid is copied.

    Args:
        totals: for each axis those asked for, shape (m_i,).

    Returns:
        Shape (m_0, …, m_(d-1), q).
    """
    for axis, (grid, wanted) in enumerate(zip(grids, totals, strict=True)):
        if np.array_equal(grid, wanted):
            continue
        below, above, part = _bracket(grid, wanted)
        lower = table.take(below, axis=axis)
        if part.any():
            weight = part.reshape([-1 if i == axis else 1 for i in range(table.ndim)])
            lower = lower * (1.0 - weight) + table.take(above, axis=axis) * weight
        table = lower
    return table


def _bracket(
    grid: NDArray[np.int64], totals: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Indices of the grid points below and above, and how far (0..1) the total lies between them."""
    position = np.interp(totals, grid, np.arange(len(grid)))
    below = position.astype(np.int64)
    above = np.minimum(below + 1, len(grid) - 1)
    return below, above, position - below
