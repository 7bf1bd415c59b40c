"""Convolution of images and lines, and the batch norm that is folded into it."""

from __future__ import annotations

import torch
from torch.fx import Node

from edgeprune.graph.channels import WeightRef
from edgeprune.graph.cutter import (
    Cutter,
    Value,
    as_picture,
    as_seen,
    handles,
    picture,
    spread,
    static_shape,
    unsupported,
)
from edgeprune.graph.flow import arguments
from edgeprune.graph.spec import Attr, TensorSpec
from edgeprune.graph.walks import View

aten = torch.ops.aten


@handles(aten.conv2d.default, aten.conv2d.padding, aten.conv1d.default, aten.conv1d.padding)
def _convolution(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    kernel = tuple(static_shape(named["weight"])[2:])
    dilation, padding = spread(named["dilation"], kernel), named["padding"]
    if padding == "valid":
        padding = 0
    elif padding == "same":
        whole = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        if any(n % 2 for n in whole):
            raise unsupported(node, "padding that differs from side to side", "pad by a number, or use an odd kernel")
        padding = [n // 2 for n in whole]
    window = {
        "kernel": kernel,
        "stride": spread(named["stride"], kernel),
        "padding": spread(padding, kernel),
        "dilation": dilation,
    }
    plain = int(named["groups"]) == 1 and len(kernel) == 2
    _open(cutter, node, "conv2d", cutter.image(node.args[0], node, plain=True) if plain else None, window)


@handles(aten.conv_transpose2d.input, aten.conv_transpose1d.default)
def _transposed(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    kernel = tuple(static_shape(named["weight"])[2:])
    window = {"kernel": kernel} | {n: spread(named[n], kernel) for n in ("stride", "padding", "dilation")}
    _open(cutter, node, "conv_transpose2d", None, window)


def _open(cutter: Cutter, node: Node, op: str, image: Value | None, window: dict[str, tuple[int, ...]]) -> None:
    """A convolution of an image, or of a line, which is an image of one row."""
    named, shape = arguments(node), static_shape(node)
    if len(shape) == 3:
        beside = {"kernel": 1, "stride": 1, "padding": 0, "dilation": 1}
        window = {name: (beside[name], *along) for name, along in window.items()}
    x = image or picture(cutter, node)
    attrs: dict[str, Attr] = {**window, "groups": int(named["groups"])}
    draft = cutter.open(op, node, TensorSpec(as_picture(shape)), [x], **attrs)
    draft.weights = cutter.weights(node, named["weight"], named["bias"])
    draft.epilogue.append("bias")  # always: a folded batch norm brings one
    cutter.values[node] = as_seen(cutter.values[node], View.whole(shape))


@handles(aten.batch_norm.default)
def _batch_norm(cutter: Cutter, node: Node) -> None:
    names = [cutter.parameter(a, node) for a in node.args[1:5]]
    if not (names[2] and names[3]):
        raise unsupported(node, "a batch norm without running statistics", "set track_running_stats=True and train")
    norm, eps = (names[0], names[1], names[2], names[3]), float(node.args[7])  # type: ignore[arg-type]
    x = cutter.value(node.args[0], node)
    draft = cutter.extend(x, node)
    if (
        draft
        and (draft.op.startswith("conv") or draft.op == "dense")
        and draft.epilogue == ["bias"]
        and draft.weights.norm is None
    ):
        draft.weights = WeightRef(draft.weights.weight, draft.weights.bias, norm, eps)
        cutter.grow(draft, node)
        return
    # A batch norm with nothing to fold into is a 1x1 depthwise convolution.
    x = picture(cutter, node)
    unit = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    draft = cutter.open("conv2d", node, x.spec, [x], groups=x.spec.channels, **unit)
    draft.weights = WeightRef("", "", norm, eps)
    draft.epilogue.append("bias")
    cutter.values[node] = as_seen(cutter.values[node], View.whole(static_shape(node)))
