"""Layers with filters: convolutions, linear layers, embeddings."""

from __future__ import annotations

import torch
from torch.fx import Node
from torch.nn.modules.conv import _ConvNd

from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import Layout, joined, widened
from edgeprune.graph.nodes import arguments, inside
from edgeprune.graph.rules.common import equal_blocks, only_axis, tied_blocks
from edgeprune.graph.rules.table import rule

aten = torch.ops.aten


@rule(
    aten.conv1d.default,
    aten.conv1d.padding,
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv3d.default,
    aten.conv3d.padding,
)
def convolution(flow: Flow, node: Node) -> None:
    """Weight is (out, in / groups, ...)."""
    a = arguments(node)
    weight, groups = a["weight"], a["groups"]
    channels = only_axis(flow, a["input"], 1)
    _whole_kernel(flow, weight)
    if groups == 1:
        _reads(flow, (a["input"], 1), (weight, 1), channels)
        out = flow.axis(weight, 0)
    elif flow.shape(weight)[1] == 1:
        _one_group_a_channel(node)
        flow.reads[a["input"], 1] = None
        out = widened(channels, flow.shape(weight)[0] // groups)
        flow.bind(weight, 0, out)
    else:
        _reads(flow, (a["input"], 1), (weight, 1), _a_block(flow, weight, channels, groups))
        out = flow.axis(weight, 0)
        equal_blocks(flow, out, groups)
    _writes(flow, node, out)


@rule(aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
def transposed_convolution(flow: Flow, node: Node) -> None:
    """Weight is (in, out / groups, ...)."""
    a = arguments(node)
    weight, groups = a["weight"], a["groups"]
    channels = only_axis(flow, a["input"], 1)
    _whole_kernel(flow, weight)
    inputs, outputs = flow.shape(weight)[:2]
    if groups == inputs > 1:
        _one_group_a_channel(node)
        flow.reads[a["input"], 1] = None
        flow.bind(weight, 0, channels)
        out = widened(channels, outputs)
    else:
        equal_blocks(flow, channels, groups)
        _reads(flow, (a["input"], 1), (weight, 0), channels)
        out = joined([flow.axis(weight, 1)] * groups)
    _writes(flow, node, out)


@rule(aten.convolution.default)
def any_convolution(flow: Flow, node: Node) -> None:
    (transposed_convolution if arguments(node)["transposed"] else convolution)(flow, node)


@rule(aten.linear.default)
def linear(flow: Flow, node: Node) -> None:
    """Weight is (out, in); acts on the last dimension, the others pass."""
    a = arguments(node)
    axes = flow.tracked(a["input"])
    last = len(flow.shape(a["input"])) - 1
    _reads(flow, (a["input"], last), (a["weight"], 1), flow.axis(a["input"], last))
    axes[last] = flow.axis(a["weight"], 0)
    if a["bias"] is not None:
        flow.bind(a["bias"], 0, axes[last])
    flow.produce(node, axes)


@rule(aten.embedding.default)
def embedding(flow: Flow, node: Node) -> None:
    """Rows are looked up by number, so only features can go."""
    a = arguments(node)
    flow.freeze_layout(flow.axis(a["weight"], 0), "rows are looked up by number")
    axes = flow.tracked(a["indices"])
    axes[len(flow.shape(node)) - 1] = flow.axis(a["weight"], 1)
    flow.produce(node, axes)


def _reads(flow: Flow, source: tuple[Node, int], weight: tuple[Node, int], channels: Layout) -> None:
    """An axis of an activation is summed over, weighted along an axis of a weight."""
    flow.bind(*weight, channels, role="in")
    flow.summed(channels, weight[0], source[0])
    flow.reads[source] = None


def _a_block(flow: Flow, weight: Node, channels: Layout, groups: int) -> Layout:
    """What each group of a convolution reads: one index of the weight for channel i of every block."""
    try:
        return tied_blocks(flow, channels, groups)
    except Refused as why:  # filters can go nevertheless
        taken = flow.axis(weight, 1, "in")
        for layout in (channels, taken):
            flow.freeze_layout(layout, str(why))
        return taken


def _whole_kernel(flow: Flow, weight: Node) -> None:
    """A weight that was computed may carry its taps as if they were channels."""
    for dim, layout in flow.tracked(weight).items():
        if dim > 1:
            flow.freeze_layout(layout, "taps of a kernel")


def _writes(flow: Flow, node: Node, out: Layout) -> None:
    bias = arguments(node)["bias"]
    if bias is not None:
        flow.bind(bias, 0, out)
    flow.produce(node, {1: out})


def _one_group_a_channel(node: Node) -> None:
    """The number of groups is the number of channels: a layer's can follow, the code's cannot."""
    if not inside(node, _ConvNd):
        raise Refused("the number of groups is written in the network's code")
