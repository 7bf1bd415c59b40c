"""One problem solved by a named method, its certificate checked: what ``edgeprune solve`` prints, and runs keep."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.budget.certificate import verify
from edgeprune.budget.effort import UNLIMITED, Effort
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.files import load_problem, save_problem
from edgeprune.budget.problem import RESOURCES, Budget, Problem, Solution, Stop, by_resource
from edgeprune.budget.promise import Limit
from edgeprune.budget.registry import get_solver
from edgeprune.budget.witness import Witness
from edgeprune.errors import BadInputError
from edgeprune.files import write_whole
from edgeprune.progress import SILENT, Progress

SCHEMA = "edgeprune.solution/1"
PROBLEM, SOLUTION = "problem.json", "solution.json"
"""Files of a run."""
_SAME = 1e-9
"""Relative difference of figures that are written and read back."""


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

    def check(self) -> None:
        """Check plan, figures and certificate from the arrays alone.

        Raises:
            VerificationError: something does not hold: a fault of the solver, or of a file.
        """
        # Brute force has looked at every plan; there is nothing shorter to show for it.
        found = self.solution
        verify(self.problem, self.budget, found if found.witness is not None else replace(found, bound=None))

    def save(self, path: Path) -> None:
        """Write the answer alone; :func:`save_problem` writes what was asked."""
        write_whole(path, json.dumps({"schema": SCHEMA, **self.to_json()}, indent=2, allow_nan=False) + "\n")

    def save_in(self, folder: Path) -> None:
        """Write question and answer into the folder of a run."""
        save_problem(folder / PROBLEM, self.problem, self.budget)
        self.save(folder / SOLUTION)

    @classmethod
    def load_from(cls, folder: Path) -> Solved:
        """What :meth:`save_in` wrote.

        Raises:
            BadInputError: a file is not there, cannot be read, or does not go with the other.
        """
        problem, budget = load_problem(folder / PROBLEM)
        path = folder / SOLUTION
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["schema"] != SCHEMA:
                raise ValueError(f"another schema, {data['schema']!r}")
            if list(data["widths"]) != [c.name for c in problem.choices]:
                raise ValueError(f"its groups are not those of {PROBLEM}")
            levels = [c.levels.index(data["widths"][c.name]) for c in problem.choices]
            plan = Evaluator(problem).solution(levels, str(data["solver"]))
            _require_same(plan, budget, data)
            solution = replace(
                plan,
                steps=int(data["steps"]),
                bound=None if data["bound"] is None else _bound(float(data["bound"]), plan.saliency),
                stop=Stop(data["stop"]),
                witness=None if data["witness"] is None else Witness.from_json(data["witness"]),
                seconds=float(data["seconds"]),
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, ArithmeticError) as e:
            what = f"no {e}" if isinstance(e, KeyError) else str(e)
            raise BadInputError(f"{path} cannot be read: {what}", hint="make the run again") from e
        return cls(problem, budget, solution)


def _require_same(plan: Solution, budget: Budget, data: dict[str, Any]) -> None:
    """Raises ValueError where an answer in a file is about another question: its figures are not those of its plan."""
    if data["budget"] != budget.to_json():
        raise ValueError(f"it answers {data['budget']}, and {PROBLEM} asks for {budget.to_json()}")
    for name in ("saliency", *RESOURCES):
        said, found = data[name], getattr(plan, name)
        if (said is None) != (found is None) or (said is not None and not math.isclose(said, found, rel_tol=_SAME)):
            raise ValueError(f"{name} of its plan is {said}, and {found} by {PROBLEM}")


def _bound(bound: float, saliency: float) -> float:
    """A bound that may be true of a plan; raises ValueError for another."""
    if not math.isfinite(bound) or bound < saliency - _SAME * abs(saliency):
        raise ValueError(f"its bound is {bound}, and its plan retains {saliency}")
    return bound


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
    effort: Effort = UNLIMITED,
    progress: Progress = SILENT,
) -> Solved:
    """Solve a problem and check the certificate of the answer, if it has one.

    Raises:
        VerificationError: the certificate does not hold: a fault of the solver.
        InfeasibleBudgetError, UsageError, PlanError, ProfileError: as every solver does.
    """
    found = get_solver(solver).solve(problem, budget, effort=effort, progress=progress)
    done = Solved(problem, budget, found)
    done.check()
    return done
