"""Confidence intervals that assume little: of a median by order statistics, of a high quantile by resampling turns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


@cache
def _rank(n: int, alpha: float) -> int:
    """The largest r for which fewer than r of n fair coins show heads with a chance of at most ``alpha``; 0: none."""
    chance, total = 0.5**n if n < 1000 else 0.0, 0.0
    if not chance:  # the normal law, where a binomial one would underflow
        return max(0, int(n / 2 - _deviations(alpha) * n**0.5 / 2))
    for r in range(n):
        total += chance
        if total > alpha:
            return r
        chance *= (n - r) / (r + 1)
    return n


def _deviations(alpha: float) -> float:
    """The standard deviations above the mean of a normal law that are passed with a chance of ``alpha``."""
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(middle) > alpha else (low, middle)
    return high


def _tail(z: float) -> float:
    return math.erfc(z / math.sqrt(2)) / 2


def median_interval(lower: NDArray[np.float64], upper: NDArray[np.float64], alpha: float) -> tuple[float, float]:
    """An interval of the median: each side misses it with a chance of at most ``alpha``, whatever the distribution.

    The source is the sign test (Conover, Practical Nonparametric Statistics, 3.2): of n independent values, fewer than
    r lie below the median with a binomial chance.

    Args:
        lower, upper: shape (n,): the same values, or bounds of each where it is only known within some.

    Returns:
        Low and high; infinite on both sides if n is too small for ``alpha``.
    """
    rank = _rank(len(lower), alpha)
    if rank < 1:
        return -np.inf, np.inf
    return float(np.sort(lower)[rank - 1]), float(np.sort(upper)[len(upper) - rank])


def resampled_interval(
    statistic: Callable[[Sequence[int]], float], n: int, alpha: float, *, seed: int = 0
) -> tuple[float, float]:
    """An interval of a statistic of n turns by the bootstrap over whole turns (Efron and Tibshirani, 1993, ch. 13).

    Samples of one turn share its clock and its neighbours, so turns are what is drawn anew, never single samples.

    Args:
        statistic: of the turns with these indices, with repetition.
    """
    generator = np.random.default_rng(seed)
    drawn = sorted(statistic(generator.integers(0, n, n).tolist()) for _ in range(RESAMPLES))
    inside = int(max(alpha, 1 / RESAMPLES) * RESAMPLES)
    return drawn[inside - 1], drawn[-inside]
