"""From samples, with the reference's time around each, to one figure at one clock, whatever the clock did meanwhile."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edgeprune.board.client import KernelRow
from edgeprune.budget.clock import nominal
from edgeprune.latency.records import spread

NEAR = 0.03
"""The reference's times at one clock differ by at most this much (relative); main.c has the same bound."""
ENOUGH = 2
"""Samples at the nominal clock that a launch needs to have its say, and launches of that kind that a figure needs."""
QUANTILE = 0.25
"""Of the launches' medians the figure is this quantile: what disturbs a launch makes it slower, never quicker."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What samples say of one kernel: latencies in ns at the clock at which the reference takes ``reference_ns``; 0
    where there is no reference, and nothing is known of the clock.
    """

    latency_ns: float
    spread_ns: float
    min_ns: float
    samples: int
    reference_ns: float = 0.0


def nominal_clock(launches: Iterable[Sequence[KernelRow]], known_ns: float = 0.0) -> float:
    """The reference's time at the quickest clock that is no exception; 0 without references.

    Args:
        known_ns: that of earlier measurements.
    """
    quickest = nominal([r for rows in launches for row in rows for r in row.reference_ns])
    return min(filter(None, (quickest, known_ns)), default=0.0)


def steady(row: KernelRow, nominal_ns: float) -> list[float]:
    """Samples before and after which the clock was the nominal one."""
    near = [r <= nominal_ns * (1 + NEAR) for r in row.reference_ns]
    return [s for s, around in zip(row.samples_ns, pairwise(near), strict=True) if all(around)]


def said(rows: Iterable[KernelRow], nominal_ns: float) -> list[list[float]]:
    """The steady samples of each launch that has enough of them."""
    return [good for row in rows if len(good := steady(row, nominal_ns)) >= ENOUGH]


def figure(rows: Sequence[KernelRow], nominal_ns: float) -> Figure:
    """The figure of one kernel from its row in each launch.

    Where memory lies differs from launch to launch, so each launch has one say, the median of its steady samples. Where
    the clock left too few of these, the samples at the quickest clock that enough of them met count alone.
    """
    samples = [s for row in rows for s in row.samples_ns]
    if not all(row.reference_ns for row in rows):
        return _figure(samples, statistics.median(samples), 0.0)
    launches = said(rows, nominal_ns)
    if len(launches) >= ENOUGH:
        latency = float(np.quantile([statistics.median(good) for good in launches], QUANTILE))
        return _figure([s for good in launches for s in good], latency, nominal_ns)
    # The slower of the two times around a sample is that of the clock that it met.
    met = [max(around) for row in rows for around in pairwise(row.reference_ns)]
    pairs, end = sorted(zip(met, samples, strict=True)), 0
    for begin, (quickest, _) in enumerate(pairs):
        while end < len(pairs) and pairs[end][0] <= quickest * (1 + NEAR):
            end += 1
        if end - begin > ENOUGH:
            alike = [s for _, s in pairs[begin:end]]
            return _figure(alike, statistics.median(alike), statistics.median(r for r, _ in pairs[begin:end]))
    middle = statistics.median(met)
    brought = [s * middle / r for r, s in pairs]
    return _figure(brought, statistics.median(brought), middle)


def _figure(samples: list[float], latency_ns: float, reference_ns: float) -> Figure:
    return Figure(latency_ns, spread(samples), min(samples), len(samples), reference_ns)
