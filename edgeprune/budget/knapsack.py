"""Multiple-choice knapsack in the manner of HALP (Shen et al., NeurIPS 2022), clean-room from the paper.

Within a step all other widths are frozen, so every level of every group has a latency of its own and
the best levels under a limit come from dynamic programming. The limit comes down over several steps,
as in HALP, so that what is frozen is never far from what is chosen. Unlike HALP, a level's cost counts every
kernel that the group touches (those that read it too), not the kernels that write it alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.check import check_budget
from edgeprune.budget.effort import UNLIMITED, Effort
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.outcome import with_bound
from edgeprune.budget.problem import ADDITIVE, Budget, Problem, Solution
from edgeprune.budget.reach import reach
from edgeprune.budget.search import Point, improve, reduce, trade
from edgeprune.progress import SILENT, Progress

DESCENT_ROUNDS = 8
SETTLE_ROUNDS = 4
BINS = 2048
_MULTIPLIER_ROUNDS = 12

Array = NDArray[np.float64]


class Knapsack:
    """Re-linearised knapsacks; the best point that truly keeps the budget wins."""

    name = "knapsack"

    def solve(
        self,
        problem: Problem,
        budget: Budget,
        *,
        effort: Effort = UNLIMITED,
        progress: Progress = SILENT,
    ) -> Solution:
        """Raises InfeasibleBudgetError, and PlanError or ProfileError for a problem that does not check."""
        since, until = time.perf_counter(), effort.deadline()
        evaluator, limits = Evaluator(problem, budget), check_budget(budget, problem)
        point = Point(evaluator, evaluator.full_levels)
        if limits.fits(point.costs):
            return with_bound(evaluator, limits, point.levels, self.name, steps=0, since=since, until=until)
        progress.stage("knapsack", DESCENT_ROUNDS + SETTLE_ROUNDS)
        allowed = limits.of_rows(len(point.costs))
        excess = np.maximum(point.costs / allowed, 1)
        best: Point | None = None
        for step in range(1, DESCENT_ROUNDS + SETTLE_ROUNDS + 1):
            slack = excess ** max(0.0, 1 - step / DESCENT_ROUNDS)
            point = Point(evaluator, _linear_step(point, allowed * slack))
            if step >= DESCENT_ROUNDS and reduce(point, limits) is not None:
                improve(point, limits)
                if best is None or point.saliency > best.saliency:
                    best = Point(evaluator, point.levels)
            progress.advance()
        if best is None:
            best = reach(evaluator, limits)
            improve(best, limits)
        best = trade(best, limits, until=until)
        steps = DESCENT_ROUNDS + SETTLE_ROUNDS
        return with_bound(evaluator, limits, best.levels, self.name, steps=steps, since=since, until=until)


def _linear_step(point: Point, limits: Array) -> list[int]:
    """Best levels under ``limits`` if the cost of each choice did not depend on the others.

    The first limited row is the knapsack's; of the others the fullest is priced into the values by a
    multiplier, found by bisection (Everett 1963). Blocks are neither removed nor put back here.
    """
    active = np.flatnonzero(np.isfinite(limits))
    allowed = [point.allowed(c) for c in range(len(point.levels))]
    costs = [point.deltas(c)[list(ks)] / limits for c, ks in enumerate(allowed)]
    values = [point.gains(c)[list(ks)] for c, ks in enumerate(allowed)]
    room = 1 - point.costs / limits
    main = int(active[0] if active[0] < len(ADDITIVE) else active[room[active].argmin()])
    active = np.append(main, active[active != main])
    second = int(active[1:][room[active[1:]].argmin()]) if len(active) > 1 else main

    def pick(multiplier: float) -> list[int]:
        priced = [v - multiplier * c[:, second] for v, c in zip(values, costs, strict=True)]
        return best_levels(priced, [c[:, main] for c in costs], float(room[main]))

    def keeps_second(levels: list[int]) -> bool:
        return sum(float(c[k, second]) for c, k in zip(costs, levels, strict=True)) <= float(room[second])

    def levels(found: list[int]) -> list[int]:
        return [ks[k] for ks, k in zip(allowed, found, strict=True)]

    found = pick(0.0)
    if second == main or keeps_second(found):
        return levels(found)
    low, high = 0.0, sum(float(np.ptp(v)) for v in values) + 1e-9
    found = pick(high)
    for _ in range(_MULTIPLIER_ROUNDS):
        middle = (low + high) / 2 if low else high / 8
        tried = pick(middle)
        if keeps_second(tried):
            high, found = middle, tried
        else:
            low = middle
    return levels(found)


def best_levels(values: Sequence[Array], costs: Sequence[Array], capacity: float) -> list[int]:
    """One level for each group, of the greatest value whose summed cost is at most ``capacity``.

    Costs may be negative. They are rounded up to 1/2048 of the room above the cheapest levels,
    so the result never overspends. Where even these do not fit, they are returned.

    Args:
        values: one array (levels,) for each group.
        costs: the same shapes.
    """
    cheapest = [float(c.min()) for c in costs]
    room = capacity - sum(cheapest)
    if room <= 0:
        return [int(c.argmin()) for c in costs]
    reached = np.zeros(BINS + 1)
    choices = np.zeros((len(values), BINS + 1), dtype=np.int32)
    # A cost that is a whole number of bins must not be pushed into the next one by its last bit.
    # Where there is hardly any room a cost is more bins than a whole number holds: what does not fit, does not fit.
    with np.errstate(over="ignore"):
        needs = [np.ceil((c - low) / room * BINS - 1e-7) for c, low in zip(costs, cheapest, strict=True)]
    bins = [np.minimum(need, BINS + 1).astype(np.int64) for need in needs]
    for group, (value, need) in enumerate(zip(values, bins, strict=True)):
        best = np.full(BINS + 1, -np.inf)
        for level in np.flatnonzero(need <= BINS):
            tried = reached[: BINS + 1 - need[level]] + value[level]
            seat = best[need[level] :]
            better = tried >= seat
            seat[better] = tried[better]
            choices[group, need[level] :][better] = level
        reached = best
    levels = [0] * len(values)
    left = BINS
    for group in reversed(range(len(values))):
        levels[group] = int(choices[group, left])
        left -= int(bins[group][levels[group]])
    return levels
