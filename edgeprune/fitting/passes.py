"""Passes: a budget is approached step by step, and each step scores, prunes and recovers.

What a channel is worth changes with those that go beside it. Scored again after each step, a network that is to lose
much loses what is worth least at each time (Molchanov et al. 2017, arXiv:1611.06440, section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from edgeprune.budget.problem import Budget
from edgeprune.fitting.planner import Planner, shrunk
from edgeprune.fitting.recover import History, rebuilt
from edgeprune.fitting.workshop import Workshop
from edgeprune.graph.network import Network, read_network
from edgeprune.importance.curves import Saliency
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.widths import load_plan, load_pruned, save_pruned
from edgeprune.training.sparse.schedule import Schedule

Planners = Callable[[Network, Saliency, float], Planner]


@dataclass(frozen=True, slots=True)
class Approached:
    """Where the last pass begins.

    Attributes:
        network: what is left after the passes before it.
        plan: what they took from the dense network; None where there were none.
        saliency: of ``network``.
        histories: what recovering told, by pass.
    """

    network: Network
    saliency: Saliency
    plan: Plan | None = None
    histories: Mapping[str, History] = field(default_factory=dict)

    def whole(self, plan: Plan) -> Plan:
        """What the last pass's plan does to the dense network together with those before it."""
        return plan if self.plan is None else self.plan.then(plan)


def approach(
    workshop: Workshop,
    network: Network,
    saliency: Saliency,
    dense: Budget,
    limits: Budget,
    planner: Planners,
    worth: Callable[[Network], Saliency],
) -> Approached:
    """All passes but the last, which is measured. Each is a stage ``pass-N``.

    Args:
        dense: what the dense network takes.
        limits: those that the last pass keeps.
        planner: (network, its saliency, the part of the way that a pass goes, 0 to 1) -> its planner.

    Raises:
        InfeasibleBudgetError: the limits of a pass are out of reach, and so are those that follow.
    """
    options, reached = workshop.options, Approached(network, saliency)
    for number in range(1, options.passes):
        part = number / options.passes
        room = between(dense, limits, options.schedule, part)
        one = partial(_plan, planner, reached, room, part)
        small, whole, history = _taken(workshop, number, reached, one)
        histories = {**reached.histories, f"pass {number}": history}
        reached = Approached(small, worth(small), whole, histories)
    return reached


def _plan(planner: Planners, reached: Approached, room: Budget, part: float) -> Plan:
    return planner(reached.network, reached.saliency, part).propose(room).plan


def _taken(
    workshop: Workshop, number: int, before: Approached, planned: Callable[[], Plan]
) -> tuple[Network, Plan, History]:
    """One pass: the network that is left, what all passes so far took, and what recovering told."""
    first, progress = workshop.network, workshop.builder.progress
    name = f"pass-{number}"
    folder = workshop.stages.run / "stages" / name

    def make() -> tuple[Network, Plan, History]:
        progress.stage(f"pass {number} of {workshop.options.passes}")
        plan = planned()
        small = shrunk(before.network, plan)
        history = rebuilt(workshop, name, small, before.network, plan, workshop.options.epochs, sparsity=None)
        whole = before.whole(plan)
        save_pruned(small.module, whole, folder)
        return small, whole, history

    def load(history: History) -> tuple[Network, Plan, History]:
        module = load_pruned(first.module, first.channels, folder)
        return read_network(module, first.example_inputs, first.interface), load_plan(folder), history

    return workshop.stages.once(name, make, save=lambda made: made[2], load=load)


def between(dense: Budget, limits: Budget, schedule: str, part: float) -> Budget:
    """The limits of a pass: those of the dense network, brought down by a schedule to those of the last pass.

    Args:
        part: of the passes that are over, 0 to 1.
    """
    found = {}
    for name in ("latency_ms", "flash_bytes", "ram_bytes"):
        limit, whole = getattr(limits, name), getattr(dense, name)
        if limit is not None:
            goes = 0.0 if whole is None else max(0.0, 1 - limit / whole)
            found[name] = limit / (1 - goes) * (1 - Schedule(schedule, goes, ramp=1.0).share(part))
    return Budget(**found)


def widened(most: Mapping[str, int], sizes: Mapping[str, int], schedule: str, part: float) -> dict[str, int]:
    """What a rule keeps of each group at most, in a pass before the last."""
    return {
        name: max(width, round(sizes[name] * (1 - Schedule(schedule, 1 - width / sizes[name], ramp=1.0).share(part))))
        for name, width in most.items()
    }
