"""prune, compile and export: a smaller network from a stored profile, the program that a board runs, an ONNX file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.amounts import percent, size, written
from edgeprune.api.arguments import (
    Data,
    Frames,
    Inputs,
    Model,
    Shape,
    TaskArgument,
    Where,
    open_model,
)
from edgeprune.api.planning import Question
from edgeprune.api.progress import reporting
from edgeprune.api.schedules import schedule_book
from edgeprune.api.shown import Network, Shown, folder_of
from edgeprune.budget.effort import USUAL, Effort
from edgeprune.budget.promise import Promise
from edgeprune.budget.registry import get_solver
from edgeprune.compiler.compile import compile_network
from edgeprune.compiler.manifest import Manifest
from edgeprune.devices.protocol import Device
from edgeprune.fitting.planner import shrunk
from edgeprune.fitting.run_folder import RUN_FILE, check_out, save_question, save_run
from edgeprune.fitting.run_folder import load_run as load_folder
from edgeprune.graph.network import Network as ReadNetwork
from edgeprune.graph.network import read_network
from edgeprune.home import store_path
from edgeprune.importance.curves import IMPORTANCE
from edgeprune.models.image_input import ImageInput
from edgeprune.models.loading import LoadedModel
from edgeprune.models.onnx.export import DEFAULT_OPSET, export_onnx
from edgeprune.progress import Progress
from edgeprune.pruning.plan import Plan
from edgeprune.report.tables import Table, facts_table
from edgeprune.targets import Target, load_target

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
    """

    small: LoadedModel
    plan: Plan
    removed_blocks: tuple[str, ...]
    not_offered: Mapping[str, Mapping[int, str]]
    paths: Mapping[str, Path]
    folder: Path
    dense_ms: float
    target: str

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
        unchanged = {} if self.plan.keep else {"note": "the network as it is keeps the budget: nothing was removed"}
        following = {"written to": self.folder, "next": f"edgeprune compile {self.folder} --target {self.target}"}
        groups = Table(self.summary, ("group", "size", "kept", "share"), rows)
        return groups, facts_table({**unchanged, **following})

    def to_json(self) -> dict[str, Any]:
        return {
            "dense_ms": self.dense_ms,
            "removed_blocks": self.removed_blocks,
            "not_offered": {g: {str(w): why for w, why in found.items()} for g, found in self.not_offered.items()},
            "predicted": dict(self.plan.predicted),
            "paths": dict(self.paths),
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
    tune: int = 8,
    store: Where = None,
    allow_mismatch: bool = False,
    solver: str = "exact",
    time_limit_s: float | None = USUAL.time_limit_s,
    gap: float = USUAL.gap,
    criterion: str = "l2",
    objective: str = IMPORTANCE,
    progress: bool | Progress | None = None,
) -> Pruned:
    """A smaller network inside a budget of latency, size or RAM, chosen from a stored profile; nothing is measured.

    Relative limits are of the dense network's predicted cost. Arguments and results are described in docs/API.md.

    Raises:
        UsageError, ModelLoadError: what was asked for makes no sense.
        ProfileError, ProfileMismatchError: the store does not cover the network on this device.
        InfeasibleBudgetError: nothing reaches the budget; nothing was written.
    """
    promise = Promise.parse(latency, flash, statistic, ram)
    get_solver(solver)
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
        tune=tune,
        store=store,
        allow_mismatch=allow_mismatch,
        criterion=criterion,
        objective=objective,
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
    return Pruned(
        small=replace(opened.loaded, module=small.module, example_inputs=small.example_inputs),
        plan=plan,
        removed_blocks=tuple(b.name for b in network.channels.removed(plan.empty)),
        not_offered=planning.planner.dropped,
        paths={
            **save_run(folder, opened.record, plan, small.module),
            **save_question(folder, solved, planning.saliency),
        },
        folder=folder,
        dense_ms=dense.latency_ms,
        target=opened.target.name,
    )


@dataclass(frozen=True, slots=True, repr=False)
class Bundle(Shown):
    """A compiled network in a folder: one native program, weights, manifest. It serves as a path, too."""

    path: Path
    manifest: Manifest

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def release(self) -> str:
        return self.manifest.release_id

    @property
    def summary(self) -> str:
        return f"{self.path}, {size(self.manifest.memory.flash)} for {self.manifest.target}"

    def to_json(self) -> dict[str, Any]:
        return {
            "bundle": self.path,
            "release": self.release,
            "target": self.manifest.target,
            "kernels": len(self.manifest.kernels),
            "schedules_from": dict(Counter(k.schedule_source for k in self.manifest.kernels)),
            "memory": self.manifest.memory.model_dump(),
            "evidence": "compiled",
        }


