"""The lowest point of the highest of some cutting planes: the master problem of Kelley's method (1960).

For one row it is a walk along the upper envelope of lines. For several it is a linear programme with as many rows as
have a price and one more; solved in its dual form, where it mixes plans (Dantzig and Wolfe 1960), any plan alone is a
basis to begin with, so a plain simplex tableau does it in a few pivots of a small matrix.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ZERO = 1e-11
_PIVOTS = 500


def lowest(saliency: Array, excess: Array, limit: float) -> tuple[float, Array]:
    """Prices in [0, ``limit``] at which ``max_i saliency[i] - prices @ excess[i]`` is least, and that least value.

    Args:
        saliency: (n,) of plans.
        excess: (n, rows).
    """
    if excess.shape[1] == 1:
        return _lowest_of_lines(saliency, excess[:, 0], limit)
    offset, scale = float(saliency.max()), max(float(np.ptp(saliency)), 1e-300)
    prices = _mix((saliency - offset) / scale, excess, limit / scale) * scale
    return float((saliency - excess @ prices).max()), prices


def _lowest_of_lines(saliency: Array, excess: Array, limit: float) -> tuple[float, Array]:
    value_at_0 = np.flatnonzero(saliency == saliency.max())
    line, price = int(value_at_0[excess[value_at_0].argmin()]), 0.0
    while excess[line] > 0:
        rising: NDArray[np.bool_] = excess < excess[line]
        with np.errstate(divide="ignore", invalid="ignore"):
            meets = np.where(rising, (saliency[line] - saliency) / (excess[line] - excess), np.inf)
        following = max(float(meets.min()), price)
        if following >= limit:
            price = limit
            break
        price = following
        at = np.flatnonzero(rising & (meets <= price))
        line = int(at[excess[at].argmin()])
    return float((saliency - price * excess).max()), np.array([price])


def _mix(saliency: Array, excess: Array, limit: float) -> Array:
    """Prices from the mix of plans of most saliency whose mean excess, less what ``limit`` buys off, is at most 0.

    max saliency @ y - limit * sum(w)  subject to  excess.T @ y - w + slack = 0,  sum(y) = 1,  y, w, slack >= 0
    """
    n, rows = excess.shape
    start = int(np.argmax(saliency - limit * np.maximum(excess, 0).sum(axis=1)))
    table = np.zeros((rows + 1, n + 2 * rows + 1))
    table[:rows, :n] = excess.T
    table[:rows, n : n + rows] = -np.eye(rows)
    table[:rows, n + rows : -1] = np.eye(rows)
    table[rows, :n] = 1
    table[rows, -1] = 1
    gain = np.concatenate([saliency, np.full(rows, -limit), np.zeros(rows), [0.0]])
    over = excess[start] > 0
    basis = np.append(np.where(over, n, n + rows) + np.arange(rows), start)
    table[:rows] -= excess[start][:, None] * table[rows]
    table[:rows][over] *= -1
    reduced = gain - gain[basis] @ table
    for pivot in range(_PIVOTS):
        # The steepest column; after many pivots the first one, which cannot go round in circles (Bland 1977).
        better = np.flatnonzero(reduced[:-1] > _ZERO * max(1.0, limit))
        if not len(better):
            break
        column = int(better[0] if pivot > _PIVOTS // 2 else better[reduced[better].argmax()])
        up = table[:, column] > _ZERO
        if not up.any():
            break
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(up, table[:, -1] / table[:, column], np.inf)
        ties = np.flatnonzero(ratio <= ratio.min() + _ZERO)
        row = int(ties[basis[ties].argmin()])
        table[row] /= table[row, column]
        others = np.arange(rows + 1) != row
        table[others] -= table[others, column][:, None] * table[row]
        reduced = reduced - reduced[column] * table[row]
        basis[row] = column
    # A row's price is what its slack would cost.
    prices: Array = np.clip(-reduced[n + rows : -1], 0, limit)
    return prices
