"""Operators that say where values stood or come from: places of maxima, sampling, indexing."""

from __future__ import annotations

import math
import operator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node
from torch.fx.node import map_arg

from edgeprune.graph.cutter import (
    Cutter,
    Value,
    as_seen,
    handles,
    picture,
    static_shape,
    unsupported,
)
from edgeprune.graph.nodes import arguments
from edgeprune.graph.operators.products import multiply
from edgeprune.graph.operators.windows import adaptive, max_window, window_of
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
    max_window(cutter, node, shape)
    _first_part(cutter, node)
    part = _part(node, 1)
    asked = part is not None and bool(part.users) and all(u.target in UNPOOLING for u in part.users)
    if part is None or not asked or len(shape) != 4:
        return  # whoever asks for the places otherwise is refused
    if math.prod(static_shape(named := arguments(node)["self"])[2:]) > 2**24:
        raise unsupported(node, f"places in planes as large as {named}'s", "pool smaller images")
    inner = cutter.between(node, "places")
    draft = cutter.open("max_places2d", inner, TensorSpec(shape), [picture(cutter, node)], **window_of(node, shape))
    draft.anchor = part
    value = replace(cutter.values[inner], axis=part)
    cutter.parts[node].append((value, value.seen))


@handles(
    aten.adaptive_max_pool1d.default,
    aten.adaptive_max_pool2d.default,
    aten.adaptive_max_pool3d.default,
)
def _adaptive_maximum(cutter: Cutter, node: Node) -> None:
    """The values; whoever asks for the places is refused."""
    adaptive(cutter, node, "max", tuple(node.meta["val"][0].shape))
    _first_part(cutter, node)


def _first_part(cutter: Cutter, node: Node) -> None:
    """What ``node`` yields so far is the first of several results."""
    inner, draft = cutter.between(node, "values"), cutter.values[node].draft
    cutter.rename(node, inner)
    if draft is not None and draft.anchor is node and (part := _part(node, 0)) is not None:
        draft.anchor = part  # of a tuple nobody knows the channels
        cutter.values[inner] = replace(cutter.values[inner], axis=part)
    value = cutter.values[inner]
    cutter.parts[node] = [(value, value.seen)]


def _part(node: Node, index: int) -> Node | None:
    """Who takes one of several results."""
    return next((u for u in node.users if u.target is operator.getitem and u.args[1] == index), None)


@handles(*UNPOOLING)
def _max_unpool(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    places = cutter.value(named["indices"], node)
    pooling = places.draft
    if pooling is None or pooling.op != "max_places2d":
        raise unsupported(node, "places that no pooling has found", "take them from the max_pool2d that is undone")
    if pooling.sources[0].spec.shape[2:] != shape[2:]:
        raise unsupported(
            node,
            f"unpooling to {shape[2:]} from {pooling.sources[0].spec.shape[2:]}",
            "give output_size what was pooled",
        )
    window = {n: pooling.attrs[n] for n in ("kernel", "stride", "padding")}
    cutter.open("max_unpool2d", node, TensorSpec(shape), [picture(cutter, node), cutter.blocked(places)], **window)


@handles(aten.affine_grid_generator.default)
def _affine_grid(cutter: Cutter, node: Node) -> None:
    """The matrix of each sample times the places of all pixels. Seen (N, H, W, 2), kept (N, 2, H, W)."""
    named, (n, height, width, *_) = arguments(node), static_shape(node)
    if len(static_shape(node)) != 4:
        raise unsupported(node, "an affine grid of a volume", "sample images")
    unit = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    base = torch.ones(3, height * width)
    base[:2] = aten.affine_grid_generator(unit, [1, 1, height, width], named["align_corners"]).reshape(-1, 2).t()
    points = constant(cutter, node, "points", base)
    multiply(cutter, node, cutter.seen(named["theta"], node), (points, points.seen), (n, 2, height * width))
    cutter.show(node, cutter.values[node], View.whole((n, 2, height, width)).permuted((0, 2, 3, 1)))


@handles(aten.grid_sampler.default, aten.grid_sampler_2d.default)
def _grid_sample(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    modes, paddings = ("bilinear", "nearest"), ("zeros", "border")
    if named["interpolation_mode"] >= len(modes) or named["padding_mode"] >= len(paddings):
        raise unsupported(node, "bicubic sampling or reflection", "use bilinear or nearest, zeros or border")
    if len(shape) != 4:
        raise unsupported(node, "sampling of a volume", "sample images")
    grid, view = cutter.seen(named["grid"], node)
    planes = as_seen(grid, view.permuted((0, 3, 1, 2)))
    if not planes.seen.contiguous:
        planes = cutter.copied(replace(planes, view=planes.seen), name=f"{node.name}.places")
    cutter.open(
        "grid_sample",
        node,
        TensorSpec(shape),
        [picture(cutter, node), replace(planes, spec=TensorSpec(planes.shape, "plain"), view=None)],
        mode=modes[named["interpolation_mode"]],
        padding=paddings[named["padding_mode"]],
        align_corners=bool(named["align_corners"]),
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
    x, shape = cutter.plain(node.args[0], node), static_shape(node)
    axis, numbers = dim % len(x.shape), _numbers(cutter, index)
    if numbers is None or numbers.dtype == torch.bool:
        raise unsupported(
            node, "indexing by numbers that are computed from the input, or by a mask", "use constant ones"
        )
    flat = numbers.reshape(-1) % x.shape[axis]
    places = constant(cutter, node, "places", flat.float())
    taken = (*x.shape[:axis], flat.numel(), *x.shape[axis + 1 :])
    cutter.open("take", node, TensorSpec(taken, "plain"), [x, places], axis=axis)
    cutter.values[node] = as_seen(cutter.values[node], View.whole(shape))


def _numbers(cutter: Cutter, node: Node) -> Tensor | None:
    """The values of what is made of literals and buffers alone, None for anything else."""
    if node.name in cutter.literals:
        return cutter.literals[node.name]
    if node.name in cutter.parameters:
        return {**cutter.program.state_dict, **cutter.program.constants}.get(cutter.parameters[node.name])
    known = {n: _numbers(cutter, n) for n in node.all_input_nodes}
    if not known or not isinstance(node.target, OpOverload) or any(v is None for v in known.values()):
        return None
    given, named = map_arg((node.args, node.kwargs), lambda n: known[n])
    found: Tensor = node.target(*given, **named)
    return found


@handles(aten.zeros_like.default, aten.ones_like.default, aten.full_like.default)
def _filled(cutter: Cutter, node: Node) -> None:
    """One number, seen everywhere: its channels cost nothing and may go."""
    shape, names = static_shape(node), {aten.zeros_like.default: 0.0, aten.ones_like.default: 1.0}
    if node.meta["val"].dtype != torch.float32:
        raise unsupported(node, f"a tensor of {node.meta['val'].dtype}", "compute in float32")
    number = names[node.target] if node.target in names else float(arguments(node)["fill_value"])
    value = constant(cutter, node, "number", torch.full((1,) * len(shape), number))
    cutter.show(node, value, value.seen.expanded(shape))


def constant(cutter: Cutter, node: Node, name: str, values: Tensor) -> Value:
    """A tensor of the program that no node of the network stands for."""
    inner = cutter.between(node, name)
    cutter.constants[inner.name] = np.ascontiguousarray(values.numpy(), np.float32)
    cutter.values[inner] = Value(inner, inner, TensorSpec(tuple(values.shape), "plain"))
    return cutter.values[inner]
