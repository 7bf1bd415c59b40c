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
Judge = Callable[[Widths], float]


class Rule(Protocol):
    """Chooses widths from scores.

    Attributes:
        name: the key in the registry.
        needs_data: whether ``choose`` needs a judge, who needs data.
    """

    name: ClassVar[str]
    needs_data: ClassVar[bool]

    def choose(self, scores: Scores, judge: Judge | None = None) -> Widths:
        """Group -> how many of its channels stay, those of the highest scores; at least one.

        Args:
            judge: what a network of some widths is worth, before it recovers; higher is better.

        Raises:
            UsageError: the rule needs a judge and got none.
        """
        ...


class Threshold:
    """Channels that score below a value go (Han et al. 2015, "Learning both Weights and Connections", section 3)."""

    name: ClassVar[str] = "threshold"
    needs_data: ClassVar[bool] = False

    def __init__(self, value: float) -> None:
        self.value = _at_least(0.0, value, self.name, "value")

    def choose(self, scores: Scores, judge: Judge | None = None) -> Widths:
        return _above(scores, lambda s: self.value)


class Deviation:
    """Channels that score less than the mean of their group by over ``k`` standard deviations go."""

    name: ClassVar[str] = "deviation"
    needs_data: ClassVar[bool] = False

    def __init__(self, k: float = 2.0) -> None:
        self.k = k

    def choose(self, scores: Scores, judge: Judge | None = None) -> Widths:
        return _above(scores, lambda s: float(s.mean() - self.k * s.std()))


class Relative:
    """Channels that score below a share of the largest of their group go."""

    name: ClassVar[str] = "relative"
    needs_data: ClassVar[bool] = False

    def __init__(self, share: float = 0.1) -> None:
        self.share = _between(share, self.name, "share")

    def choose(self, scores: Scores, judge: Judge | None = None) -> Widths:
        return _above(scores, lambda s: self.share * float(s.max()))


class Ratio:
    """A share of each group's channels goes, the lowest (Li et al. 2017, "Pruning Filters for Efficient ConvNets")."""

    name: ClassVar[str] = "ratio"
    needs_data: ClassVar[bool] = False

    def __init__(self, remove: float = 0.5) -> None:
        self.remove = _between(remove, self.name, "remove")

    def choose(self, scores: Scores, judge: Judge | None = None) -> Widths:
        return {name: max(1, s.size - round(self.remove * s.size)) for name, s in scores.items()}


class Dynamic:
    """Channels below a share of the largest of their group go, and the share is as large as the task's figure allows:
    before anything recovers, it falls by no more than ``drop``. The share is found by halving: where the figure falls
    too far, it backs off.

    Args:
        drop: in the unit of the figure: 0.02 are two points of accuracy.
        steps: how often the network is judged, besides once when it is whole.
    """

    name: ClassVar[str] = "dynamic"
    needs_data: ClassVar[bool] = True

    def __init__(self, drop: float = 0.02, steps: int = 8) -> None:
        self.drop = _at_least(0.0, drop, self.name, "drop")
        self.steps = int(_at_least(1, steps, self.name, "steps"))

    def choose(self, scores: Scores, judge: Judge | None = None) -> Widths:
        if judge is None:
            raise UsageError(f"rule '{self.name}' needs data", hint="give --data")
        whole = {name: s.size for name, s in scores.items()}
        floor, found = judge(whole) - self.drop, whole
        low, high = 0.0, 1.0
        for _ in range(self.steps):
            share = (low + high) / 2
            widths = Relative(share).choose(scores)
            if judge(widths) >= floor:
                low, found = share, widths
            else:
                high = share
        return found


class GlobalRatio:
    """A share of all channels goes, the lowest of the network, whatever groups they are of (Molchanov et al. 2017)."""

    name: ClassVar[str] = "global_ratio"
    needs_data: ClassVar[bool] = False

    def __init__(self, remove: float = 0.5) -> None:
        self.remove = _between(remove, self.name, "remove")

    def choose(self, scores: Scores, judge: Judge | None = None) -> Widths:
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
