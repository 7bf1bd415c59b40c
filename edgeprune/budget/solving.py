"""One problem solved by a named method, its certificate checked: what ``edgeprune solve`` prints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeprune.budget.certificate import verify
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.problem import RESOURCES, Budget, Problem, Solution, by_resource
from edgeprune.budget.promise import Limit
from edgeprune.budget.registry import get_solver
from edgeprune.progress import SILENT, Progress


@dataclass(frozen=True, slots=True)
class Solved:
    """A problem, its budget and what a solver answered."""

    problem: Problem
    budget: Budget
    solution: Solution

    def to_json(self) -> dict[str, Any]:
        """A width for each choice, the figures, the bound with what proves it, and why the method stopped."""
        s = self.solution
        return {
            "solver": s.method,
            "budget": self.budget.to_json(),
            "saliency": s.saliency,
            "latency_ms": s.latency_ms,
            "flash_bytes": s.flash_bytes,
            "ram_bytes": s.ram_bytes,
            "bound": s.bound,
            "gap": s.gap,
            "stop": s.stop.value,
            "steps": s.steps,
            "seconds": round(s.seconds, 3),
            "widths": {c.name: w for c, w in zip(self.problem.choices, s.widths, strict=True)},
            "witness": None if s.witness is None else s.witness.to_json(),
        }


def resolved(problem: Problem, budget: Budget, **limits: Limit | None) -> Budget:
    """A budget with some limits replaced; a relative one is a share of what the widest plan costs.

    Args:
        limits: by resource, ``latency_ms`` and so on; None leaves the budget's own.
    """
    evaluator = Evaluator(problem)
    widest = np.array([evaluator.widths(evaluator.full_levels)], dtype=np.int64)
    costs = dict(zip(RESOURCES, by_resource(evaluator.costs(widest))[0].tolist(), strict=True))
    given = {name: v.resolve(costs[name]) for name, v in limits.items() if v is not None}
    return Budget(**{**budget.to_json(), **given})


def solve(
    problem: Problem,
    budget: Budget,
    solver: str = "exact",
    *,
    time_limit_s: float | None = None,
    progress: Progress = SILENT,
) -> Solved:
    """Solve a problem and check the certificate of the answer, if it has one.

    Raises:
        VerificationError: the certificate does not hold: a fault of the solver.
        InfeasibleBudgetError, UsageError, PlanError, ProfileError: as every solver does.
    """
    found = get_solver(solver).solve(problem, budget, progress=progress, time_limit_s=time_limit_s)
    # Brute force has looked at every plan; there is nothing shorter to show for it.
    verify(problem, budget, found if found.witness is not None else replace(found, bound=None))
    return Solved(problem, budget, found)
