"""What a solver would ask of the tables: the plans of some budgets, and those that would be better if it were lucky."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from edgeprune.budget.effort import Effort
from edgeprune.budget.problem import Budget, Problem, Solution
from edgeprune.budget.registry import get_solver
from edgeprune.errors import InfeasibleBudgetError
from edgeprune.graph.network import Network
from edgeprune.graph.spec import KernelSpec
from edgeprune.importance.curves import Curves
from edgeprune.latency.estimates import Estimates, Estimator, Total
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.problem import build_problem, kernels_at, usable_levels
from edgeprune.latency.records import KernelRecord

SHARES = (0.8, 0.55, 0.3)
"""Budgets, as shares of what the dense network is predicted to take."""
SOLVER = "lagrangian"
EFFORT = Effort(time_limit_s=5.0)
"""Of one question: a plan that is nearly the best passes the same kernels."""
LUCK = 0.5
"""Standard deviations below what is expected that a lucky kernel takes."""


@dataclass(frozen=True, slots=True)
class Lucky:
    """An estimator to which every kernel that was not measured is as quick as it may well be."""

    estimator: Estimator

    @property
    def placed(self) -> bool:
        return self.estimator.placed

    def estimate(self, specs: Sequence[KernelSpec]) -> Estimates:
        found = self.estimator.estimate(specs)
        return replace(found, log_ns=found.log_ns - LUCK * found.deviation, deviation=np.zeros_like(found.deviation))

    def total(self, specs: Sequence[KernelSpec]) -> Total:
        return self.estimator.total(specs)


class Asked(NamedTuple):
    """The plans of one budget.

    Attributes:
        share: of the dense network's latency.
        widths, kernels: of the plan; of the other one where only that keeps the budget.
        lucky_widths: of the plan that would be best if kernels without a measurement were quick.
        worth: how much more saliency that other one would retain then, relative.
        reached: whether a plan keeps the budget without luck.
    """

    share: float
    widths: Mapping[str, int]
    kernels: Sequence[KernelSpec]
    lucky_widths: Mapping[str, int]
    worth: float
    reached: bool


def asked(
    network: Network,
    curves: Curves,
    levels: Mapping[str, tuple[int, ...]],
    records: Sequence[KernelRecord],
    estimator: Estimator,
) -> list[Asked]:
    """Plans of those of the budgets :data:`SHARES` that can be reached, with luck or without.

    Args:
        levels: group -> widths that are offered.
        records: at one clock; those that ``estimator`` was made of.

    Raises:
        ProfileError: kernels of the network were not measured at any width, or failed at widths that cannot be avoided.
    """

    def problem(of: Estimator) -> Problem:
        model = LatencyModel(records, estimator=of)
        usable, _ = usable_levels(network.kernels, network.channels, levels, model)
        return build_problem(network.kernels, network.channels, curves, usable, model, estimate=True)

    def widths(of: Problem, solution: Solution) -> dict[str, int]:
        chosen = {c.name: w for c, w in zip(of.choices, solution.widths, strict=True)}
        return {g.name: chosen.get(g.name, g.size) for g in network.channels.groups}

    def kernels(of: Mapping[str, int]) -> list[KernelSpec]:
        return kernels_at(network.kernels, network.channels, levels, of)

    sober, lucky = problem(estimator), problem(Lucky(estimator))
    dense_ms = LatencyModel(records, estimator=estimator).network(n.spec for n in network.kernels.nodes).latency_ms
    found = []
    for share in SHARES:
        budget = Budget(latency_ms=share * dense_ms)
        plan, other = (_solved(p, budget) for p in (sober, lucky))
        if other is None:
            continue
        best = widths(lucky, other)
        if plan is None:
            found.append(Asked(share, best, kernels(best), best, 0.0, reached=False))
        else:
            worth = other.saliency / plan.saliency - 1 if plan.saliency else 0.0
            own = widths(sober, plan)
            found.append(Asked(share, own, kernels(own), best, max(0.0, worth), reached=True))
    return found


def _solved(problem: Problem, budget: Budget) -> Solution | None:
    """A plan that is nearly the best, or None if the budget cannot be kept."""
    try:
        return get_solver(SOLVER).solve(problem, budget, effort=EFFORT)
    except InfeasibleBudgetError:
        return None
