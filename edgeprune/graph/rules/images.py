"""Images and maps: pooling, resizing, padding, pixels moved into channels and back."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import Layout, widened
from edgeprune.graph.nodes import arguments
from edgeprune.graph.rules.common import carried, drop, only_axis, tensor, units
from edgeprune.graph.rules.shuffles import shuffled
from edgeprune.graph.rules.table import rule

aten = torch.ops.aten

# Operator -> how many of the last dimensions it acts on.
_SPATIAL = {
    1: (
        aten.max_pool1d.default,
        aten.avg_pool1d.default,
        aten.adaptive_avg_pool1d.default,
        aten.upsample_nearest1d.vec,
        aten.upsample_linear1d.vec,
        aten._upsample_nearest_exact1d.vec,
    ),
    2: (
        aten.max_pool2d.default,
        aten.avg_pool2d.default,
        aten.adaptive_avg_pool2d.default,
        aten.upsample_nearest2d.vec,
        aten.upsample_nearest2d.default,
        aten.upsample_bilinear2d.vec,
        aten.upsample_bilinear2d.default,
        aten.upsample_bicubic2d.vec,
        aten.upsample_bicubic2d.default,
        aten._upsample_nearest_exact2d.vec,
        aten._upsample_bilinear2d_aa.vec,
        aten._upsample_bicubic2d_aa.vec,
    ),
    3: (
        aten.max_pool3d.default,
        aten.avg_pool3d.default,
        aten.adaptive_avg_pool3d.default,
        aten.upsample_nearest3d.vec,
        aten.upsample_trilinear3d.vec,
        aten._upsample_nearest_exact3d.vec,
    ),
}
_WITH_PLACES = {
    1: (aten.adaptive_max_pool1d.default, aten.max_pool1d_with_indices.default),
    2: (aten.adaptive_max_pool2d.default, aten.max_pool2d_with_indices.default),
    3: (aten.adaptive_max_pool3d.default, aten.max_pool3d_with_indices.default),
}
_DIMENSIONS: dict[Any, int] = {op: n for table in (_SPATIAL, _WITH_PLACES) for n, ops in table.items() for op in ops}


def _beside_pixels(flow: Flow, node: Node) -> dict[int, Layout]:
    axes = carried(flow, node.args[0])
    rank = len(flow.shape(tensor(node.args[0])))
    if any(dim >= rank - _DIMENSIONS[node.target] for dim in axes):
        raise Refused("pools or resizes a dimension of channels")
    return axes


@rule(*(op for ops in _SPATIAL.values() for op in ops))
def spatial(flow: Flow, node: Node) -> None:
    """Acts on the last dimensions; the others pass."""
    flow.produce(node, _beside_pixels(flow, node))


@rule(*(op for ops in _WITH_PLACES.values() for op in ops))
def spatial_with_places(flow: Flow, node: Node) -> None:
    """As :func:`spatial`; the second result tells where each maximum stood."""
    axes = _beside_pixels(flow, node)
    flow.produce_tuple(node, [dict(axes), dict(axes)])


@rule(aten.max_unpool2d.default, aten.max_unpool3d.default)
def unpooling(flow: Flow, node: Node) -> None:
    source, places = tensor(node.args[0]), tensor(node.args[1])
    channels = only_axis(flow, source, 1)
    flow.equate(channels, only_axis(flow, places, 1))
    flow.produce(node, {1: channels})


@rule(aten.grid_sampler.default)
def sampling(flow: Flow, node: Node) -> None:
    """The grid says where to read, the same for all channels."""
    grid = tensor(node.args[1])
    for layout in flow.tracked(grid).values():
        flow.freeze_layout(layout, "used as places to read from")
    flow.produce(node, {1: only_axis(flow, tensor(node.args[0]), 1)})


@rule(aten.pad.default, aten.constant_pad_nd.default)
def padding(flow: Flow, node: Node) -> None:
    """The amounts are constants of the network's code, so padded channels cannot be pruned."""
    pads = arguments(node)["pad"]
    rank = len(flow.shape(node))
    axes = carried(flow, node.args[0])
    for pair in range(len(pads) // 2):
        if pads[2 * pair] or pads[2 * pair + 1]:
            drop(flow, axes, rank - 1 - pair, "channels are padded by a constant")
    flow.produce(node, axes)


@rule(aten.pixel_shuffle.default)
def pixel_shuffle(flow: Flow, node: Node) -> None:
    """Every r*r neighbouring channels become one, which is decided as a whole."""
    source = tensor(node.args[0])
    if len(flow.shape(source)) != 4:
        raise Refused("not a batch of images")
    flow.produce(node, {1: units(flow, only_axis(flow, source, 1), arguments(node)["upscale_factor"] ** 2)})


@rule(aten.pixel_unshuffle.default)
def pixel_unshuffle(flow: Flow, node: Node) -> None:
    source = tensor(node.args[0])
    if len(flow.shape(source)) != 4:
        raise Refused("not a batch of images")
    flow.produce(node, {1: widened(only_axis(flow, source, 1), arguments(node)["downscale_factor"] ** 2)})


@rule(aten.im2col.default)
def patches(flow: Flow, node: Node) -> None:
    """(N, C, H, W) to (N, C * kh * kw, places)."""
    high, wide = arguments(node)["kernel_size"]
    flow.produce(node, {1: widened(only_axis(flow, tensor(node.args[0]), 1), high * wide)})


@rule(aten.col2im.default)
def from_patches(flow: Flow, node: Node) -> None:
    high, wide = arguments(node)["kernel_size"]
    flow.produce(node, {1: units(flow, only_axis(flow, tensor(node.args[0]), 1), high * wide)})


@rule(aten.channel_shuffle.default)
def channel_shuffle(flow: Flow, node: Node) -> None:
    """(groups, C / groups) transposed: channel i of all groups end up side by side."""
    channels = only_axis(flow, tensor(node.args[0]), 1)
    flow.produce(node, {1: shuffled(flow, node, channels, arguments(node)["groups"])[1]})
