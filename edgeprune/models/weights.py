"""Weights from safetensors files: every name and shape must fit, and nothing half-loaded stays behind."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeprune.errors import ModelLoadError
from edgeprune.models.safety import refuse_pickle, regular_file

_SHOWN = 5


def load_weights(module: nn.Module, file: Path) -> None:
    """Load a safetensors file into ``module``. All is checked before the first weight changes.

    Raises:
        ModelLoadError: a pickle, a damaged file, names or shapes that differ, or values that are not finite.
    """
    tensors = read_safetensors(file)
    expected = module.state_dict()
    counters = {n for n in expected if n.endswith("num_batches_tracked")}
    missing = sorted(expected.keys() - tensors.keys() - counters)
    unexpected = sorted(tensors.keys() - expected.keys())
    shapes = {
        name: {"file": list(tensor.shape), "model": list(expected[name].shape)}
        for name, tensor in tensors.items()
        if name in expected and tensor.shape != expected[name].shape
    }
    if missing or unexpected or shapes:
        faults = [f"{n}: {s['file']} in the file, {s['model']} in the model" for n, s in shapes.items()]
        text = "; ".join(
            f"{what}: {_some(names)}"
            for what, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", faults))
            if names
        )
        raise ModelLoadError(
            f"{file} does not fit {type(module).__name__}: {text}",
            hint="check the factory and its options (num_classes, width, in_channels)",
            file=str(file),
            missing=missing,
            unexpected=unexpected,
            shapes=shapes,
        )
    module.load_state_dict(tensors, strict=False)


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ModelLoadError: a pickle, a damaged file, or values that are not finite.
    """
    regular_file(file)
    refuse_pickle(file)
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelLoadError(
            f"{file} is not a whole safetensors file: {error}", hint="copy or export it again", file=str(file)
        ) from error
    broken = sorted(n for n, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all())
    if broken:
        raise ModelLoadError(f"{file} holds NaN or infinity in {_some(broken)}", file=str(file), tensors=broken)
    return tensors


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
