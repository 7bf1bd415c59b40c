"""Marginal greedy in the manner of NetAdapt (Yang et al., ECCV 2018), clean-room from the paper."""

from __future__ import annotations

import time

from edgeprune.budget.check import check_budget
from edgeprune.budget.effort import UNLIMITED, Effort
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.outcome import with_bound
from edgeprune.budget.problem import Budget, Problem, Solution
from edgeprune.budget.reach import reach
from edgeprune.budget.search import Point, improve, reduce, trade
from edgeprune.progress import SILENT, Progress


class Greedy:
    """From the full network take the best (cost removed) / (saliency lost) until the budget holds, then grow back."""

    name = "greedy"

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
        progress.stage("greedy")
        evaluator, limits = Evaluator(problem, budget), check_budget(budget, problem)
        point = Point(evaluator, evaluator.full_levels)
        steps = reduce(point, limits)
        if steps is None:
            # No single change helps any more; on tables that are not monotone two at once may.
            point, steps = reach(evaluator, limits), 0
        steps += improve(point, limits)
        point = trade(point, limits, until=until)
        return with_bound(evaluator, limits, point.levels, self.name, steps=steps, since=since, until=until)
