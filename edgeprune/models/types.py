"""Element types of a model: float32, converted to it where nothing is lost, refused where something would be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgeprune.errors import ModelLoadError

_EXACT = 2**24


def in_float32(module: nn.Module, source: str) -> None:
    """Convert parameters and buffers of real numbers to float32, in place; integers and truth values stay.

    Raises:
        ModelLoadError: a parameter or buffer that float32 does not hold exactly, that holds complex or quantised
            numbers, or a NaN.
    """
    tensors = (*module.named_parameters(), *module.named_buffers())
    for name, tensor in tensors:
        _check(name, tensor, source)
    if any(t.dtype != torch.float32 for _, t in tensors if t.is_floating_point()):
        module.to(torch.float32)


def inputs_in_float32(inputs: Sequence[Tensor], source: str) -> tuple[Tensor, ...]:
    """Example inputs: real numbers as float32, integers and truth values as they are.

    Raises:
        ModelLoadError: an input of complex numbers, or one that float32, in which programs compute, does not hold.
    """
    for number, tensor in enumerate(inputs):
        _check(f"input {number}", tensor, source)
        if not tensor.is_floating_point() and tensor.numel() and int(tensor.long().abs().max()) > _EXACT:
            hint = f"programs compute with whole numbers up to {_EXACT} (2^24)"
            raise _refused(f"input {number}", tensor, source, f"holds {int(tensor.long().abs().max())}", hint)
    return tuple(t.to(torch.float32) if t.is_floating_point() else t for t in inputs)


def _check(name: str, tensor: Tensor, source: str) -> None:
    if tensor.is_quantized or tensor.is_complex():
        raise _refused(name, tensor, source, f"is of type {_named(tensor)}", "give a model of real numbers")
    if not tensor.is_floating_point():
        return
    if tensor.isnan().any():
        raise _refused(name, tensor, source, "holds NaN", "train or load the network again")
    if tensor.dtype == torch.float64 and not torch.equal(tensor.float().double(), tensor):
        hint = "call model.float() first, if what is lost does not matter"
        raise _refused(name, tensor, source, "is of type float64, which float32 does not hold exactly", hint)


def _refused(name: str, tensor: Tensor, source: str, why: str, hint: str) -> ModelLoadError:
    return ModelLoadError(f"'{name}' of {source} {why}", hint=hint, source=source, tensor=name, dtype=_named(tensor))


def _named(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
