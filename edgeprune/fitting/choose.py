"""From saliency and latency tables to a plan: the one place where the problem is built and solved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from edgeprune.budget.problem import Budget, Problem, Solution
from edgeprune.budget.registry import get_solver
from edgeprune.compiler.compile import Network
from edgeprune.importance.criterion import Scores
from edgeprune.importance.registry import criterion
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.problem import build_problem, usable_levels
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.blocks import removable
from edgeprune.pruning.mask import check_equal, mask
from edgeprune.pruning.plan import Plan, make_plan
from edgeprune.pruning.shrink import shrink
from edgeprune.training.data import DataSet, batches

CALIBRATION = 512
"""Training samples that saliency and batch-norm statistics are taken from."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A plan, what the solver said of it, and levels that kernels which failed took out."""

    plan: Plan
    solution: Solution
    problem: Problem
    dropped: Mapping[str, Mapping[int, str]]


def calibration(data: DataSet, batch_size: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
    """The first :data:`CALIBRATION` training samples, in batches."""
    x, y = data.train
    return batches(x[:CALIBRATION], y[:CALIBRATION], batch_size)


def score(network: Network, name: str, data: DataSet | None = None, *, batch_size: int = 64, seed: int = 0) -> Scores:
    """Saliency of every channel by the named criterion, on the calibration samples of ``data``.

    Raises:
        UsageError: unknown criterion, or one that needs data and got none.
    """
    options = {"seed": seed} if name == "random" else {}
    found = criterion(name, **options)
    return found.score(network.module, network.channels, None if data is None else calibration(data, batch_size))


def choose(
    network: Network,
    scores: Scores,
    model: LatencyModel,
    levels: Mapping[str, tuple[int, ...]],
    budget: Budget,
    *,
    solver: str,
    criterion_name: str,
    program_bytes: float = 0.0,
    progress: Progress = SILENT,
) -> Chosen:
    """The widths of highest retained saliency that ``solver`` finds inside the budget.

    Args:
        model: already corrected by what was measured; predicted figures carry its evidence level.
        program_bytes: flash of the program beyond what the tables say. Often below 0: a linked
            program has the code of equal kernels once, and none of the symbols of object files.

    Raises:
        InfeasibleBudgetError: nothing reaches the budget.
        ProfileError: the profile does not cover the network.
    """
    usable, dropped = usable_levels(network.kernels, network.channels, levels, model)
    problem = build_problem(network.kernels, network.channels, scores, usable, model, estimate=True)
    problem = replace(problem, base_flash_bytes=problem.base_flash_bytes + program_bytes)
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
            "evidence": model.evidence,
        },
        method={
            "solver": solver,
            "criterion": criterion_name,
            "steps": solution.steps,
            "latency_correction": model.correction,
            "budget": budget.to_json(),
        },
        certificate={} if solution.bound is None else {"saliency_upper_bound": solution.bound},
    )
    return Chosen(plan, solution, problem, dropped)


def with_removable(network: Network, progress: Progress = SILENT) -> Network:
    """The network with those of its blocks that run, and agree with the masked network, once they are gone."""
    progress.stage("trying blocks")
    channels, refused = removable(network.module, network.channels, network.example_inputs)
    for name, why in refused.items():
        progress.note(f"block '{name}' stays: {why}")
    return replace(network, channels=channels)


def shrunk(network: Network, plan: Plan) -> nn.Module:
    """The smaller module, proven equal to the masked one on the example input.

    Raises:
        VerificationError, PlanError: it is not, or the plan does not fit.
    """
    module = shrink(network.module, network.channels, plan)
    masked = mask(network.module, network.channels, plan)
    check_equal(masked, module, network.example_inputs, graph=network.channels, plan=plan)
    return module
