"""Convolution of images, lines and volumes, and the batch norm that is folded into it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.fx import Node

from edgeprune.graph.channels import WeightRef
from edgeprune.graph.cutting.cutter import Cutter, handles
from edgeprune.graph.cutting.values import Value, as_picture
from edgeprune.graph.nodes import arguments, spread, static_shape, unsupported
from edgeprune.graph.ops.table import OPERATORS
from edgeprune.graph.spec import Attr, TensorSpec

aten = torch.ops.aten

BESIDE = {"kernel": (1,), "stride": (1,), "padding": (0,), "dilation": (1,)}
"""A window along an axis that it leaves alone."""


@handles(
    aten.conv1d.default,
    aten.conv1d.padding,
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv3d.default,
    aten.conv3d.padding,
)
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
