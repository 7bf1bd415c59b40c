"""Rules: which channels go by their scores alone, without tables of what widths cost.

A rule gives the most channels that each group keeps. What a budget asks for beyond that a solver decides, among plans
that keep no more (docs/METHODS.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import UsageError
from edgeprune.importance.criterion import Scores

Array = NDArray[np.float64]
Widths = dict[str, int]


class Rule(Protocol):
    """Chooses widths from scores.

    Attributes:
        name: the key in the registry.
    """

    name: ClassVar[str]

    def choose(self, scores: Scores) -> Widths:
        """Group -> how many of its channels stay, those of the highest scores; at least one."""
        ...


class Threshold:
    """Channels that score below a value go (Han et al. 2015, "Learning both Weights and Connections", section 3)."""

    name: ClassVar[str] = "threshold"

    def __init__(self, value: float) -> None:
        self.value = _at_least(0.0, value, self.name, "value")

    def choose(self, scores: Scores) -> Widths:
        return _above(scores, lambda s: self.value)


class Deviation:
    """Channels that score less than the mean of their group by over ``k`` standard deviations go."""

    name: ClassVar[str] = "deviation"

    def __init__(self, k: float = 2.0) -> None:
        self.k = k

    def choose(self, scores: Scores) -> Widths:
        return _above(scores, lambda s: float(s.mean() - self.k * s.std()))


class Relative:
    """Channels that score below a share of the largest of their group go."""

    name: ClassVar[str] = "relative"

    def __init__(self, share: float = 0.1) -> None:
        self.share = _between(share, self.name, "share")

    def choose(self, scores: Scores) -> Widths:
        return _above(scores, lambda s: self.share * float(s.max()))


class Ratio:
    """A share of each group's channels goes, the lowest (Li et al. 2017, "Pruning Filters for Efficient ConvNets")."""

    name: ClassVar[str] = "ratio"

    def __init__(self, remove: float = 0.5) -> None:
        self.remove = _between(remove, self.name, "remove")

    def choose(self, scores: Scores) -> Widths:
        return {name: max(1, s.size - round(self.remove * s.size)) for name, s in scores.items()}


class GlobalRatio:
    """A share of all channels goes, the lowest of the network, whatever groups they are of (Molchanov et al. 2017)."""

    name: ClassVar[str] = "global_ratio"

    def __init__(self, remove: float = 0.5) -> None:
        self.remove = _between(remove, self.name, "remove")

    def choose(self, scores: Scores) -> Widths:
        every = np.concatenate([np.empty(0), *scores.values()])
        owners = np.repeat(np.arange(len(scores)), [s.size for s in scores.values()])
        gone = np.argsort(every, kind="stable")[: round(self.remove * every.size)]
        lost = np.bincount(owners[gone], minlength=len(scores))
        return {name: max(1, s.size - int(n)) for (name, s), n in zip(scores.items(), lost, strict=True)}


def capped(levels: Mapping[str, tuple[int, ...]], widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Levels of all groups, of which none is over the width that a rule chose; that width is the largest one."""
    return {
        name: tuple(sorted({w for w in known if w < widths.get(name, known[-1])} | {widths.get(name, known[-1])}))
        for name, known in levels.items()
    }


def _above(scores: Scores, floor: Callable[[Array], float]) -> Widths:
    return {name: max(1, int((s >= floor(s)).sum())) for name, s in scores.items()}


def _at_least(least: float, value: float, rule: str, option: str) -> float:
    if not value >= least:
        raise UsageError(f"option {option} of rule '{rule}' cannot be {value:g}", hint=f"give {least:g} or more")
    return value


def _between(value: float, rule: str, option: str) -> float:
    if not 0 <= value < 1:
        raise UsageError(
            f"option {option} of rule '{rule}' cannot be {value:g}", hint="it is a share: from 0 to below 1"
        )
    return value
