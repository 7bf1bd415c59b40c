"""Pooling and resizing of images."""

from __future__ import annotations

import torch
from torch.fx import Node

from edgeprune.graph.cutter import Cutter, Value, argument, handles, pair, static_shape, unsupported
from edgeprune.graph.flow import arguments
from edgeprune.graph.spec import Attr, TensorSpec
from edgeprune.graph.walks import View

aten = torch.ops.aten


@handles(aten.max_pool2d.default)
def _max_pool(cutter: Cutter, node: Node) -> None:
    if pair(argument(node, 4, "dilation", 1)) != (1, 1):
        raise unsupported(node, "a dilated pooling window", "use dilation 1")
    kernel = pair(node.args[1])
    stride = pair(argument(node, 2, "stride") or kernel)
    padding = pair(argument(node, 3, "padding", 0))
    x = cutter.image(node.args[0], node)
    cutter.open("max_pool2d", node, TensorSpec(static_shape(node)), [x], kernel=kernel, stride=stride, padding=padding)


@handles(aten.avg_pool2d.default)
def _avg_pool(cutter: Cutter, node: Node) -> None:
    kernel = pair(node.args[1])
    stride = pair(argument(node, 2, "stride") or kernel)
    if argument(node, 4, "ceil_mode", False) or argument(node, 6, "divisor_override") is not None:
        raise unsupported(node, "ceil_mode or divisor_override in an average", "use the defaults")
    cutter.open(
        "avg_pool2d",
        node,
        TensorSpec(static_shape(node)),
        [cutter.image(node.args[0], node)],
        kernel=kernel,
        stride=stride,
        padding=pair(argument(node, 3, "padding", 0)),
        count_include_pad=bool(argument(node, 5, "count_include_pad", True)),
    )


@handles(aten.adaptive_avg_pool2d.default)
def _adaptive_pool(cutter: Cutter, node: Node) -> None:
    x = cutter.image(node.args[0], node)
    size, out = x.spec.shape[2:], static_shape(node)[2:]
    if out == size:
        cutter.alias(node, x)
    elif out == (1, 1):
        cutter.open("global_avg_pool", node, TensorSpec(static_shape(node)), [x])
    elif all(s % o == 0 for s, o in zip(size, out, strict=True)):
        kernel = (size[0] // out[0], size[1] // out[1])
        window: dict[str, Attr] = {"kernel": kernel, "stride": kernel, "padding": (0, 0), "count_include_pad": True}
        cutter.open("avg_pool2d", node, TensorSpec(static_shape(node)), [x], **window)
    else:
        raise unsupported(node, f"adaptive pooling from {size} to {out}", "choose an input size that divides evenly")


@handles(aten.mean.dim)
def _mean(cutter: Cutter, node: Node) -> None:
    x = cutter.image(node.args[0], node)
    dims = sorted(int(d) % 4 for d in node.args[1])  # type: ignore[union-attr, arg-type]
    if dims != [2, 3]:
        raise unsupported(node, f"a mean over dimensions {dims}", "only (2, 3), the mean of the image, has a kernel")
    n, c = x.spec.shape[:2]
    draft = cutter.open("global_avg_pool", node, TensorSpec((n, c, 1, 1)), [x])
    if len(static_shape(node)) == 2:
        cutter.show(node, Value(node, node, draft.spec, draft), View.whole((n, c)))


@handles(
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest2d.default,
    aten.upsample_bilinear2d.vec,
    aten.upsample_bilinear2d.default,
)
def _upsample(cutter: Cutter, node: Node) -> None:
    bilinear = "bilinear" in str(node.target)
    x = cutter.image(node.args[0], node)
    named = arguments(node)
    factors = named.get("scale_factors") or (named.get("scales_h"), named.get("scales_w"))
    for size, out, factor in zip(x.spec.shape[2:], static_shape(node)[2:], factors, strict=True):
        if factor is not None and size * factor != out:
            # torch would sample with the factor, the kernel with the ratio of the sizes.
            raise unsupported(node, f"resizing {size} by {factor}", "give the output size instead of a factor")
    corners = bool(argument(node, 2, "align_corners", False)) if bilinear else False
    mode = "bilinear" if bilinear else "nearest"
    cutter.open("resize2d", node, TensorSpec(static_shape(node)), [x], mode=mode, align_corners=corners)
