"""What insisting on a width of one group costs: the best plans that have it, looked for and bounded.

A width stands for all beyond it, at least as wide or at most as wide: whoever asks for one minds no more of the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeprune.budget.effort import Effort
from edgeprune.budget.exact import Exact
from edgeprune.budget.problem import Budget, Choice, Problem, Solution, Stop
from edgeprune.errors import InfeasibleBudgetError
from edgeprune.progress import SILENT, Progress

GAP, LEAST_S = 1e-5, 0.01
"""At which the search for one best plan may stop, relative; and the seconds that each search gets at least."""


@dataclass(frozen=True, slots=True)
class Insisted:
    """The plans inside a budget that have a level or one beyond it.

    Attributes:
        saliency: of the best one that was found; None where none was.
        bound: none of them retains more; infinite where nothing was proven.
        impossible: it is proven that there is none.
    """

    saliency: float | None = None
    bound: float = math.inf
    impossible: bool = False


def insist(
    problem: Problem,
    budget: Budget,
    choice: int,
    at: int,
    *,
    time_limit_s: float,
    progress: Progress = SILENT,
) -> dict[int, Insisted]:
    """The best plans with each level of a choice other than ``at``; Ctrl-C leaves out what it did not come to.

    Args:
        time_limit_s: for all levels together, each with its share of what is left.
    """
    until = time.perf_counter() + time_limit_s
    left = len(problem.choices[choice].levels) - 1
    found: dict[int, Insisted] = {}
    wider, narrower = range(at + 1, left + 1), range(at - 1, -1, -1)
    for levels in (wider, narrower):
        best: Solution | None = None
        known = Insisted()
        # Outwards: what is proven of a level holds for those beyond it.
        for k in levels:
            some = range(k, left + 1) if k > at else range(k + 1)
            if not known.impossible and (best is None or not _has(problem, choice, best, some)):
                share = (until - time.perf_counter()) / (left - len(found))
                best, known = _searched(problem, budget, choice, some, max(share, LEAST_S), known)
            found[k] = known
            progress.advance()
            if best is not None and best.stop is Stop.INTERRUPTED:
                return found
        # And back: a plan with a level beyond is one with this level, too.
        most: float | None = None
        for k in reversed(levels):
            most = max((s for s in (most, found[k].saliency) if s is not None), default=None)
            found[k] = replace(found[k], saliency=most)
    return found


def _has(problem: Problem, choice: int, plan: Solution, some: Sequence[int]) -> bool:
    return problem.choices[choice].levels.index(plan.widths[choice]) in some


def _searched(
    problem: Problem, budget: Budget, choice: int, some: Sequence[int], time_limit_s: float, known: Insisted
) -> tuple[Solution | None, Insisted]:
    asked = insisted(problem, choice, some)
    if asked is None:
        return None, Insisted(bound=known.bound)
    try:
        best = Exact().solve(asked, budget, effort=Effort(time_limit_s, GAP))
    except InfeasibleBudgetError as e:
        return None, Insisted(bound=known.bound, impossible=bool(e.details.get("proven", False)))
    return best, Insisted(best.saliency, known.bound if best.bound is None else min(known.bound, best.bound))


def insisted(problem: Problem, choice: int, levels: Sequence[int]) -> Problem | None:
    """The problem in which a choice has some of its levels alone, ascending; costs and saliency stay as they are.

    Where it may not be 0 any more, the blocks that it lies in may not go.

    Returns:
        None where only 0 is left: no problem says that a block has to go.
    """
    widths = problem.choices[choice].levels
    if not any(widths[k] for k in levels):
        return None
    choices = [_with(c, levels) if i == choice else c for i, c in enumerate(problem.choices)]
    blocks = problem.blocks
    if widths[levels[0]]:
        blocks = tuple(b for b in blocks if choice not in b)
    left = {c for block in blocks for c in block}
    # A choice of no block that may go has no level 0.
    choices = [c if i in left or c.levels[0] else _with(c, range(1, len(c.levels))) for i, c in enumerate(choices)]
    return replace(problem, choices=tuple(choices), blocks=blocks)


def _with(choice: Choice, levels: Sequence[int]) -> Choice:
    return Choice(choice.name, tuple(choice.levels[k] for k in levels), choice.saliency[list(levels)])
