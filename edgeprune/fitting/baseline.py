"""The baseline of a report: one ratio for all groups, as fast as the pruned network was measured to be."""

from __future__ import annotations

from typing import Any

from edgeprune.budget.problem import Budget
from edgeprune.compiler.compile import Network
from edgeprune.errors import InfeasibleBudgetError
from edgeprune.fitting.job import Job
from edgeprune.fitting.recover import recover
from edgeprune.fitting.resolve import Kept
from edgeprune.fitting.result import VariantResult
from edgeprune.importance.criterion import Scores
from edgeprune.pruning.plan import Plan

ROUNDS = 5
SLACK = 1.02
"""The baseline may be this much slower than the pruned network: it should not lose by the grid."""
STEP = 0.9
"""Where the tables lead back to a ratio that was too slow, less is asked of them."""
FINE = 4
"""Levels of the baseline lie this many times closer than those that were profiled; a ratio knows no grid."""


def uniform(job: Job, scores: Scores, best: Kept, dense: VariantResult) -> tuple[VariantResult | None, dict[str, Any]]:
    """Solve, measure and correct as for the pruned network, then recover with the same training.

    None where no ratio is as fast: the baseline serves the report and fails no fit.
    """
    limit = best.latency_ms * SLACK
    levels = {group: _finer(widths) for group, widths in job.profiled.levels.items()}
    found: tuple[float, Network, Plan] | None = None
    measured: dict[int, float] = {}  # by channels kept
    aim, fits, too_slow = limit, 0.0, float("inf")
    for number in range(ROUNDS):
        try:
            chosen = job.choose(scores, best.model, Budget(latency_ms=aim), solver="uniform", levels=levels)
        except InfeasibleBudgetError as e:
            job.progress.note(f"no uniform baseline: {e.message}")
            break
        width = sum(len(kept) for kept in chosen.plan.keep.values())
        if width in measured and fits > 0:
            break  # nothing lies between two levels
        if width in measured:
            aim *= STEP
            continue
        network = job.shrunk(chosen.plan)
        job.compile(network, job.scratch / f"uniform-{number}")
        with job.trials.open(job.scratch / f"uniform-{number}") as tried:
            measured[width] = job.look(tried, dense).latency_ms
        if measured[width] <= limit:
            fits = aim
            if found is None or measured[width] > found[0]:
                found = (measured[width], network, chosen.plan)
            if measured[width] >= limit * job.options.fill:
                break
        else:
            too_slow = aim
        # The tables know less of widths between their levels than of those: halve where both sides are known.
        aim = (fits + too_slow) / 2 if fits > 0 and too_slow < float("inf") else aim * limit / measured[width]
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
