"""The solvers by name. A new one is one new file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from edgeprune.budget.brute_force import BruteForce
from edgeprune.budget.effort import UNLIMITED, Effort
from edgeprune.budget.exact import Exact
from edgeprune.budget.greedy import Greedy
from edgeprune.budget.knapsack import Knapsack
from edgeprune.budget.lagrangian import Lagrangian
from edgeprune.budget.problem import Budget, Problem, Solution
from edgeprune.budget.uniform import Uniform
from edgeprune.errors import UsageError
from edgeprune.progress import SILENT, Progress


class Solver(Protocol):
    """Arrays in, widths out. The same problem and budget always give the same solution,
    unless time ran out."""

    @property
    def name(self) -> str: ...

    def solve(
        self,
        problem: Problem,
        budget: Budget,
        *,
        effort: Effort = UNLIMITED,
        progress: Progress = SILENT,
    ) -> Solution:
        """The best plan found, with a bound on every other and why the method stopped.

        A time limit or Ctrl-C during the search returns the best plan so far, with its gap.

        Raises:
            InfeasibleBudgetError: no plan keeps the budget; ``details`` map each limited resource
                to the smallest reachable.
            PlanError, ProfileError: the problem does not check.
            UsageError: the budget makes no sense, or the method cannot take a problem of this size.
        """
        ...


def by_name(*solvers: Solver) -> Mapping[str, Solver]:
    """Raises UsageError if two solvers have one name."""
    table: dict[str, Solver] = {}
    for solver in solvers:
        if solver.name in table:
            raise UsageError(f"two solvers are named {solver.name!r}", hint="rename one of them")
        table[solver.name] = solver
    return table


SOLVERS = by_name(Greedy(), Knapsack(), Lagrangian(), Exact(), BruteForce(), Uniform())


def get_solver(name: str) -> Solver:
    """Raises UsageError, listing what exists, for an unknown name."""
    try:
        return SOLVERS[name]
    except KeyError:
        raise UsageError(f"no solver {name!r}", hint=f"choose one of {', '.join(sorted(SOLVERS))}") from None
