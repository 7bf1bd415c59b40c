"""Local search over widths: one point, its moves, and the two walks every heuristic is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.evaluate import Evaluator, Limits

_NOISE = 1e-12
"""Relative rounding of a sum of costs, generously: a gain this small could be undone and done again for ever."""


class Point:
    """A choice of level indices that knows cheaply what changing one choice would cost.

    Only the terms that a changed choice touches are evaluated again, and the cost curve of a choice
    is kept until a choice that shares a term with it moves.
    """

    def __init__(self, evaluator: Evaluator, levels: Sequence[int]) -> None:
        self.evaluator = evaluator
        self.levels = list(levels)
        self._widths = np.array(evaluator.widths(levels), dtype=np.int64)
        self._values = np.zeros((len(evaluator.scopes), len(evaluator.base)))
        for term in range(len(evaluator.scopes)):
            self._values[term] = evaluator.term_costs(term, self._widths[None])[0]
        self._deltas: dict[int, NDArray[np.float64]] = {}

    @property
    def costs(self) -> NDArray[np.float64]:
        """Shape (2,): latency in ms, flash in bytes."""
        total: NDArray[np.float64] = self.evaluator.base + self._values.sum(axis=0)
        return total

    @property
    def saliency(self) -> float:
        return float(sum(s[k] for s, k in zip(self.evaluator.saliencies, self.levels, strict=True)))

    def deltas(self, choice: int) -> NDArray[np.float64]:
        """What the network's costs change by if ``choice`` alone moves to each of its levels: (levels, 2)."""
        if choice not in self._deltas:
            moved = np.repeat(self._widths[None], self.evaluator.sizes[choice], axis=0)
            moved[:, choice] = self.evaluator.levels[choice]
            change = np.zeros((len(moved), self._values.shape[1]))
            for term in self.evaluator.touching[choice]:
                change += self.evaluator.term_costs(term, moved) - self._values[term]
            self._deltas[choice] = change
        return self._deltas[choice]

    def gains(self, choice: int) -> NDArray[np.float64]:
        """What saliency changes by if ``choice`` alone moves to each of its levels: (levels,)."""
        saliency = self.evaluator.saliencies[choice]
        gain: NDArray[np.float64] = saliency - saliency[self.levels[choice]]
        return gain

    def move(self, choice: int, level: int) -> None:
        self.levels[choice] = level
        self._widths[choice] = self.evaluator.levels[choice][level]
        for term in self.evaluator.touching[choice]:
            self._values[term] = self.evaluator.term_costs(term, self._widths[None])[0]
        for other in self.evaluator.neighbours[choice]:
            self._deltas.pop(other, None)


def reduce(point: Point, limits: Limits) -> int | None:
    """Walk down until the budget holds: NetAdapt's rule (Yang et al. 2018), over any number of levels.

    Each step changes one choice, to the level with the best (violation removed) / (saliency lost).
    A move that removes no violation is not taken, however little it loses, and every level of a
    choice is looked at, so neither a plateau nor a staircase nor a width that costs more than a
    larger one stops the walk. A move that loses nothing goes first.

    Returns:
        Steps taken, or None if no single change removes any more violation (``point`` stays there).
    """
    steps = 0
    while (violation := float(limits.violation(point.costs))) > 0:
        costs = point.costs
        best: tuple[float, float, int, int] | None = None
        for choice in range(len(point.levels)):
            removed = violation - limits.violation(costs + point.deltas(choice))
            loss = -point.gains(choice)
            for level in np.flatnonzero(removed > _NOISE * (1 + violation)):
                ratio = np.inf if loss[level] <= 0 else removed[level] / loss[level]
                rank = (float(ratio), float(removed[level]), -choice, int(level))
                best = rank if best is None else max(best, rank)
        if best is None:
            return None
        point.move(-best[2], best[3])
        steps += 1
    return steps


def improve(point: Point, limits: Limits) -> int:
    """Grow back what still fits, largest gain of saliency first, until no change of one choice is better.

    Args:
        point: a feasible point.

    Returns:
        Steps taken.
    """
    steps = 0
    while True:
        costs = point.costs
        best: tuple[float, int, int] | None = None
        for choice in range(len(point.levels)):
            gain = point.gains(choice)
            if gain[-1] <= 0:
                continue
            fits = limits.fits(costs + point.deltas(choice))
            for level in np.flatnonzero(fits & (gain > 0)):
                rank = (float(gain[level]), -choice, -int(level))
                best = rank if best is None else max(best, rank)
        if best is None:
            return steps
        point.move(-best[1], -best[2])
        steps += 1
