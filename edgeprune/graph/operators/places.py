"""Operators that say where values stood or come from: places of maxima, sampling, indexing."""

from __future__ import annotations

import math
import operator

import torch
from torch.fx import Node

from edgeprune.graph.cutting.cutter import Cutter, handles
from edgeprune.graph.nodes import arguments, detached, static_shape, unsupported
from edgeprune.graph.operators.products import multiply
from edgeprune.graph.operators.windows import adaptive, max_window, pool, window_of
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.walks import View

aten = torch.ops.aten

UNPOOLING = (aten.max_unpool2d.default,)
"""What may ask for the places of maxima; they are numbers of another type on the board."""


@handles(
    aten.max_pool2d_with_indices.default,
    aten.max_pool1d_with_indices.default,
    aten.max_pool3d_with_indices.default,
)
def _max_pool_with_places(cutter: Cutter, node: Node) -> None:
    shape = tuple(node.meta["val"][0].shape)
    inner = detached(node, "values")
    # Of a tuple nobody knows the channels; who takes a part of it does.
    max_window(cutter, node, shape, yields=inner, anchor=_taker(node, 0) or node)
    values, taker = cutter.value(inner), _taker(node, 1)
    asked = taker is not None and bool(taker.users) and all(u.target in UNPOOLING for u in taker.users)
    if taker is None or not asked or len(shape) != 4:
        cutter.yield_parts(node, [values])  # whoever asks for the places otherwise is refused
        return
    if math.prod(static_shape(named := arguments(node)["self"])[2:]) > 2**24:
        raise unsupported(node, f"places in planes as large as {named}'s", "pool smaller images")
    places = detached(node, "places")
    pool(cutter, node, "max_places2d", shape, window_of(node, shape), yields=places, anchor=taker)
    cutter.yield_parts(node, [values, cutter.value(places)])


@handles(
    aten.adaptive_max_pool1d.default,
    aten.adaptive_max_pool2d.default,
    aten.adaptive_max_pool3d.default,
)
def _adaptive_maximum(cutter: Cutter, node: Node) -> None:
    """The values; whoever asks for the places is refused."""
    inner, shape = detached(node, "values"), tuple(node.meta["val"][0].shape)
    adaptive(cutter, node, "max", shape, yields=inner, anchor=_taker(node, 0) or node)
    cutter.yield_parts(node, [cutter.value(inner)])


def _taker(node: Node, index: int) -> Node | None:
    """Who takes one of several results."""
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


@handles(aten.affine_grid_generator.default)
def _affine_grid(cutter: Cutter, node: Node) -> None:
    """The matrix of each sample times the places of all pixels. Seen (N, H, W, 2), kept (N, 2, H, W)."""
    named, (n, height, width, *_) = arguments(node), static_shape(node)
    if len(static_shape(node)) != 4:
        raise unsupported(node, "an affine grid of a volume", "sample images")
    unit = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    base = torch.ones(3, height * width)
    base[:2] = aten.affine_grid_generator(unit, [1, 1, height, width], named["align_corners"]).reshape(-1, 2).t()
    points = cutter.constant(node, "points", base)
    product = multiply(cutter, node, cutter.row_major(named["theta"]), points, (n, 2, height * width))
    cutter.show(node, product.seen(View.whole((n, 2, height, width)).permuted((0, 2, 3, 1))))


@handles(aten.grid_sampler.default, aten.grid_sampler_2d.default)
def _grid_sample(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    modes, paddings = ("bilinear", "nearest"), ("zeros", "border")
    if named["interpolation_mode"] >= len(modes) or named["padding_mode"] >= len(paddings):
        raise unsupported(node, "bicubic sampling or reflection", "use bilinear or nearest, zeros or border")
    if len(shape) != 4:
        raise unsupported(node, "sampling of a volume", "sample images")
    planes = cutter.row_major(named["grid"]).permuted((0, 3, 1, 2))
    if not planes.view.contiguous:
        planes = cutter.copied(planes, f"{node.name}.places")
    cutter.emit(
        "grid_sample",
        node,
        TensorSpec(shape),
        [cutter.picture(node.args[0]), planes.as_plain(planes.shape)],
        {
            "mode": modes[named["interpolation_mode"]],
            "padding": paddings[named["padding_mode"]],
            "align_corners": bool(named["align_corners"]),
        },
    )


@handles(aten.index.Tensor)
def _index(cutter: Cutter, node: Node) -> None:
    """One dimension, by numbers that are constant."""
    indices = list(arguments(node)["indices"])
    at = [d for d, index in enumerate(indices) if index is not None]
    if len(at) != 1:
        raise unsupported(node, "indexing of several dimensions at once", "index one after the other")
    _take(cutter, node, at[0], indices[at[0]])


@handles(aten.index_select.default)
def _index_select(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    _take(cutter, node, named["dim"], named["index"])


def _take(cutter: Cutter, node: Node, dim: int, index: Node) -> None:
    x, shape = cutter.plain(node.args[0]), static_shape(node)
    axis, numbers = dim % len(x.shape), cutter.numbers(index)
    if numbers is None or numbers.dtype == torch.bool:
        raise unsupported(
            node, "indexing by numbers that are computed from the input, or by a mask", "use constant ones"
        )
    flat = numbers.reshape(-1) % x.shape[axis]
    places = cutter.constant(node, "places", flat.float())
    taken = (*x.shape[:axis], flat.numel(), *x.shape[axis + 1 :])
    cutter.emit("take", node, TensorSpec(taken, "plain"), [x, places], {"axis": axis}, seen=shape)


@handles(aten.zeros_like.default, aten.ones_like.default, aten.full_like.default)
def _filled(cutter: Cutter, node: Node) -> None:
    """One number, seen everywhere: its channels cost nothing and may go."""
    shape, names = static_shape(node), {aten.zeros_like.default: 0.0, aten.ones_like.default: 1.0}
    if node.meta["val"].dtype != torch.float32:
        raise unsupported(node, f"a tensor of {node.meta['val'].dtype}", "compute in float32")
    number = names[node.target] if node.target in names else float(arguments(node)["fill_value"])
    value = cutter.constant(node, "number", torch.full((1,) * len(shape), number))
    cutter.show(node, value.expanded(shape))
