"""The baseline of a report: one ratio for all groups, as fast as the pruned network was measured to be."""

from __future__ import annotations

from typing import Any

from edgeprune.budget.problem import Budget
from edgeprune.errors import InfeasibleBudgetError
from edgeprune.fitting.job import Job
from edgeprune.fitting.recover import recover
from edgeprune.fitting.resolve import Kept
from edgeprune.fitting.result import VariantResult
from edgeprune.fitting.trial import trial
from edgeprune.importance.criterion import Scores

ROUNDS = 2
SLACK = 1.02
"""The baseline may be this much slower than the pruned network: it should not lose by the grid."""
FINE = 4
"""Levels of the baseline lie this many times closer than those that were profiled; a ratio knows no grid."""


def uniform(job: Job, scores: Scores, best: Kept, dense: VariantResult) -> tuple[VariantResult | None, dict[str, Any]]:
    """Solve, measure and correct as for the pruned network, then recover with the same training.

    None where no ratio is as fast: the baseline serves the report and fails no fit.
    """
    limit = best.latency_ms * SLACK
    levels = {group: _finer(widths) for group, widths in job.profiled.levels.items()}
    model, found = best.model, None
    for number in range(ROUNDS):
        try:
            chosen = job.choose(scores, model, Budget(latency_ms=limit), solver="uniform", levels=levels)
        except InfeasibleBudgetError as e:
            job.progress.note(f"no uniform baseline: {e.message}")
            break
        network = job.shrunk(chosen.plan)
        job.compile(network, job.scratch / f"uniform-{number}")
        with trial(job.scratch / f"uniform-{number}", job.device) as tried:
            measured = job.look(tried, dense).latency_ms
        kept = measured <= limit
        if kept and (found is None or measured > found[0]):
            found = (measured, network, chosen.plan)
        if kept and measured >= limit * job.options.fill:
            break
        model = model.corrected(measured, chosen.plan.predicted["latency_ms"])
    if found is None:
        return None, {}
    _, network, plan = found
    history = recover(job, network, plan)
    return job.variant(network, "uniform"), history


def _finer(widths: tuple[int, ...]) -> tuple[int, ...]:
    if len(widths) == 1:
        return widths
    step = max(1, (widths[1] - widths[0]) // FINE)
    return (*range(widths[0], widths[-1], step), widths[-1])
