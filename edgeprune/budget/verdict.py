"""The verdict on a limit: kept, broken or not decidable, with an interval and its confidence.

The one place that compares a figure with a limit. Bytes are read off a program and are exact; a latency is a
statement about a device whose clock is restless, so it is made about a ratio: to the dense network, launched in
turns, or to a small fixed reference that every program carries and times in the same seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, PlainSerializer

from edgeprune.budget.clock import clock_states
from edgeprune.budget.intervals import median_interval, resampled_interval
from edgeprune.budget.problem import TOLERANCE
from edgeprune.jsonable import Jsonable

CONFIDENCE, TAIL_CONFIDENCE = 0.99, 0.95
"""Confidence of the interval over all looks of a sequence of turns; the second is that of a p90, p99 or maximum."""
FIRST, GROWTH = 9, 1.5
"""Turns before the first look, and by how much their number grows to the next one."""
PATIENCE_S = 60.0
"""Seconds of measuring after which a latency that is too near to its limit is called not decidable."""
UNLIKE = 0.10
"""A slow clock may slow a network by this much more or less than the reference (of the logarithm): in a phase that
is slower by 8 % the network's latency at the nominal clock is known within 0.8 %."""
NEAR = 0.1
"""How far from its limit (relative) a median is worth a sharper look."""
TAIL_S = 15.0
"""Least seconds over which a p90, p99 or maximum is observed: a slow phase lasts seconds."""
RARE = 3000
"""Inferences of which none may be slower than a limit of the maximum: at 95 % confidence one in a thousand is."""

BEYOND = 20
"""Inferences that have to lie beyond a p90 or p99 before resampling them says how well it is known."""

_TOLD = PlainSerializer(lambda bound: bound if math.isfinite(bound) else None)
Low = Annotated[float, BeforeValidator(lambda bound: 0.0 if bound is None else bound), _TOLD]
High = Annotated[float, BeforeValidator(lambda bound: math.inf if bound is None else bound), _TOLD]
"""Bounds; None in JSON, which has no infinity, for one that is not known."""

_QUANTILES = {"median": 0.5, "p90": 0.90, "p99": 0.99, "max": 1.0}


class Outcome(StrEnum):
    KEPT = "kept"
    BROKEN = "broken"
    UNDECIDED = "not decidable"


def judge(low: float, high: float, limit: float) -> Outcome:
    """Whether a figure between ``low`` and ``high`` keeps a limit."""
    if high <= limit * (1 + TOLERANCE):
        return Outcome.KEPT
    return Outcome.BROKEN if low > limit * (1 + TOLERANCE) else Outcome.UNDECIDED


@dataclass(frozen=True, slots=True)
class State:
    """The latency in one clock state: ``slowdown`` relative to the fastest, ``share`` of the launches in it."""

    slowdown: float
    share: float
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Verdict(Jsonable):
    """The verdict on one limit of one resource.

    Attributes:
        resource: ``latency``, ``flash`` or ``ram``; value, low, high and limit are in ``unit``.
        relative_to: latency of the dense network in ms where the limit is a share of it.
        basis: how it was judged, in words.
        turns, seconds: what was measured for it.
        states: of the device's clock while it was measured, the fastest first; empty where it has no clock of time.
    """

    resource: str
    outcome: Outcome
    statistic: str
    value: float
    low: Low
    high: High
    limit: float
    unit: str
    confidence: float
    basis: str
    evidence: str
    relative_to: float | None = None
    turns: int = 0
    seconds: float = 0.0
    states: tuple[State, ...] = ()

    @property
    def kept(self) -> bool:
        return self.outcome is Outcome.KEPT

    @property
    def share_of_limit(self) -> float:
        """The value as a share of the limit."""
        return self.value / self.limit

    def __str__(self) -> str:
        if self.unit == "bytes":
            return f"{self.resource} {self.outcome}: {self.value:.0f} bytes of {self.limit:.0f}"
        within = "" if self.low == self.high else f" [{self.low:.4g}, {self.high:.4g}]"
        text = (
            f"{self.resource} {self.outcome}: {self.statistic} {self.value:.4g} ms{within} of {self.limit:.4g} ms "
            f"({self.share_of_limit:.1%}, {self.evidence}), {self.basis}"
        )
        # A clock that slows the dense network as well leaves a limit that is relative to it where it was.
        slower = [s for s in self.states if s.slowdown > 1 and self.relative_to is None]
        for state in slower:
            over = state.latency_ms / self.limit - 1
            place = f"{over:.1%} over" if over > 0 else f"{-over:.1%} under"
            text += f"; {place} at a clock slower by {state.slowdown - 1:.1%}, which held {state.share:.0%} of the time"
        return text


