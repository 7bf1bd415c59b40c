"""Normalisation. Statistics over pixels pass channels on; statistics over channels freeze them."""

from __future__ import annotations

import torch
from torch import nn
from torch.fx import Node
from torch.nn.modules.instancenorm import _InstanceNorm

from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.nodes import arguments, inside, module_path
from edgeprune.graph.rules.common import carried, units
from edgeprune.graph.rules.table import rule
from edgeprune.graph.sizes import Attribute, Origin

aten = torch.ops.aten


@rule(aten.batch_norm.default, aten.instance_norm.default)
def statistics_of_a_channel(flow: Flow, node: Node) -> None:
    a = arguments(node)
    channels = flow.axis(a["input"], 1)
    given = [a[name] for name in ("weight", "bias", "running_mean", "running_var") if a[name] is not None]
    for parameter in given:
        flow.bind(parameter, 0, channels)
    if not given and inside(node, _InstanceNorm):
        flow.sized(channels, Attribute(module_path(node), "num_features"))
    flow.produce(node, flow.tracked(a["input"]))


@rule(aten.group_norm.default)
def statistics_of_a_group(flow: Flow, node: Node) -> None:
    """A group goes whole or stays whole: its statistics are over all of its channels."""
    a = arguments(node)
    channels = flow.axis(a["input"], 1)
    if a["num_groups"] == 1:
        flow.freeze_layout(channels, "normalised over channels")
    else:
        groups = units(flow, channels, flow.shape(a["input"])[1] // a["num_groups"])
        layer = inside(node, nn.GroupNorm)
        flow.sized(groups, Attribute(module_path(node), "num_groups") if layer else Origin.WRITTEN)
    for name in ("weight", "bias"):
        if a[name] is not None:
            flow.bind(a[name], 0, channels)
    if a["weight"] is None and inside(node, nn.GroupNorm):
        flow.sized(channels, Attribute(module_path(node), "num_channels"))
    flow.produce(node, flow.tracked(a["input"]))


@rule(aten.layer_norm.default, aten.rms_norm.default)
def statistics_of_a_row(flow: Flow, node: Node) -> None:
    a = arguments(node)
    axes = carried(flow, a["input"])
    rank, normalised = len(flow.shape(node)), len(a["normalized_shape"])
    for i, dim in enumerate(range(rank - normalised, rank)):
        if dim in axes:
            flow.freeze_layout(axes[dim], "normalised over channels")
        for name in ("weight", "bias"):
            if a.get(name) is not None:
                flow.bind(a[name], i, flow.axis(a["input"], dim))
    flow.produce(node, axes)


@rule(aten.prelu.default)
def prelu(flow: Flow, node: Node) -> None:
    """One slope for all channels, or one for each."""
    a = arguments(node)
    if not isinstance(a["weight"], Node):
        raise Refused("the slope is not a tensor")
    if flow.shape(a["weight"])[0] > 1:
        flow.bind(a["weight"], 0, flow.axis(a["self"], 1))
    flow.produce(node, flow.tracked(a["self"]))
