"""The baseline of a report: one ratio for all groups, as fast as the pruned network was measured to be."""

from __future__ import annotations

from dataclasses import replace

from edgeprune.budget.promise import Limit
from edgeprune.errors import InfeasibleBudgetError
from edgeprune.fitting.planner import Planner, shrunk
from edgeprune.fitting.recover import History, recovered
from edgeprune.fitting.reference import Reference, at_most
from edgeprune.fitting.result import VariantResult
from edgeprune.fitting.workshop import Workshop
from edgeprune.graph.network import Network

SLACK = 1.02
"""The baseline may be this much slower than the pruned network: it should not lose by the grid."""
PATIENCE_S = 6.0
"""A comparison promises nothing, so the value is taken after a moment, decided or not."""


def uniform(
    workshop: Workshop, network: Network, planner: Planner, reference: Reference, latency_ms: float
) -> tuple[VariantResult | None, History]:
    """Search and recover as for the pruned network, with the same training.

    None where no ratio is as fast: the baseline serves the report and fails no fit.

    Args:
        network: that the pruned network was made of, and this one is.
        planner: of the solver ``uniform``, at levels of :func:`~edgeprune.latency.grids.finer`: a ratio knows no grid.
        latency_ms: of the pruned network.
    """
    progress, bundle = workshop.builder.progress, workshop.scratch / "uniform"
    limit = Limit(latency_ms * SLACK / reference.latency_ms, relative=True)
    rival = reference.asked(replace(reference.promise, latency=limit), PATIENCE_S)
    try:
        found, _ = workshop.search("uniform", network, planner, rival, at_most, margin=0.0)
    except InfeasibleBudgetError as e:
        progress.note(f"no uniform baseline: {e.message}")
        return None, {}
    if found is None:
        return None, {}
    plan = found.proposal.plan
    small, epochs = shrunk(network, plan), workshop.options.epochs
    small, history = recovered(workshop, "uniform-recovered", small, plan, epochs, origin=network)
    return workshop.variant("uniform", small, bundle, found.measured.judgement), history
