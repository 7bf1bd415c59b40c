"""Verify and re-solve: plans are measured before any training is spent on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeprune.budget.problem import Budget
from edgeprune.compiler.compile import Network
from edgeprune.errors import InfeasibleBudgetError, VerificationError
from edgeprune.fitting.choose import Chosen
from edgeprune.fitting.job import Job
from edgeprune.fitting.limits import Limits
from edgeprune.fitting.result import RoundResult, VariantResult
from edgeprune.importance.criterion import Scores
from edgeprune.latency.model import LatencyModel


@dataclass(frozen=True, slots=True)
class Kept:
    """A round that was measured inside the budget; ``model`` is corrected by that measurement."""

    chosen: Chosen
    network: Network
    latency_ms: float
    model: LatencyModel


def solve(
    job: Job, scores: Scores, limits: Limits, dense: VariantResult
) -> tuple[Kept, list[RoundResult], VariantResult]:
    """Solve, compile, measure; correct the latency model with the measurement and solve again.

    Each round is timed in turns with the dense network, so that a limit relative to it stays one.
    Returns the round inside the budget that retains the most saliency, all rounds, and the dense network with
    its lowest latency.

    Raises:
        InfeasibleBudgetError: the budget is below what can be reached.
        VerificationError: no round was measured inside it.
    """
    options = job.options
    rounds: list[RoundResult] = []
    best: Kept | None = None
    seen: list[Mapping[str, tuple[int, ...]]] = []
    model = LatencyModel(job.profiled.profile.records())
    tables = model.network(n.spec for n in job.network.kernels.nodes)
    # The dense network is measured anyway: what it takes beyond its kernels corrects the first round.
    model = model.corrected(dense.bench.median_ms, tables.latency_ms)
    base = dense.manifest.memory.flash - tables.flash_bytes
    for number in range(1, options.rounds + 1):
        budget = limits.budget(dense)
        limit = budget.latency_ms
        aim = Budget(None if limit is None else limit * (1 - options.margin), budget.flash_bytes)
        try:
            chosen = job.choose(scores, model, aim, solver=options.solver, program_bytes=base)
        except InfeasibleBudgetError:
            if best is None:
                raise
            break  # the margin is out of reach, the budget was not
        if best is not None and chosen.plan.keep in seen:
            break  # nothing better is to be found between two levels
        network = job.shrunk(chosen.plan)
        manifest = job.compile(network, job.scratch / f"round-{number}")
        with job.trials.open(job.scratch / f"round-{number}") as tried:
            tried.check()
            look = job.look(tried, dense)
        dense = look.dense
        limit = limits.budget(dense).latency_ms
        measured, flash_bytes = look.latency_ms, manifest.memory.flash
        predicted = chosen.plan.predicted
        # Half of the margin is left for the noise between this and the final check.
        kept = (limit is None or measured <= limit * (1 - options.margin / 2)) and (
            budget.flash_bytes is None or flash_bytes <= budget.flash_bytes
        )
        full = (
            not chosen.plan.keep
            or (limit is not None and measured >= limit * options.fill)
            or (budget.flash_bytes is not None and flash_bytes >= budget.flash_bytes * options.fill)
        )
        model = model.corrected(measured, predicted["latency_ms"])
        base += flash_bytes - predicted["flash_bytes"]
        rounds.append(RoundResult(number, predicted["latency_ms"], look.timing, model.correction, kept))
        job.progress.note(
            f"round {number}: predicted {predicted['latency_ms']:.4g} ms and {predicted['flash_bytes']:.0f} bytes, "
            f"measured {measured:.4g} ms and {flash_bytes} bytes"
        )
        if kept:
            seen.append(chosen.plan.keep)  # what was too slow may be looked at again
        if kept and (best is None or chosen.solution.saliency > best.chosen.solution.saliency):
            best = Kept(chosen, network, measured, model)
        if kept and full:
            break
    if best is None:
        asked = [f"{limit:.4g} ms"] if limit is not None else []
        asked += [f"{budget.flash_bytes:.0f} bytes"] if budget.flash_bytes is not None else []
        raise VerificationError(
            f"after {len(rounds)} rounds the network measures {measured:.4g} ms and {flash_bytes} bytes "
            f"against a budget of {' and '.join(asked)}",
            hint="raise the budget, allow more rounds, or profile again on a quiet device",
            rounds=[{"predicted_ms": r.predicted_ms, "measured_ms": r.measured.median_ms} for r in rounds],
        )
    return best, rounds, dense
