"""Convolution of images, lines and volumes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.fx import Node
from torch.nn.modules.conv import _ConvNd

from edgeprune.graph import zeros
from edgeprune.graph.aten.common import equal_runs, only_axis, tied_runs
from edgeprune.graph.aten.table import handles, overloads, rule
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.cutting.values import Value, as_picture
from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import Layout, joined, widened
from edgeprune.graph.nodes import arguments, inside, spread, static_shape, unsupported
from edgeprune.graph.spec import Attr, TensorSpec

aten = torch.ops.aten


@rule(
    aten.conv1d.default,
    aten.conv1d.padding,
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv3d.default,
    aten.conv3d.padding,
    zero=zeros.written(1, 2, axis=1),
)
def convolution(flow: Flow, node: Node) -> None:
    """Weight is (out, in / groups, ...)."""
    a = arguments(node)
    weight, groups = a["weight"], a["groups"]
    channels = only_axis(flow, a["input"], 1)
    _whole_kernel(flow, weight)
    if groups == 1:
        reads(flow, (a["input"], 1), (weight, 1), channels)
        out = flow.axis(weight, 0)
    elif flow.shape(weight)[1] == 1:
        _one_group_a_channel(node)
        flow.reads[a["input"], 1] = None
        out = widened(channels, flow.shape(weight)[0] // groups)
        flow.bind(weight, 0, out)
    else:
        reads(flow, (a["input"], 1), (weight, 1), _one_group(flow, weight, channels, groups))
        out = flow.axis(weight, 0)
        equal_runs(flow, out, groups)
    _writes(flow, node, out)


@rule(
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
    zero=zeros.written(1, 2, axis=1),
)
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
        equal_runs(flow, channels, groups)
        reads(flow, (a["input"], 1), (weight, 0), channels)
        out = joined([flow.axis(weight, 1)] * groups)
    _writes(flow, node, out)


@rule(aten.convolution.default)
def any_convolution(flow: Flow, node: Node) -> None:
    (transposed_convolution if arguments(node)["transposed"] else convolution)(flow, node)


def reads(flow: Flow, source: tuple[Node, int], weight: tuple[Node, int], channels: Layout) -> None:
    """Bind an axis of an activation to the axis of the weight that it is summed over with."""
    flow.bind(*weight, channels, role="in")
    flow.summed(channels, weight, source)
    flow.reads[source] = None


def _one_group(flow: Flow, weight: Node, channels: Layout, groups: int) -> Layout:
    """The layout of one group's inputs: channel i of every group meets the same index of the weight."""
    try:
        return tied_runs(flow, channels, groups)
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


BESIDE = {"kernel": (1,), "stride": (1,), "padding": (0,), "dilation": (1,)}
"""A window along an axis that it leaves alone."""


@handles(*overloads("conv1d conv1d.padding conv2d conv2d.padding conv3d conv3d.padding"))
def _convolution(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    kernel = tuple(static_shape(named["weight"])[2:])
    _batched(node, kernel)
    dilation, padding = spread(named["dilation"], len(kernel)), named["padding"]
    if padding == "valid":
        padding = 0
    elif padding == "same":
        whole = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        if any(n % 2 for n in whole):
            raise unsupported(node, "padding that differs from side to side", "pad by a number, or use an odd kernel")
        padding = [n // 2 for n in whole]
    window = {
        "kernel": kernel,
        "stride": spread(named["stride"], len(kernel)),
        "padding": spread(padding, len(kernel)),
        "dilation": dilation,
    }
    attrs: dict[str, Attr] = {**window}
    op = "conv2d"
    if len(kernel) == 3:
        if set(kernel) == set(window["stride"]) == {1} and not any(window["padding"]):
            # Pixel by pixel: an image like any other.
            attrs = {name: beside * 2 for name, beside in BESIDE.items()}
        else:
            op, attrs = "conv3d", {**window, "slices": (static_shape(named["input"])[2], static_shape(node)[2])}
    plain = int(named["groups"]) == 1 and len(kernel) > 1
    _open(cutter, node, op, cutter.picture(named["input"], plain=plain), attrs)


@handles(aten.conv_transpose2d.input, aten.conv_transpose1d.default)
def _transposed(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    kernel = tuple(static_shape(named["weight"])[2:])
    window = {"kernel": kernel} | {n: spread(named[n], len(kernel)) for n in ("stride", "padding", "dilation")}
    _batched(node, kernel)
    _open(cutter, node, "conv_transpose2d", cutter.picture(named["input"]), window)


def _batched(node: Node, kernel: tuple[int, ...]) -> None:
    if len(static_shape(node)) != len(kernel) + 2:
        raise unsupported(node, "a sample without a batch dimension", "give the network inputs of a batch")


def _open(cutter: Cutter, node: Node, op: str, image: Value, window: Mapping[str, Attr]) -> None:
    """A convolution of what :func:`as_picture` makes an image."""
    named, shape = arguments(node), static_shape(node)
    if len(shape) == 3:
        window = {name: (*BESIDE[name], *along) for name, along in window.items()}  # type: ignore[misc]
    cutter.emit(
        op,
        node,
        TensorSpec(as_picture(shape)),
        [image],
        {"groups": int(named["groups"]), **window},
        weights=cutter.weights(named["weight"], named["bias"]),
        epilogue=["bias"],  # always: a folded batch norm brings one
        seen=shape,
    )
