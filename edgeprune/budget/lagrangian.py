"""The Lagrangian method: prices for ms and bytes, the best plan at these prices, and a walk into the budget."""

from __future__ import annotations

import time

from edgeprune.budget.bounding import Search
from edgeprune.budget.check import check_budget
from edgeprune.budget.effort import UNLIMITED, Effort
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.outcome import answer
from edgeprune.budget.problem import Budget, Problem, Solution, Stop
from edgeprune.budget.reach import search_further
from edgeprune.progress import SILENT, Progress


class Lagrangian:
    """Everett's method with variable elimination for the priced problem, then local search from its plans.

    The bound is that of the dual. More than one box is looked at only where no plan inside the budget was met.
    """

    name = "lagrangian"

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
        progress.stage(self.name)
        evaluator, limits = Evaluator(problem, budget), check_budget(budget, problem)
        search = Search(evaluator, limits, deadline=until)
        stop = search.run(boxes=1)
        search.incumbent.trade(until=until)
        if stop is Stop.NODE_LIMIT:
            stop = Stop.HEURISTIC
            if search.incumbent.levels is None:
                further = search_further(search)
                stop = stop if further is Stop.NODE_LIMIT else further
        return answer(search, stop, self.name, since=since)
