"""The distribution of a network's latencies: quantiles, and a histogram whose tail does not flatten the rest."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from statistics import median

from edgeprune.report.schema import BINS, ClockState, Distribution, Evidence

FAR = 1.5
"""A few inferences that another process held up for long must not make one bar of all others."""


def distribution_of(samples_ms: Sequence[float], evidence: Evidence, states: Sequence[ClockState] = ()) -> Distribution:
    """The distribution of latencies of single inferences, in ms; quantiles are latencies that occurred.

    Raises:
        ValueError: there are no samples.
    """
    if not samples_ms:
        raise ValueError("a distribution needs at least one latency")
    ordered = sorted(samples_ms)
    uppers = _edges(ordered)
    below = [0, *(bisect_right(ordered, upper) for upper in uppers)]
    return Distribution(
        samples=len(ordered),
        median_ms=median(ordered),
        p90_ms=_quantile(ordered, 0.9),
        p99_ms=_quantile(ordered, 0.99),
        worst_ms=ordered[-1],
        evidence=evidence,
        histogram=tuple((upper, below[i + 1] - below[i]) for i, upper in enumerate(uppers)),
        states=tuple(states),
    )


def _edges(ordered: Sequence[float]) -> list[float]:
    """Upper edges: equal bins up to the 99th percentile, or to where that is far off, and one for everything slower."""
    low, worst = ordered[0], ordered[-1]
    high = min(_quantile(ordered, 0.99), FAR * median(ordered))
    # Rice's rule, sharpened: latencies gather in narrow peaks, one for each speed of the clock
    bins = min(BINS - 1, math.ceil(3 * len(ordered) ** (1 / 3)))
    equal = [low + (high - low) * (i + 1) / bins for i in range(bins - 1)]
    return sorted({*equal, high, worst})


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The least latency that ``share`` of all do not exceed (nearest rank)."""
    return ordered[math.ceil(share * len(ordered)) - 1]
