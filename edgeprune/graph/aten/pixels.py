"""Pixels moved into channels, and channels into pixels."""

from __future__ import annotations

import torch
from torch.fx import Node

from edgeprune.graph import zeros
from edgeprune.graph.aten.common import only_axis, tensor, units
from edgeprune.graph.aten.moving import copy
from edgeprune.graph.aten.shuffles import shuffled
from edgeprune.graph.aten.table import handles, rule
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import widened
from edgeprune.graph.nodes import arguments
from edgeprune.graph.walks import View

aten = torch.ops.aten


@rule(aten.pixel_shuffle.default, zero=zeros.first)
def pixel_shuffle(flow: Flow, node: Node) -> None:
    """Every r*r neighbouring channels become one, which is decided as a whole."""
    source = tensor(node.args[0])
    if len(flow.shape(source)) != 4:
        raise Refused("not a batch of images")
    flow.produce(node, {1: units(flow, only_axis(flow, source, 1), arguments(node)["upscale_factor"] ** 2)})


@rule(aten.pixel_unshuffle.default, zero=zeros.first)
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


@rule(aten.channel_shuffle.default, zero=zeros.first)
def channel_shuffle(flow: Flow, node: Node) -> None:
    """(groups, C / groups) transposed: channel i of all groups end up side by side."""
    channels = only_axis(flow, tensor(node.args[0]), 1)
    flow.produce(node, {1: shuffled(flow, node, channels, arguments(node)["groups"])[1]})


@handles(aten.pixel_shuffle.default)
def _pixel_shuffle(cutter: Cutter, node: Node) -> None:
    value, factor = cutter.plain(node.args[0]), int(node.args[1])  # type: ignore[arg-type]
    n, c, h, w = value.shape
    apart = value.seen(View.identity((n, c // factor**2, factor, factor, h, w)))
    copy(cutter, node, apart.permuted((0, 1, 4, 2, 5, 3)))


@handles(aten.pixel_unshuffle.default)
def _pixel_unshuffle(cutter: Cutter, node: Node) -> None:
    value, factor = cutter.plain(node.args[0]), int(node.args[1])  # type: ignore[arg-type]
    n, c, h, w = value.shape
    apart = value.seen(View.identity((n, c, h // factor, factor, w // factor, factor)))
    copy(cutter, node, apart.permuted((0, 1, 3, 5, 2, 4)))
