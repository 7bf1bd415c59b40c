"""Pooling, unpooling, padding and resizing of images, lines and volumes."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping

import torch
from torch.fx import Node

from edgeprune.graph import zeros
from edgeprune.graph.aten.common import carried, drop, only_axis, tensor
from edgeprune.graph.aten.table import handles, overloads, rule
from edgeprune.graph.cutting.cutter import NO_ATTRS, Cutter
from edgeprune.graph.cutting.values import as_picture
from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import Layout
from edgeprune.graph.nodes import arguments, detached, spread, static_shape, unsupported
from edgeprune.graph.spec import Attr, TensorSpec

aten = torch.ops.aten


_SPATIAL = {
    1: "max_pool1d avg_pool1d adaptive_avg_pool1d upsample_nearest1d.vec upsample_linear1d.vec"
    " _upsample_nearest_exact1d.vec",
    2: "max_pool2d avg_pool2d adaptive_avg_pool2d upsample_nearest2d.vec upsample_nearest2d upsample_bilinear2d.vec"
    " upsample_bilinear2d upsample_bicubic2d.vec upsample_bicubic2d _upsample_nearest_exact2d.vec"
    " _upsample_bilinear2d_aa.vec _upsample_bicubic2d_aa.vec",
    3: "max_pool3d avg_pool3d adaptive_avg_pool3d upsample_nearest3d.vec upsample_trilinear3d.vec"
    " _upsample_nearest_exact3d.vec",
}
_WITH_INDICES = {n: f"adaptive_max_pool{n}d max_pool{n}d_with_indices" for n in (1, 2, 3)}
"""How many of the last dimensions operators act on, and which do."""


_DIMENSIONS = {op: n for table in (_SPATIAL, _WITH_INDICES) for n, names in table.items() for op in overloads(names)}


def _beside_pixels(flow: Flow, node: Node) -> dict[int, Layout]:
    axes = carried(flow, node.args[0])
    rank = len(flow.shape(tensor(node.args[0])))
    if any(dim >= rank - _DIMENSIONS[node.target] for dim in axes):
        raise Refused("pools or resizes a dimension of channels")
    return axes


@rule(*overloads(" ".join(_SPATIAL.values())), zero=zeros.first)
def spatial(flow: Flow, node: Node) -> None:
    """Acts on the last dimensions; the others pass."""
    flow.produce(node, _beside_pixels(flow, node))


@rule(*overloads(" ".join(_WITH_INDICES.values())), zero=zeros.first)
def spatial_with_indices(flow: Flow, node: Node) -> None:
    """As :func:`spatial`; the second result tells where each maximum stood."""
    axes = _beside_pixels(flow, node)
    flow.produce_tuple(node, [dict(axes), dict(axes)])


@rule(aten.max_unpool2d.default, aten.max_unpool3d.default)
def unpooling(flow: Flow, node: Node) -> None:
    source, places = tensor(node.args[0]), tensor(node.args[1])
    channels = only_axis(flow, source, 1)
    flow.equate(channels, only_axis(flow, places, 1))
    flow.produce(node, {1: channels})


@rule(aten.pad.default, aten.constant_pad_nd.default)
def padding(flow: Flow, node: Node) -> None:
    """The amounts are constants of the network's code, so padded channels cannot be pruned."""
    pads = arguments(node)["pad"]
    rank = len(flow.shape(node))
    axes = carried(flow, node.args[0])
    for pair in range(len(pads) // 2):
        if pads[2 * pair] or pads[2 * pair + 1]:
            drop(flow, axes, rank - 1 - pair, "channels are padded by a constant")
    flow.produce(node, axes)


@handles(aten.max_pool2d.default, aten.max_pool1d.default, aten.max_pool3d.default)
def _max_pool(cutter: Cutter, node: Node) -> None:
    max_window(cutter, node, static_shape(node))


def max_window(
    cutter: Cutter, node: Node, shape: tuple[int, ...], *, yields: Node | None = None, anchor: Node | None = None
) -> None:
    """``yields``, ``anchor``: see :func:`pool`."""
    named, window = arguments(node), window_of(node, shape)
    if set(spread(named["dilation"], len(shape[2:]))) != {1}:
        raise unsupported(node, "a dilated pooling window", "use dilation 1")
    pool(cutter, node, _windowed("max", shape), shape, window, yields=yields, anchor=anchor)


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
    window = {**window_of(node, shape), "count_include_pad": counted}
    pool(cutter, node, _windowed("avg", shape), shape, window)


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


def pool(
    cutter: Cutter,
    node: Node,
    op: str,
    shape: tuple[int, ...],
    attrs: Mapping[str, Attr] = NO_ATTRS,
    *,
    yields: Node | None = None,
    anchor: Node | None = None,
) -> None:
    """A kernel over what is an image, or computed as one.

    Args:
        yields, anchor: whose value it is and who knows its channels, where ``node`` is several tensors.
    """
    picture, spec = cutter.picture(node.args[0]), TensorSpec(as_picture(shape))
    cutter.emit(op, yields or node, spec, [picture], attrs, anchor=anchor or node, seen=shape)


@handles(aten.adaptive_avg_pool2d.default, aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool3d.default)
def _adaptive_average(cutter: Cutter, node: Node) -> None:
    adaptive(cutter, node, "avg", static_shape(node))


def adaptive(
    cutter: Cutter,
    node: Node,
    kind: str,
    shape: tuple[int, ...],
    *,
    yields: Node | None = None,
    anchor: Node | None = None,
) -> None:
    """``yields``, ``anchor``: see :func:`pool`."""
    size, out = cutter.value(node.args[0]).shape[2:], shape[2:]
    if any(s % o for s, o in zip(size, out, strict=True)):
        raise unsupported(node, f"adaptive pooling from {size} to {out}", "choose an input size that divides evenly")
    if size == out:
        cutter.alias(yields or node, cutter.value(node.args[0]), axis=anchor)
        return
    if set(out) == {1}:
        pool(cutter, node, f"global_{kind}_pool", shape, yields=yields, anchor=anchor)
        return
    kernel = tuple(s // o for s, o in zip(size, out, strict=True))
    counted: dict[str, Attr] = {"count_include_pad": True} if kind == "avg" else {}
    window = {**_of_picture((size, out), kernel, kernel, (0,) * len(kernel)), **counted}
    pool(cutter, node, _windowed(kind, shape), shape, window, yields=yields, anchor=anchor)


@handles(aten.pad.default, aten.constant_pad_nd.default)
def _padding(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    mode, number = named.get("mode", "constant"), float(named.get("value") or 0.0)
    amounts = [int(n) for n in named["pad"]]
    around = {len(shape) - 1 - i: (amounts[2 * i], amounts[2 * i + 1]) for i in range(len(amounts) // 2)}
    around = {dim: ends for dim, ends in around.items() if any(ends)}
    if min(amounts, default=0) < 0:
        value = cutter.value(node.args[0])
        if max(amounts) > 0:
            raise unsupported(node, "padding at one end and cutting at the other", "do one after the other")
        for dim, (before, behind) in around.items():
            value = value.sliced(dim, -before, value.shape[dim] + before + behind)
        cutter.show(node, value)
        return
    if len(shape) not in (3, 4) or min(around, default=2) < 2:
        raise unsupported(node, f"padding of dimension {min(around)}", "only rows and columns are padded")
    top = around.get(2, (0, 0))[0] if len(shape) == 4 else 0
    left = around.get(len(shape) - 1, (0, 0))[0]
    pool(cutter, node, "pad", shape, {"top": top, "left": left, "mode": mode, "value": number})


@handles(
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest2d.default,
    aten.upsample_bilinear2d.vec,
    aten.upsample_bilinear2d.default,
)
def _upsample(cutter: Cutter, node: Node) -> None:
    named, bilinear = arguments(node), "bilinear" in str(node.target)
    x = cutter.image(node.args[0])
    factors = named.get("scale_factors") or (named.get("scales_h"), named.get("scales_w"))
    for size, out, factor in zip(x.data.spec.shape[2:], static_shape(node)[2:], factors, strict=True):
        if factor is not None and size * factor != out:
            # torch would sample with the factor, the kernel with the ratio of the sizes.
            raise unsupported(node, f"resizing {size} by {factor}", "give the output size instead of a factor")
    corners = bilinear and bool(named["align_corners"])
    mode = "bilinear" if bilinear else "nearest"
    cutter.emit("resize2d", node, TensorSpec(static_shape(node)), [x], {"mode": mode, "align_corners": corners})


UNPOOLING = (aten.max_unpool2d.default,)
"""Operators that may read the indices of maxima, which are floats on the board and no integers."""


@handles(
    aten.max_pool2d_with_indices.default,
    aten.max_pool1d_with_indices.default,
    aten.max_pool3d_with_indices.default,
)
def _max_pool_with_indices(cutter: Cutter, node: Node) -> None:
    shape = tuple(node.meta["val"][0].shape)
    inner = detached(node, "values")
    # Channels are known of the parts of a tuple, not of the tuple.
    max_window(cutter, node, shape, yields=inner, anchor=_taker(node, 0) or node)
    values, taker = cutter.value(inner), _taker(node, 1)
    asked = taker is not None and bool(taker.users) and all(u.target in UNPOOLING for u in taker.users)
    if taker is None or not asked or len(shape) != 4:
        cutter.yield_parts(node, [values])  # another reader of the indices is refused when it is reached
        return
    if math.prod(static_shape(named := arguments(node)["self"])[2:]) > 2**24:
        raise unsupported(node, f"places in planes as large as {named}'s", "pool smaller images")
    places = detached(node, "places")
    pool(cutter, node, "max_places2d", shape, window_of(node, shape), yields=places, anchor=taker)
    cutter.yield_parts(node, [values, cutter.value(places)])


@handles(aten.adaptive_max_pool1d.default, aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default)
def _adaptive_maximum(cutter: Cutter, node: Node) -> None:
    """The values alone: a reader of the indices is refused when it is reached."""
    inner, shape = detached(node, "values"), tuple(node.meta["val"][0].shape)
    adaptive(cutter, node, "max", shape, yields=inner, anchor=_taker(node, 0) or node)
    cutter.yield_parts(node, [cutter.value(inner)])


def _taker(node: Node, index: int) -> Node | None:
    """The node that takes one of several results."""
    return next((u for u in node.users if u.target is operator.getitem and u.args[1] == index), None)


@handles(*UNPOOLING)
def _max_unpool(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    places = cutter.value(named["indices"])
    pooling = places.draft
    if pooling is None or pooling.op != "max_places2d":
        raise unsupported(node, "places that no pooling has found", "take them from the max_pool2d that is undone")
    pooled = pooling.sources[0].spec.shape[2:]
    if pooled != shape[2:]:
        raise unsupported(node, f"unpooling to {shape[2:]} from {pooled}", "give output_size what was pooled")
    window = {n: pooling.attrs[n] for n in ("kernel", "stride", "padding")}
    sources = [cutter.picture(node.args[0]), cutter.blocked(places)]
    cutter.emit("max_unpool2d", node, TensorSpec(shape), sources, window)
