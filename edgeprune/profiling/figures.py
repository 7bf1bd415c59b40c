"""From samples, with the reference's time around each, to one figure at one clock, whatever the clock did meanwhile."""

from __future__ import annotations

import math
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
FEW = 3
"""Kernels that met both the nominal clock and another from which on it is known how much of the latter they feel."""
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


class Clock:
    """What a session knows of a device's clock.

    A reference that takes longer tells of a slow clock, which kernels feel in full, or of somebody else on the same
    core, which they feel in part: that is learnt from kernels that met both.

    Attributes:
        nominal_ns: the reference's time at the nominal clock; 0 as long as it is not known.
    """

    def __init__(self, nominal_ns: float = 0.0) -> None:
        self.nominal_ns = nominal_ns
        self._felt: list[float] = []

    def meet(self, kernels: Iterable[Sequence[KernelRow]]) -> None:
        """Learn from the rows of kernels, those of each in all launches of a program."""
        met = list(kernels)
        self.nominal_ns = nominal_clock(met, self.nominal_ns)
        if self.nominal_ns:
            self._felt += [felt for rows in met for felt in _felt(rows, self.nominal_ns)]

    @property
    def felt(self) -> float:
        """Share of the logarithm of the reference's slowness that kernels have; 1 where too little is known."""
        return min(1.0, max(0.0, statistics.median(self._felt))) if len(self._felt) >= FEW else 1.0

    def as_felt(self, reference_ns: float) -> float:
        """The reference's time at a clock that would slow it as much as kernels are slowed where it takes
        ``reference_ns``.
        """
        if not self.nominal_ns or not reference_ns:
            return reference_ns
        return float(self.nominal_ns * (reference_ns / self.nominal_ns) ** self.felt)


def _felt(rows: Sequence[KernelRow], nominal_ns: float) -> list[float]:
    """How much of the reference's slowness a kernel felt: one figure, or none where it did not meet both."""
    paced = [row for row in rows if row.reference_ns and min(row.samples_ns) > 0]
    good = [s for row in paced for s in steady(row, nominal_ns)]
    slow = [
        (max(around) / nominal_ns, sample)
        for row in paced
        for around, sample in zip(pairwise(row.reference_ns), row.samples_ns, strict=True)
        if min(around) > nominal_ns * (1 + 2 * NEAR)
    ]
    if len(good) < ENOUGH or len(slow) < ENOUGH:
        return []
    by, longer = statistics.median(b for b, _ in slow), statistics.median(s for _, s in slow) / statistics.median(good)
    return [math.log(longer) / math.log(by)]


def steady(row: KernelRow, nominal_ns: float) -> list[float]:
    """Samples before and after which the clock was the nominal one; none where there is no reference."""
    if not row.reference_ns:
        return []
    near = [r <= nominal_ns * (1 + NEAR) for r in row.reference_ns]
    return [s for s, around in zip(row.samples_ns, pairwise(near), strict=True) if all(around)]


def said(rows: Iterable[KernelRow], nominal_ns: float) -> list[list[float]]:
    """The steady samples of each launch that has enough of them."""
    return [good for row in rows if len(good := steady(row, nominal_ns)) >= ENOUGH]


def figure(rows: Sequence[KernelRow], clock: Clock) -> Figure:
    """The figure of one kernel from its row in each launch.

    Where memory lies differs from launch to launch, so each launch has one say, the median of its steady samples. Where
    the clock left too few of these, the samples at the quickest clock that enough of them met count alone.
    """
    nominal_ns = clock.nominal_ns
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
            reference = statistics.median(r for r, _ in pairs[begin:end])
            return _figure(alike, statistics.median(alike), clock.as_felt(reference))
    middle = clock.as_felt(statistics.median(met))
    brought = [s * middle / clock.as_felt(r) for r, s in pairs]
    return _figure(brought, statistics.median(brought), middle)


def _figure(samples: list[float], latency_ns: float, reference_ns: float) -> Figure:
    return Figure(latency_ns, spread(samples), min(samples), len(samples), reference_ns)
