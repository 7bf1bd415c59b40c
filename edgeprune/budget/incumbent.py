"""The best plan inside a budget that a search knows, and the ways it is made better."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.problem import Budget
from edgeprune.budget.search import Point, improve, reduce, trade

_SAME = 1e-12


class Incumbent:
    """The best plan seen so far.

    Attributes:
        levels: of that plan; None as long as no plan inside the budget is known.
        saliency: that it retains; -inf without one.
    """

    def __init__(self, evaluator: Evaluator, limits: Budget) -> None:
        self.evaluator, self.limits = evaluator, limits
        self.levels: tuple[int, ...] | None = None
        self.saliency = -np.inf

    def offer(self, levels: Sequence[int]) -> bool:
        """Take a plan if it keeps the budget and retains more than the one known; whether it did."""
        saliency = float(sum(s[k] for s, k in zip(self.evaluator.saliencies, levels, strict=True)))
        if saliency <= self.saliency + _SAME * abs(saliency) or not self._whole(levels):
            return False
        if not self.limits.fits(self.evaluator.costs_at(levels)):
            return False
        self.levels, self.saliency = tuple(int(k) for k in levels), saliency
        return True

    def _whole(self, levels: Sequence[int]) -> bool:
        widths = np.array([self.evaluator.widths(levels)], dtype=np.int64)
        return bool(self.evaluator.whole_blocks(widths)[0])

    def polish(
        self, levels: Sequence[int], prices: NDArray[np.float64] | None = None, *, until: float = np.inf
    ) -> bool:
        """Walk from a plan into the budget, then up as far as it goes, and offer what is found.

        Args:
            prices: of rows, at which the plan is a good one; they make the search quicker, and no worse.
            until: on the clock of :func:`time.perf_counter`: the walk up ends then.
        """
        if not self._whole(levels):
            return False
        point = Point(self.evaluator, levels)
        if reduce(point, self.limits) is None:
            return False
        climb(point, self.limits, prices, until=until)
        return self.offer(point.levels)

    def trade(self, *, until: float = np.inf) -> None:
        """Try whole blocks against channels."""
        if self.levels is not None and self.evaluator.problem.blocks:
            self.offer(trade(Point(self.evaluator, self.levels), self.limits, until=until).levels)


def climb(
    point: Point,
    limits: Budget,
    prices: NDArray[np.float64] | None = None,
    *,
    exchanges: int = 40,
    until: float = np.inf,
) -> None:
    """Improve a plan inside the budget by changes of one choice, then of two at once that share no table."""
    improve(point, limits, until=until)
    for _ in range(exchanges):
        moves = _exchange(point, limits, prices) if perf_counter() < until else None
        if moves is None:
            return
        before, saliency = list(point.levels), point.saliency
        point.move(*moves)
        if not limits.fits(point.costs) or point.saliency <= saliency:
            point.move(*enumerate(before))
            return
        improve(point, limits, until=until)


def _exchange(
    point: Point, limits: Budget, prices: NDArray[np.float64] | None
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The best pair of changes; costs of choices that share no table add up.

    Whatever the prices, what a pair that fits gains is at most its worth at these prices, plus the price of all room:
    so most changes can be in no pair that gains anything, and are left out before pairs are made.
    """
    allowed = limits.of_rows(len(point.costs))
    rows = np.flatnonzero(np.isfinite(allowed))
    room = (allowed - point.costs)[rows]
    deltas, gain = point.changes()
    cost, usable = deltas[:, rows], point.may_move
    up = np.flatnonzero(usable & (gain > _SAME))
    # What gives most room for what it loses, first: the rest is hardly ever half of the best pair.
    down = np.flatnonzero(usable & (gain <= _SAME) & (cost <= 0).all(axis=1) & (cost < 0).any(axis=1))
    if prices is not None and len(up) and len(down):
        price = (prices / allowed)[rows]
        worth = gain - cost @ price
        least = -float(np.maximum(room, 0) @ price) - _SAME
        ups, downs = worth[up], worth[down]
        up, down = up[ups + downs.max() >= least], down[downs + ups.max() >= least]
    if not len(up) or not len(down):
        return None
    # The best up first: once none can come to more than a pair that fits, the rest need no look.
    up, down = up[np.argsort(-gain[up], kind="stable")], down[np.argsort(-gain[down], kind="stable")]
    choice = point.choice_of
    freed, lost, slack = cost[down], gain[down], room * (1 - 1e-12)
    # Before the first change down that frees enough in every row, none need be asked whether it does.
    most_freed = np.minimum.accumulate(freed, axis=0)
    wanted = slack - cost[up] + _SAME * (np.abs(slack) + np.abs(cost[up]))
    first = np.max([np.searchsorted(-m, -w) for m, w in zip(most_freed.T, wanted.T, strict=True)], axis=0)
    most = gain[up] + np.append(lost, -np.inf)[first]
    best, found = _SAME * point.saliency, None
    for i in np.flatnonzero(most > best):
        a = up[i]
        if gain[a] + lost[0] <= best:
            break
        if most[i] <= best:
            continue
        begin, end = int(first[i]), int(np.searchsorted(-lost, gain[a] - best))
        near = point.evaluator.neighbours[choice[a]]
        for b in begin + np.flatnonzero((freed[begin:end] + cost[a] <= slack).all(axis=1)):
            if choice[down[b]] not in near:
                best, found = float(gain[a] + lost[b]), (int(a), int(down[b]))
                break
    return None if found is None else (point.cell(found[0]), point.cell(found[1]))
