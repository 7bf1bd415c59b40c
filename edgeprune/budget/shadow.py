"""Shadow prices of a budget: what a limit is worth at the margin, and what any plan with a level retains at most.

The dual's multipliers are of cost / limit - 1, so a multiplier over its limit is saliency for one ms or byte. At these
prices the dual's value D bounds every plan inside the budget; inside one with d more of a limit no plan retains more
than D + price * d, whatever d is: weak duality (Everett 1963; Geoffrion 1974). The same pass over the tables bounds the
plans with each single level (max-marginals), which says what it costs at least to insist on that level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeprune.budget.bounding import NOISE, Search
from edgeprune.budget.dual import Dual
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.factors import Array, factors_of
from edgeprune.budget.problem import Budget, Solution, Stop
from edgeprune.errors import VerificationError

SHIFTS = 12
"""Passes over tables that had to be split: each brings the bounds down a little."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """The prices of a budget's rows and the bounds that hold at them.

    Attributes:
        prices: (rows,) saliency for one more ms or byte of each row's limit; 0 for what is not limited.
        bound: no plan inside the budget retains more.
        worths: for each choice (levels,): no plan inside the budget that has this level retains more.
        certified: the prices are those of the plan's certificate; else they were computed here.
    """

    prices: Array
    bound: float
    worths: tuple[Array, ...]
    certified: bool


def shadow_of(evaluator: Evaluator, budget: Budget, solution: Solution) -> Shadow:
    """The shadow prices of a budget, by the certificate of a solution or, where it has none, by its dual.

    Raises:
        VerificationError: the certificate holds prices of rows that have no limit, or none at all.
    """
    limits = budget.of_rows(len(evaluator.base))
    multipliers = _certified(evaluator, limits, solution)
    certified = multipliers is not None
    if multipliers is None:
        multipliers = _computed(evaluator, budget, solution)
    dual = Dual(evaluator, budget, factors_of(evaluator), check=lambda: None)
    bound, worths = math.inf, tuple(np.full(n, np.inf) for n in evaluator.sizes)
    for _ in range(1 if dual.tree.exact else SHIFTS):
        best = dual.at(multipliers)
        if best is None:  # blocks that leave no plan at all are refused with the problem
            break
        bound = min(bound, best.bound)
        worths = tuple(np.minimum(a, b) for a, b in zip(worths, dual.worths(best), strict=True))
        if not dual.tree.exact:
            dual.tree.shift()
    return Shadow(multipliers / limits, bound, worths, certified)


def _certified(evaluator: Evaluator, limits: Array, solution: Solution) -> Array | None:
    """The multipliers at the root of the certificate; None where it has none, or was cut short before it had any."""
    witness = solution.witness
    if witness is None or witness.weight != 1.0:
        return None
    multipliers = np.zeros(len(limits))
    for row, value in witness.multipliers:
        if not 0 <= row < len(limits) or not math.isfinite(limits[row]) or not 0 <= value < math.inf:
            raise VerificationError(
                f"the certificate has a price of {value} for row {row}, which is none that the budget limits",
                hint="make the plan again with edgeprune prune or fit",
            )
        multipliers[row] = value
    most = sum(float(s[-1]) for s in evaluator.saliencies)
    if not multipliers.any() and solution.saliency < most - NOISE * abs(most):
        return None
    return multipliers


def _computed(evaluator: Evaluator, budget: Budget, solution: Solution) -> Array:
    """The multipliers of nearly the least bound, as the Lagrangian method finds them."""
    search = Search(evaluator, budget)
    search.incumbent.offer([c.levels.index(w) for c, w in zip(evaluator.problem.choices, solution.widths, strict=True)])
    if search.bound_alone() is Stop.INTERRUPTED:
        raise KeyboardInterrupt
    return search.root.multipliers
