"""The best plan inside a budget that a search knows, and the ways it is made better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
        if saliency <= self.saliency + _SAME * abs(saliency):
            return False
        widths = np.array([self.evaluator.widths(levels)], dtype=np.int64)
        if not self.evaluator.whole_blocks(widths)[0] or not self.limits.fits(self.evaluator.costs(widths))[0]:
            return False
        self.levels, self.saliency = tuple(int(k) for k in levels), saliency
        return True

    def polish(self, levels: Sequence[int]) -> bool:
        """Walk from a plan into the budget, then up as far as it goes, and offer what is found."""
        widths = np.array([self.evaluator.widths(levels)], dtype=np.int64)
        if not self.evaluator.whole_blocks(widths)[0]:
            return False
        point = Point(self.evaluator, levels)
        if reduce(point, self.limits) is None:
            return False
        climb(point, self.limits)
        return self.offer(point.levels)

    def trade(self) -> None:
        """Try whole blocks against channels."""
        if self.levels is not None:
            self.offer(trade(Point(self.evaluator, self.levels), self.limits).levels)


def climb(point: Point, limits: Budget, *, exchanges: int = 40) -> None:
    """Improve a plan inside the budget by changes of one choice, then of two at once that share no table."""
    improve(point, limits)
    for _ in range(exchanges):
        moves = _exchange(point, limits)
        if moves is None:
            return
        before, saliency = list(point.levels), point.saliency
        point.move(*moves)
        if not limits.fits(point.costs) or point.saliency <= saliency:
            point.move(*enumerate(before))
            return
        improve(point, limits)


def _exchange(point: Point, limits: Budget) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The best pair of changes; costs of choices that share no table add up."""
    rows = np.flatnonzero(np.isfinite(limits.of_rows(len(point.costs))))
    room = (limits.of_rows(len(point.costs)) - point.costs)[rows]
    pairs = [(c, k) for c in range(len(point.levels)) for k in point.allowed(c) if k != point.levels[c]]
    if not pairs:
        return None
    choice = np.array([c for c, _ in pairs])
    gain = np.array([point.gains(c)[k] for c, k in pairs])
    cost = np.array([point.deltas(c)[k][rows] for c, k in pairs])
    up = np.flatnonzero(gain > _SAME)
    # What gives most room for what it loses, first: the rest is hardly ever half of the best pair.
    down = np.flatnonzero((gain <= _SAME) & (cost <= 0).all(axis=1) & (cost < 0).any(axis=1))
    if not len(up) or not len(down):
        return None
    total = gain[up][:, None] + gain[down][None, :]
    apart = np.ones((len(point.levels),) * 2, dtype=bool)
    for c, others in enumerate(point.evaluator.neighbours):
        apart[c, list(others)] = False
    good = (total > _SAME * point.saliency) & apart[choice[up]][:, choice[down]]
    at = np.flatnonzero(good.ravel())
    at = at[np.argsort(-total.ravel()[at], kind="stable")]
    for chunk in np.array_split(at, max(1, len(at) // 4096)):
        a, b = up[chunk // len(down)], down[chunk % len(down)]
        fits = (cost[a] + cost[b] <= room * (1 - 1e-12)).all(axis=1)
        if fits.any():
            first = int(fits.argmax())
            return pairs[int(a[first])], pairs[int(b[first])]
    return None
