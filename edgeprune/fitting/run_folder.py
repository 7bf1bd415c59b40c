"""The run folder: plan, pruned weights, the question that the plan answers, how the original network was loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import StrictInt
from torch import nn

from edgeprune.budget.solving import PROBLEM, SOLUTION, Solved
from edgeprune.errors import BadInputError, UsageError
from edgeprune.files import write_whole
from edgeprune.fitting.saved import CURVES, SCORES, save_saliency
from edgeprune.graph.network import Network, read_network
from edgeprune.importance.curves import Saliency
from edgeprune.jsonable import Jsonable
from edgeprune.models.entrypoint import is_entrypoint
from edgeprune.models.image_input import ImageInput
from edgeprune.models.loading import LoadedModel, Shapes, load_model
from edgeprune.models.ranges import InputRange
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.widths import load_pruned, save_pruned

SCHEMA = "edgeprune.run/1"
RUN_FILE = "run.json"


@dataclass(frozen=True, slots=True)
class RunRecord(Jsonable):
    """How a model was named on the command line: enough to build it again.

    ``image_input``: as programs take frames. ``input_ranges``: what the data of the run had, for each input.
    """

    model: str
    weights: str | None = None
    input_shape: tuple[StrictInt, ...] | dict[str, tuple[StrictInt, ...]] | None = None
    seed: StrictInt = 0
    example: str | None = None
    image_input: str | None = None
    input_ranges: tuple[InputRange | None, ...] = ()

    def load(self) -> LoadedModel:
        model = load_model(
            self.model, weights=self.weights, input_shape=self.input_shape, example=self.example, seed=self.seed
        )
        image = ImageInput.parse(self.image_input)
        return replace(model, interface=replace(model.interface, image=image, ranges=self.input_ranges))

    @classmethod
    def of(
        cls,
        model: str,
        weights: str | None = None,
        input_shape: Shapes = None,
        example: str | None = None,
        seed: int = 0,
    ) -> RunRecord:
        """A record with absolute paths, so that it outlives the working folder."""
        model = absolute(model) or model
        weights, example = (None if file is None else str(Path(file).resolve()) for file in (weights, example))
        shape = dict(input_shape) if isinstance(input_shape, Mapping) else input_shape
        return cls(model, weights, shape, seed, example)


def absolute(source: str | None) -> str | None:
    """A model or data source with an absolute path, if it names a file."""
    if source is None:
        return None
    path, colon, factory = source.rpartition(":")
    if source.endswith((".pt2", ".onnx", ".npz", ".yaml", ".yml")) or (not colon and Path(source).is_dir()):
        return str(Path(source).resolve())
    return f"{Path(path).resolve()}:{factory}" if colon and path.endswith(".py") else source


def check_out(out: Path) -> None:
    """Refuse, before any work is done, a path at which no run folder can be made.

    Raises:
        UsageError: ``out``, or a folder above it, is a file.
    """
    found = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not found.is_dir():
        raise UsageError(f"{found} is a file, not a folder", hint="choose another --out")


def save_run(out: Path, record: RunRecord | None, plan: Plan, module: nn.Module) -> dict[str, Path]:
    """Write plan and weights (and ``record``) into ``out``; returns the paths by name."""
    save_pruned(module, plan, out)
    paths, path = {"weights": out / "model.safetensors", "widths": out / "widths.json"}, out / RUN_FILE
    if record is None:
        path.unlink(missing_ok=True)  # of another network that was here before
    else:
        write_whole(path, json.dumps({"schema": SCHEMA, **record.to_json()}, indent=1, sort_keys=True) + "\n")
        paths["run"] = path
    return paths


def save_question(out: Path, solved: Solved, saliency: Saliency) -> dict[str, Path]:
    """Write why the widths are as they are: problem, answer with its certificate, saliency; the paths by name."""
    solved.save_in(out)
    save_saliency(saliency, out)
    return {"problem": out / PROBLEM, "solution": out / SOLUTION, "scores": out / SCORES, "curves": out / CURVES}


def load_run(folder: Path, factory: str | None = None) -> tuple[LoadedModel, Network]:
    """The original model of a run, and its pruned network.

    Args:
        factory: the entry point (``FILE.py:factory``, ``package.module:factory``) of a run that was made from
            one. Code is run because the user named it, never because a file in a folder does.

    Raises:
        BadInputError: the folder is no run; ModelLoadError, PlanError: its files do not fit.
        UsageError: the run was made from an entry point, and ``factory`` is not given.
    """
    path = folder / RUN_FILE
    try:
        data = json.loads(path.read_text())
        if data.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        record = RunRecord.from_json(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise BadInputError(
            f"{folder} is not the folder of a run: {e}", hint="give the --out of edgeprune prune or fit"
        ) from e
    if not record.model.startswith("zoo:") and is_entrypoint(record.model):
        if factory is None:
            raise UsageError(
                f"{folder} was made from {record.model}, which is code that would have to be run",
                hint=f"if you trust it, name it yourself: --factory '{record.model}'",
                model=record.model,
            )
        record = replace(record, model=factory)
    model = record.load()
    original = read_network(model.module, model.example_inputs)
    pruned = load_pruned(model.module, original.channels, folder)
    return model, read_network(pruned, model.example_inputs, model.interface)
