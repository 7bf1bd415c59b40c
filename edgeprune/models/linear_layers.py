"""Layers that are linear in their weights, convolutions and linear layers, as products of matrices.

A layer of g groups yields ``rows @ matrix + bias`` for each: ``rows`` (g, positions, inputs) are the patches of its
input that a position of its output sees, and ``matrix`` (g, inputs, outputs) its weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = nn.Conv1d | nn.Conv2d | nn.Linear


def linear_layers(module: nn.Module) -> dict[str, Layer]:
    """Those of a module, by name; layers whose weights are computed (parametrized, or by hooks) are left out."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, Layer) and isinstance(layer._parameters.get("weight"), nn.Parameter)
    }


AT_ONCE = 2**24
"""Values of patches that are laid side by side at once, about: those of a whole batch may be gigabytes."""


def drawn_positions(positions: int, most: int) -> Tensor | None:
    """At most so many of the numbers below ``positions``, ascending, always the same; None for all."""
    if positions <= most:
        return None
    return torch.randperm(positions, generator=torch.Generator().manual_seed(0))[:most].sort().values


def rows(layer: Layer, x: Tensor, at: Tensor | None = None) -> Tensor:
    """Patches of an input of the layer, shape (groups, positions, inputs); positions as in :func:`outputs`, those whose
    ascending numbers are in ``at``; all by default.
    """
    if isinstance(layer, nn.Linear):
        every = x.reshape(1, -1, layer.in_features)
        return every if at is None else every[:, at]
    spatial = 1 if isinstance(layer, nn.Conv1d) else 2
    x = x if x.dim() == spatial + 2 else x[None]
    of_one = x[0].numel() * math.prod(layer.kernel_size) // math.prod(layer.stride)
    found, passed = [], 0
    for part in torch.split(x, max(1, AT_ONCE // max(1, of_one))):
        patches = _patches(layer, part)
        begin, passed = passed, passed + patches.shape[1]
        found.append(patches if at is None else patches[:, at[(at >= begin) & (at < passed)] - begin])
    return torch.cat(found, 1)


def _patches(layer: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    flat = isinstance(layer, nn.Conv1d)
    x = x.unsqueeze(-2) if flat else x
    kernel, stride, dilation = ((1,) * flat + tuple(v) for v in (layer.kernel_size, layer.stride, layer.dilation))
    around = list(layer._reversed_padding_repeated_twice) + [0, 0] * flat
    x = F.pad(x, around, mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)
    patches = F.unfold(x, kernel, dilation=dilation, stride=stride)  # (batch, channels * kernel, positions)
    batch, inputs, positions = patches.shape
    patches = patches.reshape(batch, layer.groups, inputs // layer.groups, positions)
    return patches.permute(1, 0, 3, 2).flatten(1, 2)


def given(inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    """The input of a layer, however it was handed over to it."""
    found: Tensor = inputs[0] if inputs else named["input"]
    return found


def outputs(layer: Layer, y: Tensor) -> Tensor:
    """What a layer yielded, shape (positions, outputs)."""
    if isinstance(layer, nn.Linear):
        return y.reshape(-1, y.shape[-1])
    spatial = 1 if isinstance(layer, nn.Conv1d) else 2
    y = y if y.dim() == spatial + 2 else y[None]
    return y.movedim(1, -1).flatten(0, -2)


def matrix(layer: Layer) -> Tensor:
    """The weights, shape (groups, inputs, outputs of a group)."""
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    weights = layer.weight.detach()
    return weights.reshape(groups, weights.shape[0] // groups, -1).transpose(1, 2)


def set_matrix(layer: Layer, values: Tensor) -> None:
    """Take weights of that shape."""
    with torch.no_grad():
        layer.weight.copy_(values.transpose(1, 2).reshape(layer.weight.shape))
