"""Timing of a placed program: launches, alone or in turns with another, and the distribution that they show."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeprune.board.client import Launch
from edgeprune.budget.clock import clock_states
from edgeprune.budget.verdict import State, Turn, states_of
from edgeprune.deploy.placed import Placed
from edgeprune.jsonable import Jsonable
from edgeprune.latency.records import spread

LAUNCH_MS = 60.0
"""What one launch times: longer than a moment's disturbance, shorter than a phase of the clock."""
FEWEST, MOST, WARMUP = 3, 200, 2
LAUNCHES, FEWEST_LAUNCHES, ENOUGH_S = 9, 3, 4.0
"""A timing takes so many launches; after these seconds the fewest do: some consoles take a second for each."""
COUNTED = 10
"""Repeats on a clock that counts: one launch says it all there."""


@dataclass(frozen=True, slots=True)
class Timing(Jsonable):
    """The launches of one program on one device.

    ``clock`` is what the device's clock counts; ``evidence`` what figures are worth that are read from it.
    """

    launches: tuple[Launch, ...]
    clock: str
    evidence: str

    @classmethod
    def of(cls, placed: Placed, launches: Sequence[Launch]) -> Timing:
        """The program knows which clock it reads, and not what that counts."""
        if launches[0].clock == "virtual":  # never measured, whatever device it ran on
            return cls(tuple(launches), "virtual", "simulated")
        info = placed.info
        return cls(tuple(launches), info.clock if info.counts else launches[0].clock, info.evidence)

    @property
    def samples_ms(self) -> list[float]:
        return [s for launch in self.launches for s in launch.samples_ms]

    @property
    def turns(self) -> list[Turn]:
        return [Turn(x.samples_ms, (), x.reference_ms) for x in self.launches]

    @property
    def states(self) -> tuple[State, ...]:
        """Clock states that the launches fell into, the fastest first."""
        return states_of(self.turns)

    @property
    def median_ms(self) -> float:
        """Median latency in the fastest clock state: what is slower by the clock is not the program's."""
        return self.states[0].latency_ms

    @property
    def reference_ms(self) -> float | None:
        """Time of the reference loop in the fastest clock state; None where programs have no such loop."""
        states = clock_states([x.reference_ms for x in self.launches if x.reference_ms is not None])
        return states[0].level if states else None

    @property
    def noise(self) -> float:
        """Standard deviation of one launch's median relative to the next one's, robust against outliers."""
        medians = np.log([x.median_ms for x in self.launches])
        return 1.4826 * float(np.median(np.abs(np.diff(medians)))) if len(medians) > 1 else 0.0

    def statistic(self, name: str) -> float:
        """Median (in the fastest state), p90, p99 or max in ms."""
        if name == "median":
            return self.median_ms
        return float(np.quantile(self.samples_ms, {"p90": 0.9, "p99": 0.99, "max": 1.0}[name]))

    def summary(self) -> dict[str, Any]:
        """Figures of the launches; ``spread_ms`` is the interquartile range."""
        samples = self.samples_ms
        return {
            "latency_ms": self.median_ms,
            "spread_ms": spread(samples),
            "min_ms": min(samples),
            "p90_ms": self.statistic("p90"),
            "p99_ms": self.statistic("p99"),
            "max_ms": max(samples),
            "samples": len(samples),
            "launches": len(self.launches),
            "clock_states": [asdict(s) for s in self.states],
            "evidence": self.evidence,
            "clock": self.clock,
        }

    def __str__(self) -> str:
        said = self.summary()
        figures = ", ".join(f"{k} {said[f'{k}_ms']:.4g}" for k in ("min", "p90", "p99", "max"))
        launches = "launch" if said["launches"] == 1 else "launches"
        counted = f"{said['samples']} samples in {said['launches']} {launches}"
        return f"{said['latency_ms']:.4g} ms, {self.evidence} ({figures} ms; {counted})"


def timed(
    placed: Placed,
    *,
    launches: int = LAUNCHES,
    warmup: int = WARMUP,
    repeats: int | None = None,
    threads: int | None = None,
) -> Timing:
    """Launches of a program, one after the other; a single one where the clock counts.

    Args:
        repeats: inferences that one launch times; None: as many as take :data:`LAUNCH_MS`.
    """
    turns, began = Turns(placed, warmup=warmup, repeats=repeats, threads=threads), time.monotonic()
    for number in range(1, 2 if placed.info.counts else launches + 1):
        turns()
        if number >= FEWEST_LAUNCHES and time.monotonic() - began > ENOUGH_S:
            break
    return turns.timing


class Turns:
    """Launches of a program, each in turn with one of another program where there is one.

    Which of the two goes first alternates, so that a clock that ramps up or down favours neither.
    """

    def __init__(
        self,
        program: Placed,
        beside: Placed | None = None,
        *,
        warmup: int = WARMUP,
        repeats: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._programs = [program] if beside is None else [program, beside]
        self._warmup, self._threads = warmup, threads
        self._repeats: list[int | None] = [repeats, repeats]
        self._launches: tuple[list[Launch], list[Launch]] = ([], [])

    def __call__(self) -> Turn:
        order = range(len(self._programs))
        for which in order if len(self._launches[0]) % 2 else reversed(order):
            self._launches[which].append(self._launch(which))
        own, dense = self._launches[0][-1], self._launches[1]
        return Turn(own.samples_ms, dense[-1].samples_ms if dense else (), own.reference_ms)

    @property
    def timing(self) -> Timing:
        """Launches of the program itself."""
        return Timing.of(self._programs[0], self._launches[0])

    @property
    def beside(self) -> Timing | None:
        """Launches of the other program."""
        return Timing.of(self._programs[1], self._launches[1]) if self._launches[1] else None

    def _launch(self, which: int) -> Launch:
        placed, repeats = self._programs[which], self._repeats[which]
        if repeats is None and placed.info.counts:
            repeats = COUNTED
        if repeats is None:
            probe = placed.launch(warmup=1, repeats=3, threads=self._threads)
            repeats = probe.repeats_in(LAUNCH_MS, FEWEST, MOST)
        self._repeats[which] = repeats
        return placed.launch(warmup=self._warmup, repeats=repeats, threads=self._threads)
