"""One ratio for all groups: the baseline that every other method has to beat."""

from __future__ import annotations

import time

import numpy as np

from edgeprune.budget.check import check_budget
from edgeprune.budget.effort import UNLIMITED, Effort
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.outcome import with_bound
from edgeprune.budget.problem import RESOURCES, Budget, Problem, Solution, by_resource
from edgeprune.budget.reach import infeasible
from edgeprune.progress import SILENT, Progress


class Uniform:
    """The largest ratio r at which the budget holds, each choice at the level nearest to r times its full width.

    Blocks stay.
    """

    name = "uniform"

    def solve(
        self,
        problem: Problem,
        budget: Budget,
        *,
        effort: Effort = UNLIMITED,
        progress: Progress = SILENT,
    ) -> Solution:
        """Raises InfeasibleBudgetError if no uniform ratio fits; details carry the smallest over all ratios,
        which a method free to choose each width may undercut."""
        since, until = time.perf_counter(), effort.deadline()
        progress.stage("uniform")
        evaluator, limits = Evaluator(problem, budget), check_budget(budget, problem)
        # The nearest level changes only where r passes the middle of two levels, so these ratios are all there are.
        offered = [lv[first:] for lv, first in zip(evaluator.levels, evaluator.narrowest, strict=True)]
        middles = [(lv[1:] + lv[:-1]) / 2 / lv[-1] for lv in offered]
        ratios = np.unique(np.concatenate([np.ones(1), *middles]))[::-1]
        levels = np.zeros((1, 0), int)
        if middles:
            levels = np.stack([np.searchsorted(m, ratios) for m in middles], axis=1) + evaluator.narrowest
        widths = np.array([evaluator.widths(row.tolist()) for row in levels], dtype=np.int64).reshape(levels.shape)
        costs = evaluator.costs(widths)
        fits = limits.fits(costs)
        if not fits.any():
            smallest = dict(zip(RESOURCES, map(float, by_resource(costs).min(axis=0)), strict=True))
            raise infeasible(limits, smallest, what="uniform width")
        first = int(fits.argmax())
        found = levels[first].tolist()
        return with_bound(evaluator, limits, found, self.name, steps=first + 1, since=since, until=until)
