"""Pruning from a stored profile: nothing is measured, nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeprune.budget.problem import Budget
from edgeprune.budget.promise import Limit
from edgeprune.budget.registry import get_solver
from edgeprune.compiler.compile import read_network
from edgeprune.devices.protocol import Device
from edgeprune.errors import UsageError
from edgeprune.fitting.choose import choose, score, shrunk, with_removable
from edgeprune.fitting.run_folder import RunRecord, check_out, save_run
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.store import ProfileStore
from edgeprune.profiling.fingerprint import fingerprint_of
from edgeprune.profiling.profile import ProfileOptions, levels_of
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.plan import Plan
from edgeprune.targets import Target
from edgeprune.training.data import DataSet
from edgeprune.training.teach import taught


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a plan is asked for; relative limits are of the dense network's predicted cost."""

    latency: Limit | None = None
    flash: Limit | None = None
    solver: str = "knapsack"
    criterion: str = "l2"
    seed: int = 0
    allow_mismatch: bool = False
    profile: ProfileOptions = field(default_factory=ProfileOptions)


@dataclass(frozen=True, slots=True)
class PlanResult:
    """``removed_blocks``: names of those that went whole; ``paths``: what was written."""

    plan: Plan
    removed_blocks: tuple[str, ...]
    paths: Mapping[str, Path]


def plan_only(
    record: RunRecord,
    target: Target,
    device: Device,
    store: ProfileStore,
    out: Path,
    request: PlanRequest,
    *,
    data: DataSet | None = None,
    progress: Progress = SILENT,
) -> PlanResult:
    """Write plan and shrunk weights into ``out``.

    Raises:
        UsageError: no limit, an unknown solver or criterion, or an ``out`` that cannot be a folder.
        ProfileError, ProfileMismatchError: the store does not cover the network on this device.
        InfeasibleBudgetError: nothing reaches the budget; nothing was written.
    """
    if request.latency is None and request.flash is None:
        raise UsageError("no budget was given", hint="for example --latency 12ms or --flash 2MB")
    get_solver(request.solver)
    check_out(out)
    loaded = record.load()
    network = read_network(loaded.module, loaded.example_inputs)
    if request.profile.blocks:
        network = with_removable(network, progress)
    info = device.describe()
    fingerprint = fingerprint_of(target, info, request.profile.threads, network.kernels)
    found = store.find(fingerprint, allow_mismatch=request.allow_mismatch)
    model = LatencyModel(found.records())
    dense = model.network(n.spec for n in network.kernels.nodes)
    if data is not None:
        data = taught(network.module, data)
    scores = score(network, request.criterion, data, seed=request.seed)
    chosen = choose(
        network,
        scores,
        model,
        levels_of(network.channels, target, request.profile),
        Budget(
            None if request.latency is None else request.latency.resolve(dense.latency_ms),
            None if request.flash is None else request.flash.resolve(dense.flash_bytes),
        ),
        solver=request.solver,
        criterion_name=request.criterion,
        progress=progress,
    )
    paths = save_run(out, record, chosen.plan, shrunk(network, chosen.plan))
    return PlanResult(chosen.plan, tuple(b.name for b in network.channels.removed(chosen.plan.empty)), paths)
