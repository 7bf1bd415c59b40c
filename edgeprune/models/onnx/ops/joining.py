"""Tensors put together, taken apart, repeated and padded."""

from __future__ import annotations

import math
from typing import Any

import torch
from onnx import TensorProto
from torch.nn import functional as F

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.table import Outputs, reads
from edgeprune.models.onnx.types import FLOATS
from edgeprune.models.onnx.values import Unsupported, Value


@reads("Concat")
def concat(n: OnnxNode) -> Value:
    """Empty tensors join too: exporters write them for lists that turned out to be empty."""
    values, axis = n.all(), n.axis()
    full = [v for v in values if v.shape[axis]] if len(values) > 1 else values
    return full[0] if len(full) == 1 else n.call(torch.cat, full or values, axis)


@reads("Split")
def split(n: OnnxNode) -> Outputs:
    x, axis, count = n[0], n.axis(), len(n.wanted)
    sizes = n.ints("split", 1)
    if n.opset >= 18 and n.attr("num_outputs", None) not in (None, count):
        raise Unsupported(f"it has {count} outputs and num_outputs {n.attr('num_outputs')}")
    length = x.shape[axis]
    if sizes is None:
        each = -(-length // count)
        sizes = [min(each, length - i * each) for i in range(count)]
    if sum(sizes) != length or min(sizes, default=0) < 0 or len(sizes) != count:
        raise Unsupported(f"it takes {sizes} out of {length}")
    starts = [sum(sizes[:i]) for i in range(count)]
    return Outputs(
        n.call(torch.narrow, x, axis, start, size) if size != length else x
        for start, size in zip(starts, sizes, strict=True)
    )


@reads("Tile")
def tile(n: OnnxNode) -> Value:
    x = n[0]
    repeats = [int(v) for v in n.known(1, "repeats").flatten()]
    if len(repeats) != x.rank:
        raise Unsupported(f"its repeats are {repeats}, for {x.rank} axes")
    return x if all(r == 1 for r in repeats) else n.call(torch.tile, x, tuple(repeats))


@reads("Pad")
def pad(n: OnnxNode) -> Value:
    x, mode = n[0], n.attr("mode")
    given = n.ints("pads", 1)
    if given is None:
        raise Unsupported("its pads are missing")
    value = n.attr("value") if n.opset < 11 else n.number(2, "value")
    axes = list(range(x.rank))
    if n.opset >= 18 and (named := n.ints("axes", 3)) is not None:
        axes = [n.place(a, x.rank) for a in named]
    if len(given) != 2 * len(axes):
        raise Unsupported(f"its pads are {given}, for {len(axes)} axes")
    before, behind = [0] * x.rank, [0] * x.rank
    for i, axis in enumerate(axes):
        before[axis], behind[axis] = given[i], given[i + len(axes)]
    if mode == "constant":
        around = [p for pair in zip(reversed(before), reversed(behind), strict=True) for p in pair]
        return n.call(F.pad, x, around, "constant", value or 0) if any(around) else x
    if mode not in ("edge", "reflect", "wrap"):
        raise Unsupported(f"its mode is {mode!r}")
    for axis, (low, high) in enumerate(zip(before, behind, strict=True)):
        for cut, start in ((low, -low), (high, 0)):
            if cut < 0:  # a negative pad cuts
                x = n.call(torch.narrow, x, axis, start if start > 0 else 0, x.shape[axis] + cut)
    before, behind = [max(0, p) for p in before], [max(0, p) for p in behind]
    return _padded_like_itself(n, x, before, behind, mode)


_TORCH_MODES = {"edge": "replicate", "reflect": "reflect", "wrap": "circular"}


def _padded_like_itself(n: OnnxNode, x: Value, before: list[int], behind: list[int], mode: str) -> Value:
    """A border of the tensor's own values; torch's function where it knows the axes, else by their places."""
    if not any((*before, *behind)):
        return x
    spatial = x.rank - 2
    low = [b < d for b, d in zip(before, x.shape, strict=True)]
    high = [b < d for b, d in zip(behind, x.shape, strict=True)]
    inner = not any((*before[:2], *behind[:2])) and 1 <= spatial <= 3 and x.kind in FLOATS
    if inner and (mode == "edge" or all((*low, *high))):
        around = [p for pair in zip(reversed(before[2:]), reversed(behind[2:]), strict=True) for p in pair]
        return n.call(F.pad, x, around, _TORCH_MODES[mode])
    for axis, size in enumerate(x.shape):
        if before[axis] or behind[axis]:
            n.build.spend(before[axis] + size + behind[axis])
            places: Any = torch.arange(-before[axis], size + behind[axis])
            if mode == "edge":
                places = places.clamp(0, size - 1)
            elif mode == "wrap":
                places = places % size
            else:
                period = max(1, 2 * (size - 1))
                places = places % period
                places = torch.where(places >= size, period - places, places)
            x = n.call(torch.index_select, x, axis, n.constant(places, TensorProto.INT64))
    return x


@reads("CenterCropPad")
def center_crop_pad(n: OnnxNode) -> Value:
    """Each axis cut or padded with zeros on both sides to a size."""
    x = n[0]
    sizes = [int(v) for v in n.known(1, "shape").flatten()]
    axes = [n.place(a, x.rank) for a in n.attr("axes", None) or range(x.rank)]
    for axis, size in zip(axes, sizes, strict=True):
        have = x.shape[axis]
        if size < have:
            x = n.call(torch.narrow, x, axis, (have - size) // 2, size)
        elif size > have:
            low = (size - have) // 2
            around = [0, 0] * (x.rank - 1 - axis) + [low, size - have - low]
            x = n.call(F.pad, x, around)
    return x


@reads("Col2Im")
def col2im(n: OnnxNode) -> Value:
    """Blocks of columns added up where they lie in an image."""
    x = n[0]
    image = [int(v) for v in n.known(1, "image shape").flatten()]
    block = [int(v) for v in n.known(2, "block shape").flatten()]
    rank = len(image)
    dilation = list(n.attr("dilations", None) or [1] * rank)
    stride = list(n.attr("strides", None) or [1] * rank)
    around = list(n.attr("pads", None) or [0] * 2 * rank)
    before, behind = around[:rank], around[rank:]
    whole = [i + a + b for i, a, b in zip(image, before, behind, strict=True)]
    n.build.spend(math.prod(whole))
    if rank == 2:
        y = n.call(F.fold, x, tuple(whole), tuple(block), tuple(dilation), 0, tuple(stride))
    else:
        y = _folded(n, x, whole, block, dilation, stride)
    cut = [c for pair in zip(reversed(before), reversed(behind), strict=True) for c in pair]
    return n.call(F.pad, y, [-c for c in cut]) if any(cut) else y


def _folded(n: OnnxNode, x: Value, image: list[int], block: list[int], dilation: list[int], stride: list[int]) -> Value:
    """Of any number of axes: every element is added at its place."""
    n.build.spend(math.prod(block) * x.shape[-1])
    counts = [(i - d * (b - 1) - 1) // s + 1 for i, b, d, s in zip(image, block, dilation, stride, strict=True)]
    sizes = zip(image, block, counts, dilation, stride, strict=True)
    taps, steps = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    for size, taps_here, steps_here, d, s in sizes:
        taps = (taps[:, None] * size + torch.arange(taps_here) * d).flatten()
        steps = (steps[:, None] * size + torch.arange(steps_here) * s).flatten()
    places = (taps[:, None] + steps[None]).flatten()
    batch, wide, _ = x.shape
    channels = wide // math.prod(block)
    rows = n.call(torch.reshape, x, (batch * channels, -1))
    zeros = n.constant(torch.zeros(batch * channels, math.prod(image)), x.kind)
    y = n.call(torch.index_add, zeros, 1, n.constant(places, TensorProto.INT64), rows)
    return n.call(torch.reshape, y, (batch, channels, *image))