def compile(
    model: Model | Path,
    *,
    target: str | Target = "host",
    device: str | Device | None = None,
    out: Where = None,
    factory: str | None = None,
    example_inputs: Inputs = None,
    weights: Where = None,
    input_shape: Shape = None,
    example: Where = None,
    seed: int = 0,
    threads: int = 1,
    store: Where = None,
    allow_mismatch: bool = False,
    image_input: Frames = None,
    progress: bool | Progress | None = None,
) -> Bundle:
    """A bundle for a target: the network, or the pruned network of a run, compiled to one native program.

    With ``image_input`` the program takes camera frames. That of a run takes them anyway if the run was begun so.

    Schedules come from the profile of the device, where there is one; with a ``device`` there has to be one.
    Arguments and results are described in docs/API.md.

    Raises:
        UsageError, ModelLoadError, TargetError: what was asked for makes no sense.
        ProfileError, ProfileMismatchError: a device was named, and the store holds no profile of it.
        KernelBuildError, LinkError: the compiler failed.
    """
    kind, image = load_target(target) if isinstance(target, str) else target, ImageInput.parse(image_input)
    loaded, network = _opened(model, factory, example_inputs, weights, input_shape, example, seed)
    if image is not None:
        network = read_network(network.module, network.example_inputs, replace(network.interface, image=image))
    book = schedule_book(
        network,
        kind,
        store_path(store),
        device or kind.default_device,
        threads,
        required=device is not None,
        allow_mismatch=allow_mismatch,
    )
    folder = folder_of(out, loaded.name, target, "-bundle")
    with reporting(progress) as bar:
        manifest = compile_network(
            network,
            kind,
            folder,
            book=book,
            name=loaded.name,
            threads=threads,
            provenance={"model": loaded.source, "command": "compile"},
            progress=bar,
        )
    return Bundle(folder, manifest)


@dataclass(frozen=True, slots=True, repr=False)
class Exported(Shown):
    """A network as an ONNX file. ``difference``: of its outputs from torch's, relative to the largest."""

    path: Path
    opset: int
    parameters: int
    difference: float

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def summary(self) -> str:
        return f"{self.path}, {size(self.path.stat().st_size)}, opset {self.opset}"

    def to_json(self) -> dict[str, Any]:
        return {
            "onnx": self.path,
            "opset": self.opset,
            "bytes": self.path.stat().st_size,
            "parameters": self.parameters,
            "difference": self.difference,
            "evidence": "measured",
        }


def export(
    model: Model | Path,
    out: str | Path,
    *,
    opset: int = DEFAULT_OPSET,
    dynamic_batch: bool = False,
    factory: str | None = None,
    example_inputs: Inputs = None,
    weights: Where = None,
    input_shape: Shape = None,
    example: Where = None,
    seed: int = 0,
    progress: bool | Progress | None = None,
) -> Exported:
    """A network, or the pruned network of a run, as an ONNX file: run and compared with torch before it appears.

    Inputs and outputs have the names that the bundle's have. ``dynamic_batch`` leaves their first dimension open.

    Raises:
        UsageError, ModelLoadError: what was asked for makes no sense.
        UnsupportedOperatorError: torch cannot write an operator of the network in this opset.
        VerificationError: the file does not give what torch gives.
    """
    _, network = _opened(model, factory, example_inputs, weights, input_shape, example, seed)
    with reporting(progress) as bar:
        bar.stage("exporting", 1)
        difference = export_onnx(
            network.module,
            network.example_inputs,
            Path(out),
            opset=opset,
            input_names=[p.name for p in network.kernels.inputs],
            output_names=[p.name for p in network.kernels.outputs],
            dynamic_batch=dynamic_batch,
        )
        bar.advance()
    return Exported(Path(out), opset, sum(p.numel() for p in network.module.parameters()), difference)


def _opened(
    model: Model | Path,
    factory: str | None,
    example_inputs: Inputs,
    weights: Where,
    input_shape: Shape,
    example: Where,
    seed: int,
) -> tuple[LoadedModel, ReadNetwork]:
    """A model, or that of a run, and the network to compile: the pruned one of the run."""
    if isinstance(model, str | Path) and (Path(model) / RUN_FILE).is_file():
        return load_folder(Path(model), factory)
    source = str(model) if isinstance(model, Path) else model
    loaded, _ = open_model(source, example_inputs, weights, input_shape, example, seed)
    return loaded, read_network(loaded.module, loaded.example_inputs, loaded.interface)
