"""Brute force: every combination is evaluated. It is the oracle that the other solvers are tested against."""

from __future__ import annotations

import math
import time

import numpy as np

from edgeprune.budget.check import check_budget
from edgeprune.budget.effort import UNLIMITED, Effort
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.problem import RESOURCES, Budget, Problem, Solution, Stop, by_resource
from edgeprune.budget.reach import infeasible
from edgeprune.errors import UsageError
from edgeprune.progress import SILENT, Progress

MAX_COMBINATIONS = 2_000_000
_CHUNK = 1 << 16


class BruteForce:
    """Proven optimal; among equals the widest, read from the last choice to the first."""

    name = "brute_force"

    def solve(
        self,
        problem: Problem,
        budget: Budget,
        *,
        effort: Effort = UNLIMITED,
        progress: Progress = SILENT,
    ) -> Solution:
        """It knows no time limit.

        Raises:
            InfeasibleBudgetError: with proven figures.
            UsageError: over 2 million combinations.
        """
        since = time.perf_counter()
        evaluator, limits = Evaluator(problem), check_budget(budget, problem)
        count = math.prod(evaluator.sizes)
        if count > MAX_COMBINATIONS:
            raise UsageError(
                f"brute force would evaluate {count} plans; it does at most {MAX_COMBINATIONS}",
                hint="use another method, or fewer levels",
            )
        progress.stage("brute_force", count)
        best, best_saliency = -1, -np.inf
        smallest = np.full(len(RESOURCES), np.inf)
        for start in range(0, count, _CHUNK):
            index = np.arange(start, min(start + _CHUNK, count))
            levels = np.unravel_index(index, evaluator.sizes, order="F") if evaluator.sizes else ()
            widths = np.zeros((len(index), len(evaluator.sizes)), dtype=np.int64)
            saliency = np.zeros(len(index))
            for choice, level in enumerate(levels):
                widths[:, choice] = evaluator.levels[choice][level]
                saliency += evaluator.saliencies[choice][level]
            costs = evaluator.costs(widths)
            whole = evaluator.whole_blocks(widths)
            smallest = np.minimum(smallest, by_resource(costs[whole]).min(axis=0, initial=np.inf))
            saliency[~(whole & limits.fits(costs))] = -np.inf
            last_best = len(index) - 1 - int(saliency[::-1].argmax())
            if saliency[last_best] >= best_saliency > -np.inf or saliency[last_best] > best_saliency:
                best, best_saliency = int(index[last_best]), float(saliency[last_best])
            progress.advance(len(index))
        if best < 0:
            raise infeasible(limits, dict(zip(RESOURCES, map(float, smallest), strict=True)))
        chosen = [int(k) for k in np.unravel_index(best, evaluator.sizes, order="F")] if evaluator.sizes else []
        kept = evaluator.saliency(evaluator.widths(chosen))
        return evaluator.solution(
            chosen,
            self.name,
            steps=count,
            bound=kept,
            stop=Stop.OPTIMAL,
            seconds=time.perf_counter() - since,
        )
