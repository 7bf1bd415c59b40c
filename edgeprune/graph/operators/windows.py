"""Pooling, padding and resizing of images, lines and (pooling) volumes."""

from __future__ import annotations

import torch
from torch.fx import Node

from edgeprune.graph.cutter import (
    Cutter,
    argument,
    as_picture,
    as_seen,
    handles,
    picture,
    static_shape,
    unsupported,
)
from edgeprune.graph.nodes import arguments, spread
from edgeprune.graph.spec import Attr, TensorSpec
from edgeprune.graph.walks import View

aten = torch.ops.aten


@handles(aten.max_pool2d.default, aten.max_pool1d.default, aten.max_pool3d.default)
def _max_pool(cutter: Cutter, node: Node) -> None:
    max_window(cutter, node, static_shape(node))


def max_window(cutter: Cutter, node: Node, shape: tuple[int, ...]) -> None:
    named, window = arguments(node), window_of(node, shape)
    if set(spread(named["dilation"], len(shape[2:]))) != {1}:
        raise unsupported(node, "a dilated pooling window", "use dilation 1")
    _pool(cutter, node, _windowed("max", shape), shape, **window)


def _windowed(kind: str, shape: tuple[int, ...]) -> str:
    return f"{kind}_pool3d" if len(shape) == 5 else f"{kind}_pool2d"


@handles(aten.avg_pool2d.default, aten.avg_pool1d.default, aten.avg_pool3d.default)
def _avg_pool(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    if named.get("divisor_override") is not None:
        raise unsupported(node, "an average by another divisor", "use the default")
    counted, padded = bool(named["count_include_pad"]), any(spread(named["padding"], len(shape[2:])))
    if named["ceil_mode"] and counted and padded:
        raise unsupported(node, "ceil_mode with counted padding", "use count_include_pad=False")
    # What a last window has beyond the image never counts.
    counted = counted and not named["ceil_mode"]
    _pool(cutter, node, _windowed("avg", shape), shape, **window_of(node, shape), count_include_pad=counted)


def window_of(node: Node, shape: tuple[int, ...]) -> dict[str, Attr]:
    """Kernel, stride and padding; along a line, those of an image of one row; of a volume, its slices too."""
    named, axes = arguments(node), shape[2:]
    kernel = spread(named["kernel_size"], len(axes))
    stride = spread(named["stride"], len(axes)) if named["stride"] else kernel
    return _of_picture((static_shape(named["self"])[2:], axes), kernel, stride, spread(named["padding"], len(axes)))


def _of_picture(
    sizes: tuple[tuple[int, ...], tuple[int, ...]],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> dict[str, Attr]:
    """``sizes``: of the operand and of the result, batch and channels left out."""
    beside = ((1,), (1,), (0,)) if len(kernel) == 1 else ((), (), ())
    names = ("kernel", "stride", "padding")
    attrs: dict[str, Attr] = {n: (*b, *w) for n, b, w in zip(names, beside, (kernel, stride, padding), strict=True)}
    return attrs | {"slices": (sizes[0][0], sizes[1][0])} if len(kernel) == 3 else attrs


def _pool(cutter: Cutter, node: Node, op: str, shape: tuple[int, ...], **attrs: Attr) -> None:
    cutter.open(op, node, TensorSpec(as_picture(shape)), [picture(cutter, node)], **attrs)
    cutter.values[node] = as_seen(cutter.values[node], View.whole(shape))


@handles(aten.adaptive_avg_pool2d.default, aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool3d.default)
def _adaptive_average(cutter: Cutter, node: Node) -> None:
    adaptive(cutter, node, "avg", static_shape(node))


def adaptive(cutter: Cutter, node: Node, kind: str, shape: tuple[int, ...]) -> None:
    size, out = cutter.value(node.args[0], node).shape[2:], shape[2:]
    if any(s % o for s, o in zip(size, out, strict=True)):
        raise unsupported(node, f"adaptive pooling from {size} to {out}", "choose an input size that divides evenly")
    if size == out:
        cutter.alias(node, cutter.value(node.args[0], node))
        return
    if set(out) == {1}:
        _pool(cutter, node, f"global_{kind}_pool", shape)
        return
    kernel = tuple(s // o for s, o in zip(size, out, strict=True))
    counted: dict[str, Attr] = {"count_include_pad": True} if kind == "avg" else {}
    window = _of_picture((size, out), kernel, kernel, (0,) * len(kernel))
    _pool(cutter, node, _windowed(kind, shape), shape, **window, **counted)


@handles(aten.pad.default, aten.constant_pad_nd.default)
def _padding(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    mode, value = named.get("mode", "constant"), float(named.get("value") or 0.0)
    amounts = [int(n) for n in named["pad"]]
    around = {len(shape) - 1 - i: (amounts[2 * i], amounts[2 * i + 1]) for i in range(len(amounts) // 2)}
    around = {dim: ends for dim, ends in around.items() if any(ends)}
    if min(amounts, default=0) < 0:
        value_seen, view = cutter.viewed(node.args[0], node)
        if max(amounts) > 0:
            raise unsupported(node, "padding at one end and cutting at the other", "do one after the other")
        for dim, (before, behind) in around.items():
            view = view.sliced(dim, -before, view.shape[dim] + before + behind)
        cutter.show(node, value_seen, view)
        return
    if len(shape) not in (3, 4) or min(around, default=2) < 2:
        raise unsupported(node, f"padding of dimension {min(around)}", "only rows and columns are padded")
    top = around.get(2, (0, 0))[0] if len(shape) == 4 else 0
    left = around.get(len(shape) - 1, (0, 0))[0]
    _pool(cutter, node, "pad", shape, top=top, left=left, mode=mode, value=value)


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
