"""The pruned network on disk: ``model.safetensors`` beside ``widths.json``. No pickle.

The weights alone do not say how the smaller module is built. ``widths.json`` holds the plan that
turns the original module into it, the shape of every tensor, and the sha256 of the weight file, so
that two halves of different runs are never joined.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from edgeprune.errors import ModelLoadError
from edgeprune.files import write_whole
from edgeprune.graph.channels import ChannelGraph
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.shrink import shrink

SCHEMA = "edgeprune.widths/1"
WEIGHTS_FILE = "model.safetensors"
WIDTHS_FILE = "widths.json"


def save_pruned(module: nn.Module, plan: Plan, folder: Path) -> None:
    """Write a shrunk module and the plan that made it.

    Each file is replaced whole; a tied tensor is written once. The folder is made if need be.
    """
    tensors = {names[0]: tensor.contiguous() for tensor, names in _distinct(module)}
    weights = save_tensors({name: t.detach().cpu() for name, t in tensors.items()})
    widths = {
        "schema": SCHEMA,
        "plan": plan.to_json(),
        "shapes": {name: list(t.shape) for name, t in tensors.items()},
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    text = json.dumps(widths, indent=1, sort_keys=True, allow_nan=False)
    write_whole(folder / WEIGHTS_FILE, weights)
    write_whole(folder / WIDTHS_FILE, text)


def load_plan(folder: Path) -> Plan:
    """The plan that a pruned network was made by.

    Raises:
        ModelLoadError: it is missing or damaged. PlanError: it makes no sense.
    """
    return Plan.from_json(_read_widths(folder / WIDTHS_FILE)["plan"])


def load_pruned(original: nn.Module, graph: ChannelGraph, folder: Path) -> nn.Module:
    """Shrink ``original`` by the saved plan and fill in the saved weights; ``original`` is untouched.

    Args:
        original: the unpruned network, built by its own factory; its weights do not matter.
        graph: its channel graph.

    Raises:
        ModelLoadError: a file is missing, damaged, from another run, or for another network.
        PlanError: the saved plan does not fit ``graph``.
    """
    path = folder / WEIGHTS_FILE
    widths = _read_widths(folder / WIDTHS_FILE)
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != widths["weights_sha256"]:
        raise _refused(path, f"is not the file that {WIDTHS_FILE} was written with (sha256 differs)")
    try:
        tensors = load_tensors(data)
    except (SafetensorError, ValueError) as error:
        raise _refused(path, f"is not a safetensors file: {error}") from error
    module = shrink(original, graph, Plan.from_json(widths["plan"]))
    state: dict[str, Tensor] = {}
    for tensor, names in _distinct(module):
        saved = tensors.pop(names[0], None)
        if saved is None or saved.shape != tensor.shape or saved.dtype != tensor.dtype:
            found = "nothing" if saved is None else f"{tuple(saved.shape)} {saved.dtype}"
            raise _refused(
                path, f"has {found} for '{names[0]}', the network wants {tuple(tensor.shape)} {tensor.dtype}"
            )
        state.update(dict.fromkeys(names, saved))
    if tensors:
        raise _refused(path, f"has tensors the network lacks: {', '.join(sorted(tensors))}")
    module.load_state_dict(state)
    return module


def _distinct(module: nn.Module) -> list[tuple[Tensor, list[str]]]:
    """Tensors of the state dict with their names, a tied one once."""
    found: dict[int, tuple[Tensor, list[str]]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), (tensor, []))[1].append(name)
    return list(found.values())


def _read_widths(path: Path) -> dict[str, Any]:
    try:
        widths = json.loads(_read(path))
    except ValueError as error:
        raise _refused(path, f"is not JSON: {error}") from error
    if not isinstance(widths, dict) or widths.get("schema") != SCHEMA or not {"plan", "weights_sha256"} <= set(widths):
        raise _refused(path, f"does not follow schema {SCHEMA}")
    return widths


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}") from error


def _refused(path: Path, what: str) -> ModelLoadError:
    return ModelLoadError(f"{path} {what}", hint="write the pruned network again with 'prune'", path=str(path))
