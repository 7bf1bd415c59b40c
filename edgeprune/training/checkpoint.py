"""Checkpoints: where a training stands between two epochs, in one file, so that it goes on after a kill.

A safetensors file: the tensors, and in its header, as JSON, what else is known and a digest of all of it. It is
replaced atomically, and read whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from edgeprune.files import write_whole
from edgeprune.progress import SILENT, Progress

_SCHEMA = "edgeprune.training/1"
_TENSOR = "tensor:"
"""How the JSON names a tensor; no other text in it begins so."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The file that a training writes after each epoch, and goes on from where it is there.

    Attributes:
        path: of the file. It is not removed at the end: a finished training goes on with nothing left to do.
        of: says what is trained, where its first weights may differ in their last bits from run to run; by default
            a digest of these weights does.
    """

    path: Path
    of: str = ""

    def write(self, identity: Mapping[str, Any], state: Any) -> None:
        """Replace the file.

        Args:
            identity: what a training has to agree in to go on from here, as JSON.
            state: tensors, numbers, texts and None in lists and mappings by text.

        Raises:
            OSError: it cannot be written; what was there before still is.
        """
        tensors: dict[str, Tensor] = {}
        said = json.dumps({"schema": _SCHEMA, "identity": identity, "state": _packed(state, tensors)})
        write_whole(self.path, save(tensors, {"said": said, "sha256": _digest(said, tensors)}))

    def read(self, identity: Mapping[str, Any], progress: Progress = SILENT) -> Any:
        """The state of a training that agrees in ``identity``; None where there is none, with a note on why."""
        if not self.path.exists():
            return None
        try:
            # Read to the end before anything is made of it: what is mapped changes with the file.
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 it is no mapping
            said = header["said"]
            if header["sha256"] != _digest(said, tensors):
                raise ValueError("its digest is another one")
            found = json.loads(said)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            progress.note(f"{self.path} is damaged ({error}): the training begins anew")
            return None
        if found["schema"] != _SCHEMA or found["identity"] != json.loads(json.dumps(identity)):
            progress.note(f"{self.path} is of another training: this one begins anew")
            return None
        return _unpacked(found["state"], tensors)


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A digest of names, shapes, types and values."""
    return _digest("", tensors)


def optimizer_state(optimizer: Optimizer) -> list[dict[str, Any]]:
    """What an optimizer keeps of each parameter, in the order of its groups."""
    return [dict(optimizer.state[p]) for p in _parameters(optimizer)]


def restore_optimizer(optimizer: Optimizer, state: Iterable[Mapping[str, Any]]) -> None:
    """Give an optimizer of parameters of the same shapes what :func:`optimizer_state` found."""
    for parameter, kept in zip(_parameters(optimizer), state, strict=True):
        optimizer.state[parameter] = {
            k: like(parameter, v) if isinstance(v, Tensor) and v.shape == parameter.shape else v
            for k, v in kept.items()
        }


def like(parameter: Tensor, values: Tensor) -> Tensor:
    """Values in the memory layout of a parameter: sums of another order differ in their last bits."""
    return torch.empty_like(parameter, dtype=values.dtype, requires_grad=False).copy_(values)


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _packed(state: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(state, Tensor):
        name = str(len(tensors))
        tensors[name] = state.detach().cpu().contiguous().clone()
        return _TENSOR + name
    if isinstance(state, Mapping):
        return {k: _packed(v, tensors) for k, v in state.items()}
    if isinstance(state, list | tuple):
        return [_packed(v, tensors) for v in state]
    return state


def _unpacked(said: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(said, str) and said.startswith(_TENSOR):
        return tensors[said.removeprefix(_TENSOR)]
    if isinstance(said, dict):
        return {k: _unpacked(v, tensors) for k, v in said.items()}
    if isinstance(said, list):
        return [_unpacked(v, tensors) for v in said]
    return said


def _digest(said: str, tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256(said.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
