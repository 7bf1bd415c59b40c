"""prune: a smaller network from a stored profile; nothing is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.amounts import percent, size, written
from edgeprune.api.arguments import Data, Densities, Inputs, Model, Shape, TaskArgument, promised
from edgeprune.api.opened import Where
from edgeprune.api.planning import Planning, Question
from edgeprune.api.shown import Network, folder_of
from edgeprune.budget.effort import USUAL, Effort
from edgeprune.budget.registry import get_solver
from edgeprune.devices.protocol import Device
from edgeprune.errors import UsageError
from edgeprune.fitting.densities import planned_blocks, ranking_of
from edgeprune.fitting.planner import shrunk
from edgeprune.fitting.recover import History, Lesson, made_sparse
from edgeprune.fitting.recover import recover as recover_by
from edgeprune.fitting.recoveries import UNTRAINED, recoveries_of
from edgeprune.fitting.run_folder import check_out, save_question, save_run
from edgeprune.fitting.sparse import check_sparsity, sparsities
from edgeprune.graph.network import Network as ReadNetwork
from edgeprune.importance.curves import IMPORTANCE
from edgeprune.latency.densities import parse_densities
from edgeprune.models.loading import LoadedModel
from edgeprune.progress import Progress
from edgeprune.pruning.measures import Sparsity
from edgeprune.pruning.measures import sparsity as sparsity_of
from edgeprune.pruning.plan import Plan
from edgeprune.report.tables import Table, facts_table
from edgeprune.targets import Target
from edgeprune.training.ranges import input_ranges

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, repr=False)
class Pruned(Network):
    """A network pruned by a stored profile: nothing of it was measured or trained.

    Attributes:
        plan: the channels that stay, with what is predicted of the network they make.
        removed_blocks: names of those that went whole.
        not_offered: group -> width -> why the solver could not choose it.
        paths: what was written, by name; ``folder`` is where.
        dense_ms: what the profile predicts of the network as it was; ``target``: the kind of board.
        recovered: what recovering told: of each layer that was re-solved, its error before and after.
        sparsity: what is gone, in weights, channels, multiply-adds.
    """

    small: LoadedModel
    plan: Plan
    removed_blocks: tuple[str, ...]
    not_offered: Mapping[str, Mapping[int, str]]
    paths: Mapping[str, Path]
    folder: Path
    dense_ms: float
    target: str
    recovered: History
    sparsity: Sparsity

    @property
    def loaded(self) -> LoadedModel:
        return self.small

    @property
    def latency_ms(self) -> float:
        """Predicted from the profile."""
        return float(self.plan.predicted["latency_ms"])

    @property
    def interval_ms(self) -> tuple[float, float]:
        """Where the latency lies in 95 % of all cases, by what the profile does not know of it."""
        low, high = self.plan.predicted.get("latency_interval_ms", (self.latency_ms, self.latency_ms))
        return float(low), float(high)

    @property
    def flash_bytes(self) -> float:
        """Its program's file, predicted from the profile."""
        return float(self.plan.predicted["flash_bytes"])

    @property
    def ram_bytes(self) -> int | None:
        """Peak RAM of its program, to the byte; None where a block is gone and RAM had no limit."""
        found: int | None = self.plan.predicted.get("ram_bytes")
        return found

    @property
    def summary(self) -> str:
        low, high = (written(ms, "ms") for ms in self.interval_ms)
        # Where a clock counts and all kernels were measured, nothing is left to doubt.
        doubt = "" if low == high else f", {low} to {high} in 95 % of all cases"
        share = percent(self.latency_ms / self.dense_ms)
        said = f"{written(self.latency_ms, 'ms')} ({share} of the dense network's{doubt})"
        said += f", {size(self.flash_bytes)} of flash"
        said += "" if self.ram_bytes is None else f", {size(self.ram_bytes)} of RAM"
        return f"{self.small.name}, {said}, predicted ({self.plan.predicted['evidence']})"

    def plot(self) -> Figure:
        """Channels of every width group, and those that stay."""
        from edgeprune.report.plots.profiles import draw_kept

        return draw_kept(self.plan.sizes, {g: self.plan.width(g) for g in self.plan.sizes})

    def tables(self) -> tuple[Table, ...]:
        rows = tuple(
            (g, str(n), str(self.plan.width(g)), percent(self.plan.width(g) / n)) for g, n in self.plan.sizes.items()
        )
        rebuilt = self.recovered.get("reconstructed", ())
        better = sum(layer["after"] < layer["before"] for layer in rebuilt)
        solved = {"layers re-solved": f"{better} of {len(rebuilt)}"} if rebuilt else {}
        gone = ", ".join(f"{name} {percent(share)}" for name, share in self.sparsity.shares().items())
        unchanged = {} if self.plan.changes else {"note": "the network as it is keeps the budget: nothing was removed"}
        following = {"written to": self.folder, "next": f"edgeprune compile {self.folder} --target {self.target}"}
        groups = Table(self.summary, ("group", "size", "kept", "share"), rows)
        blocks = ", ".join(f"{weight} {density} %" for weight, density in self.plan.in_blocks.items())
        if self.plan.densities:
            following = {"blocks of weights kept": blocks or "all", **following}
        return groups, facts_table({**unchanged, "sparsity": gone, **solved, **following})

    def to_json(self) -> dict[str, Any]:
        return {
            "dense_ms": self.dense_ms,
            "removed_blocks": self.removed_blocks,
            "not_offered": {g: {str(w): why for w, why in found.items()} for g, found in self.not_offered.items()},
            "predicted": dict(self.plan.predicted),
            "paths": dict(self.paths),
            "recovered": self.recovered,
            "sparsity": {
                **self.sparsity.to_json(),
                "absolute": self.sparsity.absolute,
                "shares": self.sparsity.shares(),
            },
            "densities": dict(self.plan.densities),
            "groups": [{"group": g, "size": n, "kept": self.plan.width(g)} for g, n in self.plan.sizes.items()],
        }