def exact(resource: str, value: float, limit: float, *, evidence: str, basis: str, statistic: str = "size") -> Verdict:
    """The verdict on a figure that is known exactly: a size, or a latency of a clock that counts."""
    return Verdict(
        resource,
        judge(value, value, limit),
        value=value,
        low=value,
        high=value,
        limit=limit,
        unit="bytes" if statistic == "size" else "ms",
        confidence=1.0,
        basis=basis,
        evidence=evidence,
        statistic=statistic,
    )


@dataclass(frozen=True, slots=True)
class Turn:
    """One launch of a program, and what ran in the same seconds.

    Attributes:
        samples_ms: latencies of single inferences.
        dense_ms: the same of the dense network, launched in turn; empty where it was not.
        reference_ms: time of the program's own reference loop (docs/BOARD.md); None where it has none.
    """

    samples_ms: Sequence[float]
    dense_ms: Sequence[float] = ()
    reference_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """The question that a sequential test answers about one latency.

    Attributes:
        limit_ms: the limit, in ms.
        dense_ms: latency of the dense network at the nominal clock; given if the limit is a share of it, and then
            each turn holds it.
        nominal_ms: time of the reference loop at the nominal clock; None: the fastest state that is seen.
        patience_s: seconds of measuring after which it is not decidable.
        sharpness: width of the interval, as a share of the limit, from which a median that was decided near its limit
            (:data:`NEAR`) is known well enough; None: any is.
    """

    limit_ms: float
    evidence: str
    statistic: str = "median"
    dense_ms: float | None = None
    nominal_ms: float | None = None
    patience_s: float = PATIENCE_S
    sharpness: float | None = None

    def answered(self, found: Verdict) -> bool:
        """Whether a verdict ends the measuring."""
        if found.outcome is Outcome.UNDECIDED:
            return False
        if self.sharpness is None or self.statistic != "median" or not 1 - NEAR <= found.share_of_limit <= 1 + NEAR:
            return True
        return found.high - found.low <= self.sharpness * found.limit

    def basis(self, turns: Sequence[Turn]) -> str:
        """How these turns are judged, in words."""
        if self.dense_ms is not None:
            return "in turns with the dense network"
        if self.statistic != "median":
            return "over all that was observed"
        return "at the nominal clock" if all(t.reference_ms for t in turns) else "as the clock was"


def decide(question: Question, turn: Callable[[], Turn], clock: Callable[[], float]) -> Verdict:
    """Measure turn after turn until the interval excludes the limit, or patience ends.

    A sequential test: look k is given 6 / (pi k)^2 of the error, so that looking again and again does not add up
    (Bonferroni over an infinite series).

    Args:
        turn: one launch, and whatever ran beside it.
        clock: seconds, monotonic.
    """
    began, turns, looks, next_look = clock(), list[Turn](), 0, float(FIRST)
    while True:
        turns.append(turn())
        seconds = clock() - began
        # Without so many turns nothing is known, however long one of them takes.
        over = seconds >= question.patience_s and len(turns) >= FIRST
        if not over and len(turns) < next_look:
            continue
        if not over and question.statistic != "median" and seconds < min(TAIL_S, question.patience_s / 2):
            continue
        looks, next_look = looks + 1, len(turns) * GROWTH
        found = replace(assess(question, turns, looks), seconds=seconds)
        if over or question.answered(found):
            return found


