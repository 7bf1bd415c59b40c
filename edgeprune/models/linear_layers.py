"""Layers that are linear in their weights, convolutions and linear layers, as products of matrices.

A layer of g groups yields ``rows @ matrix + bias`` for each: ``rows`` (g, positions, inputs) are the patches of its
input that a position of its output sees, and ``matrix`` (g, inputs, outputs) its weights.
"""

from __future__ import annotations

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


def rows(layer: Layer, x: Tensor) -> Tensor:
    """Patches of an input of the layer, shape (groups, positions, inputs); positions as in :func:`outputs`."""
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, layer.in_features)
    if isinstance(layer, nn.Conv1d):
        x = x if x.dim() == 3 else x[None]
        x, flat = x.unsqueeze(-2), True
    else:
        x, flat = x if x.dim() == 4 else x[None], False
    kernel, stride, dilation = ((1,) * flat + tuple(v) for v in (layer.kernel_size, layer.stride, layer.dilation))
    around = list(layer._reversed_padding_repeated_twice) + [0, 0] * flat
    x = F.pad(x, around, mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)
    patches = F.unfold(x, kernel, dilation=dilation, stride=stride)  # (batch, channels * kernel, positions)
    batch, inputs, positions = patches.shape
    patches = patches.reshape(batch, layer.groups, inputs // layer.groups, positions)
    return patches.permute(1, 0, 3, 2).flatten(1, 2)


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
