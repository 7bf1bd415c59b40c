"""From a search to a solver's answer: the plan with its bound, or the proof that there is none."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from edgeprune.budget.bounding import Search
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.problem import Budget, Solution, Stop
from edgeprune.budget.reach import least_plan, no_plan


def with_bound(
    evaluator: Evaluator,
    limits: Budget,
    levels: Sequence[int],
    method: str,
    *,
    steps: int,
    since: float,
    until: float = math.inf,
) -> Solution:
    """A plan that a heuristic found, with the Lagrangian bound on every other."""
    search = Search(evaluator, limits, deadline=until)
    search.incumbent.offer(levels)
    stop = search.bound_alone()
    return evaluator.solution(
        levels,
        method,
        steps=steps,
        bound=search.bound,
        stop=stop,
        witness=search.witness,
        seconds=time.perf_counter() - since,
    )


def answer(search: Search, stop: Stop, method: str, *, since: float) -> Solution:
    """What a search found.

    Raises:
        InfeasibleBudgetError: it proved that there is nothing, or found nothing.
        KeyboardInterrupt: Ctrl-C came before it found anything.
    """
    levels = search.incumbent.levels
    if levels is None and stop is Stop.INTERRUPTED:
        raise KeyboardInterrupt
    if levels is None and not search.infeasible:
        levels = least_plan(search)
    if levels is None:
        raise no_plan(search)
    return search.evaluator.solution(
        levels,
        method,
        steps=search.boxes,
        bound=search.bound,
        stop=stop,
        witness=search.witness,
        seconds=time.perf_counter() - since,
    )
