"""The exact method: branch and bound over the Lagrangian dual until nothing better can be left."""

from __future__ import annotations

import time

from edgeprune.budget.bounding import Search
from edgeprune.budget.check import check_budget
from edgeprune.budget.effort import UNLIMITED, Effort
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.outcome import answer
from edgeprune.budget.problem import Budget, Problem, Solution
from edgeprune.progress import SILENT, Progress

MAX_BOXES = 200


class Exact:
    """Proven best to within the gap that is asked for, unless it had to stop; the bound says how much better a plan
    could be.

    Without a time limit it stops after ``max_boxes`` boxes, so that the same question has the same answer.
    """

    name = "exact"

    def __init__(self, *, max_boxes: int = MAX_BOXES) -> None:
        self._max_boxes = max_boxes

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
        progress.stage(self.name)
        search = Search(evaluator, limits, deadline=until, precision=effort.gap)
        boxes = self._max_boxes if effort.time_limit_s is None else 1_000_000_000
        stop = search.run(boxes=boxes, advance=progress.advance)
        return answer(search, stop, self.name, since=since)
