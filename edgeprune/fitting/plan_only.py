"""Pruning from a stored profile: nothing is measured, nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeprune.budget.promise import Promise
from edgeprune.budget.registry import get_solver
from edgeprune.compiler.compile import Network, read_network
from edgeprune.devices.protocol import Device
from edgeprune.fitting.planner import Planner, score, shrunk, with_removable
from edgeprune.fitting.run_folder import RunRecord, check_out, save_run
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.store import ProfileStore
from edgeprune.models.loading import LoadedModel
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

    promise: Promise
    solver: str = "knapsack"
    criterion: str = "l2"
    seed: int = 0
    allow_mismatch: bool = False
    profile: ProfileOptions = field(default_factory=ProfileOptions)


@dataclass(frozen=True, slots=True)
class PlanResult:
    """Attributes:
    small: the network as the plan makes it.
    removed_blocks: names of those that went whole.
    paths: what was written, by name.
    dropped: group -> width -> why it was not offered.
    """

    plan: Plan
    small: Network
    removed_blocks: tuple[str, ...]
    paths: Mapping[str, Path]
    dropped: Mapping[str, Mapping[int, str]]


def plan_only(
    model: LoadedModel,
    target: Target,
    device: Device,
    store: ProfileStore,
    out: Path,
    request: PlanRequest,
    *,
    data: DataSet | None = None,
    record: RunRecord | None = None,
    progress: Progress = SILENT,
) -> PlanResult:
    """Write plan and shrunk weights into ``out``.

    Raises:
        UsageError: no limit, an unknown solver or criterion, or an ``out`` that cannot be a folder.
        ProfileError, ProfileMismatchError: the store does not cover the network on this device.
        InfeasibleBudgetError: nothing reaches the budget; nothing was written.
    """
    request.promise.require_limit()
    get_solver(request.solver)
    check_out(out)
    network = read_network(model.module, model.example_inputs)
    if request.profile.blocks:
        network = with_removable(network, progress)
    info = device.describe()
    fingerprint = fingerprint_of(target, info, request.profile.threads, network.kernels)
    found = store.find(fingerprint, allow_mismatch=request.allow_mismatch)
    tables = LatencyModel(found.records())
    dense = tables.network(n.spec for n in network.kernels.nodes)
    if data is not None:
        data = taught(network.module, data)
    scores = score(network, request.criterion, data, seed=request.seed)
    planner = Planner(
        network,
        scores,
        tables,
        levels_of(network.channels, target, request.profile),
        solver=request.solver,
        criterion_name=request.criterion,
        progress=progress,
    )
    plan = planner.propose(request.promise.resolve(dense.latency_ms, dense.flash_bytes)).plan
    small = shrunk(network, plan)
    paths = save_run(out, record, plan, small.module)
    return PlanResult(plan, small, tuple(b.name for b in network.channels.removed(plan.empty)), paths, planner.dropped)