def prune(
    model: Model,
    *,
    latency: str | float | None = None,
    flash: str | float | None = None,
    ram: str | float | None = None,
    statistic: str = "median",
    target: str | Target = "host",
    device: str | Device | None = None,
    data: Data = None,
    task: TaskArgument = None,
    pixels: str | None = None,
    out: Where = None,
    example_inputs: Inputs = None,
    weights: Where = None,
    input_shape: Shape = None,
    example: Where = None,
    seed: int = 0,
    threads: int = 1,
    points: int = 8,
    step: int | None = None,
    blocks: bool = False,
    densities: Densities = None,
    tune: int = 8,
    store: Where = None,
    allow_mismatch: bool = False,
    solver: str = "exact",
    time_limit_s: float | None = USUAL.time_limit_s,
    gap: float = USUAL.gap,
    criterion: str = "l2",
    objective: str = IMPORTANCE,
    rule: str | None = None,
    sparsity: str | None = None,
    recover: str = "none",
    progress: bool | Progress | None = None,
) -> Pruned:
    """A smaller network inside a budget of latency, size or RAM, chosen from a stored profile; nothing is measured.

    Relative limits are of the dense network's predicted cost. Arguments and results are described in docs/API.md.

    Raises:
        UsageError, ModelLoadError: what was asked for makes no sense.
        ProfileError, ProfileMismatchError: the store does not cover the network on this device.
        InfeasibleBudgetError: nothing reaches the budget; nothing was written.
    """
    promise = promised(latency, flash, statistic, ram, rule)
    get_solver(solver)
    _check_recovery(recover, has_data=data is not None)
    check_sparsity(sparsity or "", has_data=data is not None, trains=False)
    effort = Effort(time_limit_s, gap)
    opened = Question(
        model=model,
        target=target,
        device=device,
        data=data,
        task=task,
        pixels=pixels,
        example_inputs=example_inputs,
        weights=weights,
        input_shape=input_shape,
        example=example,
        seed=seed,
        threads=threads,
        points=points,
        step=step,
        blocks=blocks,
        densities=parse_densities(densities),
        tune=tune,
        store=store,
        allow_mismatch=allow_mismatch,
        criterion=criterion,
        objective=objective,
        rule=rule,
        sparsity=sparsity or "",
    ).open()
    folder = folder_of(out, opened.loaded.name, target)
    check_out(folder)
    limited = bool(promise.ram)
    with opened.planning(ram_limited=limited, solver=solver, effort=effort, progress=progress) as planning:
        dense, dense_ram = planning.dense, planning.ram.dense_bytes if limited else None
        plan = planning.planner.propose(promise.resolve(dense.latency_ms, planning.dense_flash_bytes, dense_ram)).plan
        solved = planning.planner.solved(plan)
        network = planning.network
        small = shrunk(network, plan)
        recovered = _recovered(planning, small, plan, recover, sparsity or "")
        ranges = () if planning.data is None else input_ranges(network, planning.data.train)
    record = None if opened.record is None else replace(opened.record, input_ranges=ranges)
    interface = replace(opened.loaded.interface, ranges=ranges)
    return Pruned(
        small=replace(opened.loaded, module=small.module, example_inputs=small.example_inputs, interface=interface),
        plan=plan,
        removed_blocks=tuple(b.name for b in network.channels.removed(plan.empty)),
        not_offered=planning.planner.dropped,
        paths={
            **save_run(folder, record, plan, small.module),
            **save_question(folder, solved, planning.saliency),
        },
        folder=folder,
        dense_ms=dense.latency_ms,
        target=opened.target.name,
        recovered=recovered,
        sparsity=sparsity_of(network, small, plan),
    )


def _check_recovery(chain: str, *, has_data: bool) -> None:
    steps = recoveries_of(chain)
    if "finetune" in steps:
        raise UsageError("prune trains nothing", hint=f"take --recover {UNTRAINED}, or fine-tune with edgeprune fit")
    if steps and not has_data:
        raise UsageError(f"recovery by {', '.join(steps)} needs data", hint="give --data, or --recover none")


def _recovered(planning: Planning, small: ReadNetwork, plan: Plan, chain: str, asked: str) -> History:
    data, task = planning.data, planning.task
    ranking = ranking_of(plan.method["criterion"], small, data, task)
    found = (*sparsities(asked, "weights", small, data, task), *planned_blocks(plan, ranking))
    if data is None or task is None:
        return made_sparse(small, found)
    lesson = Lesson(small, planning.network, plan, data, task, sparsity=found, progress=planning.progress)
    return recover_by(lesson, chain)
