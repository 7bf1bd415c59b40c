"""Convolution, fully connected layers and the batch norm that is folded into them."""

from __future__ import annotations

import torch
from torch.fx import Node

from edgeprune.graph.channels import WeightRef
from edgeprune.graph.cutter import Cutter, argument, handles, pair, static_shape, unsupported
from edgeprune.graph.flow import arguments
from edgeprune.graph.spec import TensorSpec

aten = torch.ops.aten


@handles(aten.conv2d.default, aten.conv2d.padding)
def _conv2d(cutter: Cutter, node: Node) -> None:
    kernel = pair(static_shape(node.args[1])[2:])  # type: ignore[arg-type]
    dilation = pair(argument(node, 5, "dilation", 1))
    padding = argument(node, 4, "padding", 0)
    if padding == "valid":
        padding = 0
    elif padding == "same":
        whole = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        if any(n % 2 for n in whole):
            raise unsupported(node, "padding that differs from side to side", "pad by a number, or use an odd kernel")
        padding = [n // 2 for n in whole]
    groups = int(argument(node, 6, "groups", 1))
    x = cutter.image(node.args[0], node, plain=groups == 1)
    draft = cutter.open(
        "conv2d",
        node,
        TensorSpec(static_shape(node)),
        [x],
        kernel=kernel,
        stride=pair(argument(node, 3, "stride", 1)),
        padding=pair(padding),
        dilation=dilation,
        groups=groups,
    )
    draft.weights = WeightRef(cutter.parameter(node.args[1], node), cutter.parameter(argument(node, 2, "bias"), node))
    draft.epilogue.append("bias")  # always: a folded batch norm brings one


@handles(aten.conv_transpose2d.input)
def _conv_transpose2d(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    draft = cutter.open(
        "conv_transpose2d",
        node,
        TensorSpec(static_shape(node)),
        [cutter.image(node.args[0], node)],
        kernel=pair(static_shape(node.args[1])[2:]),  # type: ignore[arg-type]
        stride=pair(named["stride"]),
        padding=pair(named["padding"]),
        dilation=pair(named["dilation"]),
        groups=int(named["groups"]),
    )
    draft.weights = WeightRef(cutter.parameter(node.args[1], node), cutter.parameter(named["bias"], node))
    draft.epilogue.append("bias")


@handles(aten.linear.default)
def _linear(cutter: Cutter, node: Node) -> None:
    x = cutter.value(node.args[0], node)
    # A flattened blocked image is read in place; weights are packed to match.
    if not (x.flat and x.spec.layout == "blocked"):
        x = cutter.row(node.args[0], node)
    draft = cutter.open("dense", node, TensorSpec(static_shape(node), "plain"), [x])
    draft.weights = WeightRef(cutter.parameter(node.args[1], node), cutter.parameter(argument(node, 2, "bias"), node))
    draft.epilogue.append("bias")


@handles(aten.batch_norm.default)
def _batch_norm(cutter: Cutter, node: Node) -> None:
    names = [cutter.parameter(a, node) for a in node.args[1:5]]
    if not (names[2] and names[3]):
        raise unsupported(node, "a batch norm without running statistics", "set track_running_stats=True and train")
    norm, eps = (names[0], names[1], names[2], names[3]), float(node.args[7])  # type: ignore[arg-type]
    x = cutter.value(node.args[0], node)
    draft = cutter.extend(x, node)
    if draft and draft.op.startswith("conv") and draft.epilogue == ["bias"] and draft.weights.norm is None:
        draft.weights = WeightRef(draft.weights.weight, draft.weights.bias, norm, eps)
        cutter.grow(draft, node)
        return
    # A batch norm with nothing to fold into is a 1x1 depthwise convolution.
    x = cutter.image(node.args[0], node)
    unit = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    draft = cutter.open("conv2d", node, TensorSpec(static_shape(node)), [x], groups=x.spec.channels, **unit)
    draft.weights = WeightRef("", "", norm, eps)
    draft.epilogue.append("bias")
