"""From saliency and latency tables to a plan: the one place where the problem is built and solved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from edgeprune.budget.problem import Budget, Problem, Solution
from edgeprune.budget.registry import get_solver
from edgeprune.compiler.compile import Network
from edgeprune.importance.criterion import Scores
from edgeprune.importance.registry import criterion
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.problem import build_problem, usable_levels
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.plan import Plan, make_plan


@dataclass(frozen=True, slots=True)
class Chosen:
    """A plan, what the solver said of it, and levels that kernels which failed took out."""

    plan: Plan
    solution: Solution
    problem: Problem
    dropped: Mapping[str, Mapping[int, str]]


def score(
    network: Network, name: str, batches: Iterable[tuple[Tensor, Tensor]] | None = None, *, seed: int = 0
) -> Scores:
    """Saliency of every channel by the named criterion.

    Raises:
        UsageError: unknown criterion, or one that needs data and got none.
    """
    options = {"seed": seed} if name == "random" else {}
    return criterion(name, **options).score(network.module, network.channels, batches)


def choose(
    network: Network,
    scores: Scores,
    model: LatencyModel,
    levels: Mapping[str, tuple[int, ...]],
    budget: Budget,
    *,
    solver: str,
    criterion_name: str,
    evidence: str,
    program_bytes: float = 0.0,
    progress: Progress = SILENT,
) -> Chosen:
    """The widths of highest retained saliency that ``solver`` finds inside the budget.

    Args:
        model: already corrected by what was measured.
        evidence: level of the profile; predicted figures carry it.
        program_bytes: flash that the program needs besides its kernels and weights.

    Raises:
        InfeasibleBudgetError: nothing reaches the budget.
        ProfileError: the profile does not cover the network.
    """
    usable, dropped = usable_levels(network.kernels, network.channels, levels, model)
    problem = build_problem(network.kernels, network.channels, scores, usable, model, estimate=True)
    problem = Problem(problem.choices, problem.terms, problem.base_latency_ms, problem.base_flash_bytes + program_bytes)
    solution = get_solver(solver).solve(problem, budget, progress=progress)
    widths = {c.name: w for c, w in zip(problem.choices, solution.widths, strict=True)}
    plan = make_plan(
        network.channels,
        widths,
        scores,
        predicted={
            "latency_ms": solution.latency_ms,
            "flash_bytes": solution.flash_bytes,
            "saliency_retained": solution.saliency,
            "evidence": evidence,
        },
        method={
            "solver": solver,
            "criterion": criterion_name,
            "steps": solution.steps,
            "latency_correction": model.correction,
            "budget": {"latency_ms": budget.latency_ms, "flash_bytes": budget.flash_bytes},
        },
        certificate={} if solution.bound is None else {"saliency_upper_bound": solution.bound},
    )
    return Chosen(plan, solution, problem, dropped)
