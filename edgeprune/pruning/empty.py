"""Layers without channels: the remains of a block that was removed completely.

The network's own code still calls its layers one after the other. Torch refuses most layers that read or write no
channels, so these get a forward pass that bears it: results without channels where nothing is written, the bias
where nothing is read. Class, name, hooks and (empty) parameters of the layer stay.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd


def without_channels(layer: nn.Module) -> None:
    """Make ``layer`` run although it lost all its input channels or all its output channels; others stay unchanged."""
    weight = getattr(layer, "weight", None)
    for kind, empty in _KINDS.items():
        if isinstance(layer, kind) and isinstance(weight, Tensor) and not weight.numel():
            layer.__class__ = _mixed(empty, type(layer))
            return


_mixed_kinds: dict[tuple[type, type], type] = {}


def _mixed(empty: type, kind: type) -> type:
    if (empty, kind) not in _mixed_kinds:
        # Of the same name: to whoever prints the network, the layer is what it was.
        _mixed_kinds[empty, kind] = type(kind.__name__, (empty, kind), {"__module__": kind.__module__})
    return _mixed_kinds[empty, kind]


class _EmptyConvolution:
    """Images of the size that the convolution would give, holding its bias."""

    def forward(self: Any, x: Tensor, output_size: Any = None) -> Tensor:
        rank = len(self.kernel_size)
        size = [self._size(axis, int(n)) for axis, n in enumerate(x.shape[-rank:])]
        image = torch.zeros((*x.shape[: -rank - 1], self.out_channels, *size), dtype=self.weight.dtype, device=x.device)
        return image if self.bias is None else image + self.bias.reshape(-1, *(1 for _ in size))

    def _size(self: Any, axis: int, size: int) -> int:
        window = self.dilation[axis] * (self.kernel_size[axis] - 1)
        if isinstance(self.padding, str):
            padding = 0 if self.padding == "valid" else window
        else:
            padding = 2 * self.padding[axis]
        if self.transposed:
            return int((size - 1) * self.stride[axis] - padding + window + self.output_padding[axis] + 1)
        return int((size + padding - window - 1) // self.stride[axis] + 1)


class _EmptyLinear:
    """Rows that hold the bias."""

    def forward(self: Any, x: Tensor) -> Tensor:
        rows = torch.zeros((*x.shape[:-1], self.out_features), dtype=self.weight.dtype, device=x.device)
        return rows if self.bias is None else rows + self.bias


class _Nothing:
    """A layer without channels, which passes its input on unchanged."""

    def forward(self: Any, x: Tensor) -> Tensor:
        return x


_KINDS: dict[type[nn.Module], type] = {
    _ConvNd: _EmptyConvolution,
    nn.Linear: _EmptyLinear,
    _NormBase: _Nothing,
    nn.GroupNorm: _Nothing,
    nn.PReLU: _Nothing,
}
