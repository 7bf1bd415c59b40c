"""The same elements in another shape or order."""

from __future__ import annotations

import math

import torch
from torch import nn

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.table import reads
from edgeprune.models.onnx.values import Unsupported, Value


def reshaped(n: OnnxNode, x: Value, shape: list[int]) -> Value:
    """``x`` in a shape. As a flatten it says nothing of channel counts, so the network can still be pruned."""
    if list(x.shape) == shape:
        return x
    if x.rank > 2 and x.shape[0] and shape == [x.shape[0], math.prod(x.shape[1:])]:
        return n.layer(nn.Flatten(1), x)
    return n.call(torch.reshape, x, tuple(shape))


@reads("Identity")
def identity(n: OnnxNode) -> Value:
    return n[0]


@reads("Flatten")
def flatten(n: OnnxNode) -> Value:
    x, axis = n[0], n.attr("axis")
    if not -x.rank <= axis <= x.rank:
        raise Unsupported(f"it flattens from axis {axis} of {x.rank}")
    axis = axis + x.rank if axis < 0 else axis
    return reshaped(n, x, [math.prod(x.shape[:axis]), math.prod(x.shape[axis:])])


@reads("Reshape")
def reshape(n: OnnxNode) -> Value:
    n.ignore("consumed_inputs")
    x = n[0]
    wanted = n.ints("shape", 1)
    if wanted is None:
        raise Unsupported("its shape is missing")
    if not (n.opset >= 14 and n.attr("allowzero")):
        wanted = [x.shape[i] if v == 0 and i < x.rank else v for i, v in enumerate(wanted)]
    if wanted.count(-1) > 1 or any(v < -1 for v in wanted):
        raise Unsupported(f"its shape is {wanted}")
    known = math.prod(v for v in wanted if v != -1)
    if -1 in wanted:
        wanted[wanted.index(-1)] = math.prod(x.shape) // known if known else 0
    if math.prod(wanted) != math.prod(x.shape):
        raise Unsupported(f"it makes {wanted} of {list(x.shape)}")
    return reshaped(n, x, wanted)


@reads("Transpose")
def transpose(n: OnnxNode) -> Value:
    x = n[0]
    order = [n.place(int(a), x.rank) for a in n.attr("perm", list(range(x.rank))[::-1])]
    if sorted(order) != list(range(x.rank)):
        raise Unsupported(f"its perm is {order}, for {x.rank} axes")
    return x if order == list(range(x.rank)) else n.call(torch.permute, x, tuple(order))


@reads("Squeeze")
def squeeze(n: OnnxNode) -> Value:
    x, axes = n[0], n.ints("axes", 1)
    places = [i for i, d in enumerate(x.shape) if d == 1] if axes is None else [n.place(a, x.rank) for a in axes]
    if any(x.shape[p] != 1 for p in places):
        raise Unsupported(f"it takes the axes {places} out of {list(x.shape)}")
    return reshaped(n, x, [d for i, d in enumerate(x.shape) if i not in places])


@reads("Unsqueeze")
def unsqueeze(n: OnnxNode) -> Value:
    x, axes = n[0], n.ints("axes", 1)
    if axes is None:
        raise Unsupported("its axes are missing")
    rank = x.rank + len(axes)
    places = sorted(n.place(a, rank) for a in axes)
    if len(set(places)) != len(places):
        raise Unsupported(f"its axes are {axes}")
    shape = list(x.shape)
    for p in places:
        shape.insert(p, 1)
    return reshaped(n, x, shape)


@reads("Expand")
def expand(n: OnnxNode) -> Value:
    """To the shape that its own and the wanted one broadcast to."""
    x = n[0]
    wanted = tuple(int(v) for v in n.known(1, "shape").flatten())
    shape = list(torch.broadcast_shapes(x.shape, wanted))  # type: ignore[no-untyped-call]
    return x if shape == list(x.shape) else n.call("expand", x, tuple(shape))


@reads("DepthToSpace")
def depth_to_space(n: OnnxNode) -> Value:
    x, block, mode = n[0], n.attr("blocksize"), n.attr("mode", "DCR")
    if mode == "CRD":
        return n.layer(nn.PixelShuffle(block), x)
    if mode != "DCR":
        raise Unsupported(f"its mode is {mode!r}")
    batch, channels, height, width = x.shape
    each = channels // block**2
    split = n.call(torch.reshape, x, (batch, block, block, each, height, width))
    mixed = n.call(torch.permute, split, (0, 3, 4, 1, 5, 2))
    return n.call(torch.reshape, mixed, (batch, each, height * block, width * block))


@reads("SpaceToDepth")
def space_to_depth(n: OnnxNode) -> Value:
    x, block, mode = n[0], n.attr("blocksize"), n.attr("mode", "DCR")
    if mode == "CRD":
        return n.layer(nn.PixelUnshuffle(block), x)
    if mode != "DCR":
        raise Unsupported(f"its mode is {mode!r}")
    batch, channels, height, width = x.shape
    split = n.call(torch.reshape, x, (batch, channels, height // block, block, width // block, block))
    mixed = n.call(torch.permute, split, (0, 3, 5, 1, 2, 4))
    return n.call(torch.reshape, mixed, (batch, channels * block**2, height // block, width // block))
