"""Convolutions of one to three dimensions, with constant weights as layers, with computed ones as functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.table import reads
from edgeprune.models.onnx.values import Unsupported, Value

_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_CONV_F: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED_F: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def per_axis(n: OnnxNode, name: str, rank: int, default: int = 1) -> list[int]:
    """An attribute with one positive number for each spatial axis."""
    values = [int(v) for v in n.attr(name, None) or [default] * rank]
    if len(values) != rank or min(values) < (1 if default else 0):
        raise Unsupported(f"its {name} is {values}, for {rank} axes")
    return values


def pads(
    n: OnnxNode, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Padding before and behind each spatial axis of a window that slides over ``sizes``."""
    mode, rank = n.attr("auto_pad"), len(sizes)
    given = [int(v) for v in n.attr("pads", None) or [0] * 2 * rank]
    if mode in ("NOTSET", ""):
        if len(given) != 2 * rank or min(given, default=0) < 0:
            raise Unsupported(f"its pads are {given}, for {rank} axes")
        return given[:rank], given[rank:]
    if mode == "VALID":
        return [0] * rank, [0] * rank
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise Unsupported(f"its auto_pad is {mode!r}")
    needs = zip(sizes, kernel, stride, dilation, strict=True)
    total = [max(0, (-(-d // s) - 1) * s + (k - 1) * r + 1 - d) for d, k, s, r in needs]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def padded(n: OnnxNode, x: Value, before: Sequence[int], behind: Sequence[int], value: float = 0.0) -> Value:
    """``x`` with a border around its spatial axes."""
    if not any((*before, *behind)):
        return x
    around = [p for pair in zip(reversed(before), reversed(behind), strict=True) for p in pair]
    return n.call(F.pad, x, around, "constant", value)


def _rank(n: OnnxNode, x: Value, weight: Value) -> int:
    rank = weight.rank - 2
    if rank not in _CONV or x.rank != rank + 2:
        raise Unsupported(f"it is a {rank}-dimensional convolution of {x.rank} axes")
    kernel = n.attr("kernel_shape", None)
    if kernel is not None and list(kernel) != list(weight.shape[2:]):
        raise Unsupported(f"its kernel_shape is {list(kernel)}, its weight's {list(weight.shape[2:])}")
    return rank


@reads("Conv")
def conv(n: OnnxNode) -> Value:
    return convolved(n, n[0], n[1], n.get(2))


def convolved(n: OnnxNode, x: Value, weight: Value, bias: Value | None) -> Value:
    """A convolution by the attributes of ``n``."""
    rank, groups = _rank(n, x, weight), n.attr("group")
    kernel = list(weight.shape[2:])
    stride, dilation = per_axis(n, "strides", rank), per_axis(n, "dilations", rank)
    before, behind = pads(n, x.shape[2:], kernel, stride, dilation)
    even = before == behind
    if not even:
        x, before = padded(n, x, before, behind), [0] * rank
    if not weight.known or not (bias is None or bias.known):
        return n.call(_CONV_F[rank], x, weight, bias, stride, before, dilation, groups)
    layer = _CONV[rank](
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(kernel),
        tuple(stride),
        tuple(before),
        tuple(dilation),
        groups,
        bias is not None,
        device="meta",
    )
    return n.layer(layer, x, weight=weight, bias=bias)


@reads("ConvTranspose")
def conv_transpose(n: OnnxNode) -> Value:
    """Padding cuts the result here; what torch cannot cut on one side alone is cut behind it."""
    x, weight, bias = n[0], n[1], n.get(2)
    rank, groups = _rank(n, x, weight), n.attr("group")
    kernel, sizes = list(weight.shape[2:]), x.shape[2:]
    stride, dilation = per_axis(n, "strides", rank), per_axis(n, "dilations", rank)
    extra = per_axis(n, "output_padding", rank, 0)
    full = [
        (d - 1) * s + (k - 1) * r + 1 + e for d, s, k, r, e in zip(sizes, stride, kernel, dilation, extra, strict=True)
    ]
    wanted = n.attr("output_shape", None)
    mode = n.attr("auto_pad")
    if wanted is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [d * s for d, s in zip(sizes, stride, strict=True)]
    if wanted is not None:
        n.ignore("pads")
        total = [f - int(w) for f, w in zip(full, list(wanted)[-rank:], strict=True)]
        small, large = [t // 2 if t > 0 else 0 for t in total], [t - t // 2 if t > 0 else t for t in total]
        before, behind = (small, large) if mode == "SAME_UPPER" else (large, small)
        if any(t < 0 for t in total):
            before, behind = [max(0, b) for b in before], [t - max(0, b) for t, b in zip(total, before, strict=True)]
    else:
        before, behind = pads(n, sizes, kernel, stride, dilation)
    # Torch cuts p on both sides and then adds rows behind: before = p, behind = p - added.
    added = [e + a - b for e, a, b in zip(extra, before, behind, strict=True)]
    torch_can = all(0 <= o < max(s, r) for o, s, r in zip(added, stride, dilation, strict=True))
    options = (stride, before, added) if torch_can else (stride, [0] * rank, [0] * rank)
    if weight.known and (bias is None or bias.known):
        layer = _TRANSPOSED[rank](
            weight.shape[0],
            weight.shape[1] * groups,
            tuple(kernel),
            *(tuple(o) for o in options),
            groups,
            bias is not None,
            tuple(dilation),
            device="meta",
        )
        y = n.layer(layer, x, weight=weight, bias=bias)
    else:
        y = n.call(_TRANSPOSED_F[rank], x, weight, bias, *options, groups, dilation)
    if torch_can:
        return y
    if bias is not None and any(e - b > 0 for e, b in zip(extra, behind, strict=True)):
        raise Unsupported("it adds rows behind its result that only its bias reaches")
    cut = [(-a, e - b) for a, b, e in zip(before, behind, extra, strict=True)]
    return n.call(F.pad, y, [c for pair in reversed(cut) for c in pair])


@reads("DeformConv")
def deform_conv(n: OnnxNode) -> Value:
    """As a sampling of the image at moved places, and a product with the weight."""
    x, weight, offset, bias, mask = n[0], n[1], n[2], n.get(3), n.get(4)
    rank, groups, offset_groups = _rank(n, x, weight), n.attr("group"), n.attr("offset_group")
    if rank != 2:
        raise Unsupported("it is a convolution of other than two dimensions")
    stride, dilation = per_axis(n, "strides", 2), per_axis(n, "dilations", 2)
    kh, kw = weight.shape[2:]
    n.ignore("auto_pad")
    top_left = [int(v) for v in n.attr("pads", None) or [0] * 4][:2]
    batch, channels, height, width = x.shape
    oh, ow = offset.shape[2:]
    count, each = kh * kw, channels // offset_groups
    moved = n.call(torch.reshape, offset, (batch * offset_groups, count, 2, oh, ow))
    rows = torch.arange(oh).reshape(1, oh, 1) * stride[0] - top_left[0] + _taps(kh, kw, 0) * dilation[0]
    columns = torch.arange(ow).reshape(1, 1, ow) * stride[1] - top_left[1] + _taps(kh, kw, 1) * dilation[1]
    places = [n.constant(p.expand(count, oh, ow).float().contiguous(), x.kind) for p in (rows, columns)]
    coordinates = []
    for i, (place, size) in enumerate(((places[0], height), (places[1], width))):
        p = n.call(torch.add, n.call(torch.select, moved, 2, i), place)
        coordinates.append(n.call(torch.sub, n.call(torch.mul, p, 2 / max(1, size - 1)), 1.0 if size > 1 else 0.0))
    grid = n.call(torch.stack, [coordinates[1], coordinates[0]], -1)
    grid = n.call(torch.reshape, grid, (batch * offset_groups, count * oh, ow, 2))
    image = n.call(torch.reshape, x, (batch * offset_groups, each, height, width))
    taken = n.call(F.grid_sample, image, grid, "bilinear", "zeros", True)
    taken = n.call(torch.reshape, taken, (batch, offset_groups, each, count, oh, ow))
    if mask is not None:
        taken = n.call(torch.mul, taken, n.call(torch.reshape, mask, (batch, offset_groups, 1, count, oh, ow)))
    columns_ = n.call(torch.reshape, taken, (batch, groups, channels // groups * count, oh * ow))
    filters = n.call(torch.reshape, weight, (1, groups, weight.shape[0] // groups, math.prod(weight.shape[1:])))
    y = n.call(torch.reshape, n.call(torch.matmul, filters, columns_), (batch, weight.shape[0], oh, ow))
    return y if bias is None else n.call(torch.add, y, n.call(torch.reshape, bias, (1, weight.shape[0], 1, 1)))


def _taps(kh: int, kw: int, axis: int) -> torch.Tensor:
    """Row or column of each tap of a window, as (taps, 1, 1)."""
    grid = torch.meshgrid(torch.arange(kh), torch.arange(kw), indexing="ij")[axis]
    return grid.reshape(-1, 1, 1)
