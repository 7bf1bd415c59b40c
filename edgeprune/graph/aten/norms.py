"""Normalisation. Statistics over pixels pass channels on; statistics over channels freeze them."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.fx import Node
from torch.nn.modules.instancenorm import _InstanceNorm

from edgeprune.graph import zeros
from edgeprune.graph.aten.common import carried, units
from edgeprune.graph.aten.convolution import BESIDE
from edgeprune.graph.aten.table import handles, rule
from edgeprune.graph.channels import WeightRef
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.cutting.values import walks
from edgeprune.graph.flow import Flow
from edgeprune.graph.nodes import arguments, detached, inside, module_path, static_shape, unsupported
from edgeprune.graph.ops.table import OPERATORS
from edgeprune.graph.sizes import Attribute, Origin
from edgeprune.graph.spec import Attr, TensorSpec

aten = torch.ops.aten


@rule(aten.batch_norm.default, aten.instance_norm.default, zero=zeros.normed(0, 1, 2))
def statistics_of_a_channel(flow: Flow, node: Node) -> None:
    a = arguments(node)
    channels = flow.axis(a["input"], 1)
    given = [a[name] for name in ("weight", "bias", "running_mean", "running_var") if a[name] is not None]
    for parameter in given:
        flow.bind(parameter, 0, channels)
    if not given and inside(node, _InstanceNorm):
        flow.sized(channels, Attribute(module_path(node), "num_features"))
    flow.produce(node, flow.tracked(a["input"]))


@rule(aten.group_norm.default, zero=zeros.normed(0, 2, 3))
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


@handles(aten.batch_norm.default)
def _batch_norm(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    weight, bias, mean, variance = (
        cutter.parameter(named[n]) for n in ("weight", "bias", "running_mean", "running_var")
    )
    if not (mean and variance):
        raise unsupported(node, "a batch norm without running statistics", "set track_running_stats=True and train")
    norm, eps = (weight, bias, mean, variance), float(named["eps"])
    draft = cutter.joinable(cutter.value(named["input"]))
    if draft and OPERATORS[draft.op].folds and draft.epilogue == ["bias"] and draft.weights.norm is None:
        cutter.join(draft, node, weights=WeightRef(draft.weights.weight, draft.weights.bias, norm, eps))
        return
    # A batch norm with nothing to fold into is a 1x1 depthwise convolution.
    x = cutter.picture(named["input"])
    unit: dict[str, Attr] = {name: beside * 2 for name, beside in BESIDE.items()}
    spec = x.data.spec
    cutter.emit(
        "conv2d",
        node,
        spec,
        [x],
        {"groups": spec.channels, **unit},
        weights=WeightRef("", "", norm, eps),
        epilogue=["bias"],
        seen=static_shape(node),
    )


@handles(aten.layer_norm.default)
def _layer_norm(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    normalized = tuple(named["normalized_shape"])
    _normalize(cutter, node, math.prod(normalized), (1,) * (len(shape) - len(normalized)) + normalized)


@handles(aten.group_norm.default)
def _group_norm(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    _normalize(cutter, node, math.prod(shape[1:]) // named["num_groups"], _per_channel(shape))


@handles(aten.instance_norm.default)
def _instance_norm(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    if not named["use_input_stats"]:
        raise unsupported(node, "an instance norm with running statistics", "use a batch norm, which it is then")
    _normalize(cutter, node, math.prod(shape[2:]), _per_channel(shape))


def _per_channel(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, shape[1], *(1 for _ in shape[2:]))


def _normalize(cutter: Cutter, node: Node, size: int, parameters: tuple[int, ...]) -> None:
    """Over ``size`` values at a time; then scaled and shifted by what is seen in the shape ``parameters``."""
    named, shape = arguments(node), static_shape(node)
    spec, given = TensorSpec(shape, "plain"), ((step, named[n]) for step, n in (("mul", "weight"), ("add", "bias")))
    steps = [(step, parameter) for step, parameter in given if parameter is not None]
    inner = detached(node, "normalized") if steps else node
    x, eps = cutter.plain(named["input"]), float(named["eps"])
    normalized = cutter.emit("normalize", inner, spec, [x], {"size": size, "eps": eps}, anchor=node)
    if not steps:
        return
    shown = [cutter.plain(parameter).reshaped(parameters).expanded(shape) for _, parameter in steps]
    cutter.emit(
        "strided",
        node,
        spec,
        [normalized],
        walks([normalized, *shown]),
        operands=[value.walked for value in shown],
        epilogue=[step for step, _ in steps],
    )
