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
from edgeprune.graph.resized import axis_widths
from edgeprune.graph.spec import KernelSpec
from edgeprune.importance.curves import Curves
from edgeprune.latency.estimates import Estimates, Estimator, Total
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.problem import build_problem, usable_levels
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

    def estimate(self, specs: Sequence[KernelSpec]) -> Estimates:
        found = self.estimator.estimate(specs)
        return replace(found, log_ns=found.log_ns - LUCK * found.deviation, deviation=np.zeros_like(found.deviation))

    def total(self, specs: Sequence[KernelSpec]) -> Total:
        return self.estimator.total(specs)


class Asked(NamedTuple):
    """The plans of one budget.

    Attributes:
        share: of the dense network's latency.
        kernels: of the plan; ``lucky``: of the plan that would be best if kernels without a measurement were quick.
        worth: how much more saliency that other one would retain then, relative.
    """

    share: float
    kernels: tuple[KernelSpec, ...]
    lucky: tuple[KernelSpec, ...]
    worth: float


def asked(
    network: Network,
    curves: Curves,
    levels: Mapping[str, tuple[int, ...]],
    records: Sequence[KernelRecord],
    estimator: Estimator,
) -> list[Asked]:
    """Plans of the budgets :data:`SHARES` that can be reached.

    Args:
        levels: group -> widths that are offered.
        records: at one clock; those that ``estimator`` was made of.
    """

    def problem(of: Estimator) -> Problem:
        model = LatencyModel(records, estimator=of)
        usable, _ = usable_levels(network.kernels, network.channels, levels, model)
        return build_problem(network.kernels, network.channels, curves, usable, model, estimate=True)

    sober, lucky = problem(estimator), problem(Lucky(estimator))
    dense_ms = LatencyModel(records, estimator=estimator).network(n.spec for n in network.kernels.nodes).latency_ms
    found = []
    for share in SHARES:
        budget = Budget(latency_ms=share * dense_ms)
        try:
            plan, other = (get_solver(SOLVER).solve(p, budget, effort=EFFORT) for p in (sober, lucky))
        except InfeasibleBudgetError:
            continue
        worth = other.saliency / plan.saliency - 1 if plan.saliency else 0.0
        kernels = (kernels_of(network, sober, plan), kernels_of(network, lucky, other))
        found.append(Asked(share, *kernels, max(0.0, worth)))
    return found


def kernels_of(network: Network, problem: Problem, solution: Solution) -> tuple[KernelSpec, ...]:
    """The kernels of a plan; those that are gone with a block are left out."""
    widths = {g.name: g.size for g in network.channels.groups}
    widths |= {c.name: w for c, w in zip(problem.choices, solution.widths, strict=True)}
    specs = []
    for node in network.kernels.nodes:
        axes = axis_widths(node, widths)
        if all(axes.values()):
            specs.append(node.spec.with_widths(**axes))
    return tuple(specs)