def assess(question: Question, turns: Sequence[Turn], looks: int = 1) -> Verdict:
    """The verdict after these turns, at look number ``looks``."""
    estimate, confidence = (_median, CONFIDENCE) if question.statistic == "median" else (_tail, TAIL_CONFIDENCE)
    alpha = (1 - confidence) / 2 * 6 / (math.pi * looks) ** 2
    middle, low, high = estimate(question, turns, alpha)
    outcome = judge(low, high, question.limit_ms)
    seen = sum(len(t.samples_ms) for t in turns)
    if question.statistic == "max":
        # No quantile of what was seen bounds what was not: one over the limit breaks it, many under it keep it.
        outcome = Outcome.UNDECIDED if outcome is Outcome.KEPT and seen < RARE else outcome
    elif question.statistic != "median" and seen * (1 - _QUANTILES[question.statistic]) < BEYOND:
        outcome = Outcome.UNDECIDED
    return Verdict(
        "latency",
        outcome,
        question.statistic,
        value=middle,
        low=low,
        high=high,
        limit=question.limit_ms,
        unit="ms",
        confidence=confidence,
        basis=question.basis(turns),
        evidence=question.evidence,
        relative_to=question.dense_ms,
        turns=len(turns),
        states=states_of(turns),
    )


def states_of(turns: Sequence[Turn]) -> tuple[State, ...]:
    """Clock states of the device while these turns ran, and the network's median latency in each."""
    pace = [t.reference_ms for t in turns if t.reference_ms is not None]
    found = clock_states(pace if len(pace) == len(turns) else [float(np.median(t.samples_ms)) for t in turns])
    return tuple(
        State(s.level / found[0].level, s.share, float(np.median([np.median(turns[i].samples_ms) for i in s.turns])))
        for s in found
    )


def _median(question: Question, turns: Sequence[Turn], alpha: float) -> tuple[float, float, float]:
    """Value, low and high in ms."""
    latency = np.log([float(np.median(t.samples_ms)) for t in turns])
    scale, unsure = 0.0, np.zeros(len(turns))
    if question.dense_ms is not None:
        latency -= np.log([float(np.median(t.dense_ms)) for t in turns])
        scale = math.log(question.dense_ms)
    elif all(t.reference_ms for t in turns):
        pace = _pace(question, turns)
        # Launches at the nominal clock speak for themselves; others only where there are too few of these.
        near = np.abs(pace) <= math.log1p(UNLIKE / 5)
        chosen = near if near.sum() >= FIRST else np.ones(len(turns), dtype=bool)
        latency, unsure = (latency - pace)[chosen], UNLIKE * np.abs(pace)[chosen]
    low, high = median_interval(latency - unsure, latency + unsure, alpha)
    value = float(np.median(latency))
    return math.exp(value + scale), math.exp(low + scale), math.exp(high + scale) if high < math.inf else math.inf


def _pace(question: Question, turns: Sequence[Turn]) -> NDArray[np.float64]:
    """Slowdown of each turn relative to the nominal clock, as a logarithm."""
    reference = [float(t.reference_ms or 0) for t in turns]
    nominal = clock_states(reference)[0].level
    # A device that was profiled in a slow phase has a better clock than it showed then.
    return np.log(np.array(reference) / min(nominal, question.nominal_ms or nominal))


def _tail(question: Question, turns: Sequence[Turn], alpha: float) -> tuple[float, float, float]:
    q = _QUANTILES[question.statistic]
    own = [np.asarray(t.samples_ms) for t in turns]
    dense = [np.asarray(t.dense_ms) for t in turns]

    def statistic(drawn: Sequence[int]) -> float:
        value = float(np.quantile(np.concatenate([own[i] for i in drawn]), q))
        if question.dense_ms is None:
            return value
        return value / float(np.quantile(np.concatenate([dense[i] for i in drawn]), q)) * question.dense_ms

    value = statistic(range(len(turns)))
    if question.statistic == "max":
        return value, value, value
    return value, *resampled_interval(statistic, len(turns), alpha)
