"""compile and export: the program that a board runs, an ONNX file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.amounts import size
from edgeprune.api.arguments import Data, Frames, Inputs, Model, Shape, TaskArgument, open_data, open_model, open_task
from edgeprune.api.opened import Where
from edgeprune.api.progress import reporting
from edgeprune.api.schedules import schedule_book
from edgeprune.api.shown import Shown, folder_of
from edgeprune.compiler.compile import compile_network
from edgeprune.compiler.in_blocks import BlockSparse
from edgeprune.compiler.manifest import Manifest
from edgeprune.compiler.storage import AUTO, check_storage
from edgeprune.devices.protocol import Device
from edgeprune.fitting.run_folder import RUN_FILE
from edgeprune.fitting.run_folder import load_run as load_folder
from edgeprune.graph.network import Network as ReadNetwork
from edgeprune.graph.network import read_network, with_ranges
from edgeprune.home import store_path
from edgeprune.models.image_input import ImageInput
from edgeprune.models.loading import LoadedModel
from edgeprune.models.onnx.export import DEFAULT_OPSET, export_onnx
from edgeprune.progress import Progress
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.widths import load_plan
from edgeprune.targets import Target, load_target
from edgeprune.training.preflight import in_order, require_shapes
from edgeprune.training.ranges import input_ranges

if TYPE_CHECKING:
    pass


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
            "compressed": self.manifest.compressed_json(),
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
    data: Data = None,
    task: TaskArgument = None,
    pixels: str | None = None,
    weight_storage: str = AUTO,
    block_sparse: BlockSparse = "profiled",
    progress: bool | Progress | None = None,
) -> Bundle:
    """A bundle for a target: the network, or the pruned network of a run, compiled to one native program.

    With ``image_input`` the program takes camera frames. That of a run takes them anyway if the run was begun so.
    With ``data`` it knows the range of its inputs, and tells samples outside (docs/BOARD.md); that of a run which had
    data knows it anyway.
    ``weight_storage`` says whether weights lie in it without their zeros (docs/STORAGE.md): auto, dense, compressed.
    Layers whose weights are zero in blocks store the others alone where the profile says that this is quicker, or
    ``"always"``, or ``"never"``, as ``block_sparse`` says.

    Schedules come from the profile of the device, where there is one; with a ``device`` there has to be one.
    Arguments and results are described in docs/API.md.

    Raises:
        UsageError, ModelLoadError, TargetError: what was asked for makes no sense.
        ProfileError, ProfileMismatchError: a device was named, and the store holds no profile of it.
        KernelBuildError, LinkError: the compiler failed.
    """
    check_storage(weight_storage)
    kind, image = load_target(target) if isinstance(target, str) else target, ImageInput.parse(image_input)
    loaded, network = _opened(model, factory, example_inputs, weights, input_shape, example, seed)
    if image is not None:
        network = read_network(network.module, network.example_inputs, replace(network.interface, image=image))
    given = open_data(data, seed, task=open_task(task), inputs=network.example_inputs, pixels=pixels)
    if given is not None:
        given = in_order(given, network.example_inputs, [p.name for p in network.kernels.inputs])
        require_shapes(network.example_inputs, given)
        network = with_ranges(network, input_ranges(network, given.train))
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
    plan = _plan_of(model)
    # The program keeps a limit of RAM that the plan had to keep, too.
    limited = plan is not None and plan.method.get("budget", {}).get("ram_bytes") is not None
    if plan is not None and limited and block_sparse == "profiled" and not plan.in_blocks:
        block_sparse = "never"  # places of blocks take RAM that this plan knows nothing of
    with reporting(progress) as bar:
        manifest = compile_network(
            network,
            kind,
            folder,
            book=book,
            name=loaded.name,
            threads=threads,
            provenance={"model": loaded.source, "command": "compile"},
            weight_storage=weight_storage,
            ram_limited=limited,
            block_sparse=block_sparse,
            progress=bar,
        )
    return Bundle(folder, manifest)


def _plan_of(model: Model | Path) -> Plan | None:
    """The plan that a model comes from."""
    if isinstance(model, str | Path):
        return load_plan(Path(model)) if (Path(model) / RUN_FILE).is_file() else None
    plan = getattr(model, "plan", None)
    return plan if isinstance(plan, Plan) else None


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
