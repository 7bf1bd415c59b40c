"""Tensors joined and taken apart."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph import zeros
from edgeprune.graph.aten.common import carried, drop, tensor, tied_runs
from edgeprune.graph.aten.table import handles, rule
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.cutting.values import Value, are_images, as_picture, walks
from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import Layout, joined, window
from edgeprune.graph.nodes import arguments, static_shape, unsupported
from edgeprune.graph.sizes import Attribute, Read, Size, origins
from edgeprune.graph.spec import TensorSpec

aten = torch.ops.aten


_WRITTEN = "split at sizes written in the network's code (chunk would follow)"


@rule(aten.cat.default, aten.concat.default, aten.hstack.default, zero=zeros.joined)
def concatenation(flow: Flow, node: Node) -> None:
    a = arguments(node)
    if len(flow.shape(node)) < 2:
        raise Refused("joins vectors")
    dim = a.get("dim", 1) % len(flow.shape(node))
    parts: list[Node] = list(a["tensors"])
    axes = _together(flow, parts, apart=dim)
    # Rows and columns that nobody follows need not be followed from here on.
    if dim == 1 or any(dim in flow.tracked(p) or flow.parameter(p) for p in parts):
        axes[dim] = joined(flow.axis(p, dim) for p in parts)
    flow.produce(node, axes)


@rule(aten.stack.default, zero=zeros.joined)
def stacking(flow: Flow, node: Node) -> None:
    a = arguments(node)
    dim = a["dim"] % len(flow.shape(node))
    axes = _together(flow, list(a["tensors"]))
    flow.produce(node, {d + (d >= dim): layout for d, layout in axes.items()})


def _together(flow: Flow, parts: list[Node], apart: int = -1) -> dict[int, Layout]:
    """Equal axes of all parts, but for one."""
    axes: dict[int, Layout] = {}
    for dim in set().union(*(carried(flow, p) for p in parts)) - {apart}:
        leader = next(p for p in parts if dim in flow.tracked(p))
        axes[dim] = flow.axis(leader, dim)
        for p in parts:
            if p is not leader:
                flow.bind(p, dim, axes[dim])
    return axes


@rule(aten.chunk.default, aten.tensor_split.sections, zero=zeros.first)
def chunk(flow: Flow, node: Node) -> None:
    """Equal halves, thirds ...: tied, so that the same call still cuts at the same channels."""
    a = arguments(node)
    source, n = a["self"], int(node.args[1])  # type: ignore[arg-type]
    shape = flow.shape(source)
    dim = a["dim"] % len(shape)
    axes = carried(flow, source)
    layout = axes.pop(dim, None)
    if layout is not None:
        if shape[dim] % n:
            raise Refused(f"{shape[dim]} channels do not divide into {n} chunks")
        axes[dim] = tied_runs(flow, layout, n)
    flow.produce_tuple(node, [dict(axes) for _ in node.meta["val"]])


@rule(aten.split.Tensor, aten.split_with_sizes.default, zero=zeros.first)
def split(flow: Flow, node: Node) -> None:
    """Parts whose sizes are attributes go their own ways; equal parts of a size that was read are tied."""
    a = arguments(node)
    axes = carried(flow, a["self"])
    dim = a["dim"] % len(flow.shape(a["self"]))
    layout = axes.pop(dim, None)
    given: Any = node.args[1]
    listed = isinstance(given, (list, tuple))
    found = origins(node, given if listed else [given])
    sizes = [int(t.shape[dim]) for t in node.meta["val"]]
    if layout is None:
        for size in found:
            flow.sized(None, size)
        parts: list[Layout | None] = [None] * len(sizes)
    else:
        parts = _parts(flow, layout, sizes, found if listed else found * len(sizes))
    flow.produce_tuple(node, [axes if part is None else {**axes, dim: part} for part in parts])


def _parts(flow: Flow, layout: Layout, sizes: list[int], found: list[Size]) -> list[Layout | None]:
    if len(set(sizes)) == 1 and all(isinstance(size, Read) for size in found):
        part = tied_runs(flow, layout, len(sizes))
        flow.sized(part, found[0], whole=layout)
        return [part] * len(sizes)
    if not any(isinstance(size, Attribute) for size in found):
        flow.freeze_layout(layout, _WRITTEN)
        return [None] * len(sizes)
    parts: list[Layout | None] = []
    at = 0
    for n, size in zip(sizes, found, strict=True):
        part = _window(layout, at, at + n)
        if isinstance(size, Attribute):
            flow.sized(part, size)
        else:
            flow.freeze_layout(part, _WRITTEN)
        parts.append(part)
        at += n
    return parts


def _window(layout: Layout, start: int, stop: int) -> Layout:
    found = window(layout, start, stop)
    if found is None:
        raise Refused("cut inside a flattened channel")
    return found


@rule(aten.slice.Tensor, zero=zeros.first)
def slicing(flow: Flow, node: Node) -> None:
    source = tensor(node.args[0])
    a = arguments(node)
    axes = carried(flow, source)
    dim = a["dim"] % len(flow.shape(source))
    total, size = flow.shape(source)[dim], flow.shape(node)[dim]
    bounds = origins(node, (a["start"], a["end"]))
    if dim not in axes:
        for bound in bounds:
            flow.sized(None, bound)
    elif total != size or a["step"] != 1:
        layout = axes.pop(dim)
        start = 0 if a["start"] is None else a["start"] % total if a["start"] < total else total
        part = _sliced(flow, layout, start, start + size, bounds) if a["step"] == 1 else None
        if part is None:
            flow.freeze_layout(layout, "sliced at places written in the network's code")
        else:
            axes[dim] = part
    flow.produce(node, axes)


def _sliced(flow: Flow, layout: Layout, start: int, stop: int, bounds: list[Size]) -> Layout | None:
    """Bounds that are attributes say how wide what lies before them is; such as were read cut equal parts."""
    total = sum(s.positions for s in layout)
    inner = [(at, bound) for at, bound in zip((start, stop), bounds, strict=True) if 0 < at < total]
    if all(isinstance(bound, Attribute) for _, bound in inner):
        for at, bound in inner:
            flow.sized(_window(layout, 0, at), bound)
        return _window(layout, start, stop)
    size = stop - start
    if all(isinstance(bound, Read) for _, bound in inner) and total % size == 0 and start % size == 0:
        part = tied_runs(flow, layout, total // size)
        for at, bound in inner:
            flow.sized(_window(layout, 0, at), bound, whole=layout)
        return part
    return None


@rule(aten.narrow.default, zero=zeros.first)
def narrow(flow: Flow, node: Node) -> None:
    axes = carried(flow, node.args[0])
    dim = arguments(node)["dim"] % len(flow.shape(node))
    drop(flow, axes, dim, "sliced at places written in the network's code")
    flow.produce(node, axes)


@rule(aten.select.int, zero=zeros.first)
def selection(flow: Flow, node: Node) -> None:
    """One channel by its number: which it is may not change."""
    flow.produce(node, _without(flow, node))


@rule(aten.unbind.int, zero=zeros.first)
def unbinding(flow: Flow, node: Node) -> None:
    axes = _without(flow, node)
    flow.produce_tuple(node, [dict(axes) for _ in node.meta["val"]])


def _without(flow: Flow, node: Node) -> dict[int, Layout]:
    source = tensor(node.args[0])
    axes = carried(flow, source)
    dim = arguments(node)["dim"] % len(flow.shape(source))
    drop(flow, axes, dim, "channels are selected by number")
    return {d - (d > dim): layout for d, layout in axes.items()}


@rule(operator.getitem, zero=zeros.part)
def getitem(flow: Flow, node: Node) -> None:
    source, index = node.args
    flow.produce(node, flow.part(tensor(source), int(index)))  # type: ignore[arg-type]


@handles(aten.cat.default)
def _concat(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    parts, axis = [p for p in named["tensors"] if math.prod(static_shape(p))], named["dim"] % len(shape)
    values = [cutter.value(p).image for p in parts]
    if axis == 1 and are_images(values):
        cutter.emit(
            "concat", node, TensorSpec(as_picture(shape)), [cutter.blocked(v, ends=True) for v in values], seen=shape
        )
    else:
        join(cutter, node, axis, [cutter.row_major(p) for p in parts])


@handles(aten.stack.default)
def _stack(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    axis = named["dim"] % len(shape)
    single = (*shape[:axis], 1, *shape[axis + 1 :])
    join(cutter, node, axis, [cutter.row_major(part).reshaped(single) for part in named["tensors"]])


def join(cutter: Cutter, node: Node, axis: int, parts: Sequence[Value]) -> Value:
    """Plain tensors one behind the other along ``axis``, each read through its view."""
    sizes = tuple(part.shape[axis] for part in parts)
    shape = tuple(sum(sizes) if d == axis else n for d, n in enumerate(parts[0].shape))
    sources = [part.walked for part in parts]
    return cutter.emit(
        "join", node, TensorSpec(shape, "plain"), sources, {"axis": axis, "sizes": sizes, **walks(parts)}
    )


@handles(aten.narrow.default)
def _narrow(cutter: Cutter, node: Node) -> None:
    value, named = cutter.value(node.args[0]), arguments(node)
    dim = named["dim"] % len(value.shape)
    cutter.show(node, value.sliced(dim, named["start"] % value.shape[dim], named["length"]))


@handles(aten.slice.Tensor)
def _slice(cutter: Cutter, node: Node) -> None:
    value, shape, named = cutter.value(node.args[0]), static_shape(node), arguments(node)
    if shape == value.shape:
        cutter.alias(node, value)
        return
    dim, size = named["dim"] % len(shape), value.shape[named["dim"]]
    start = min(max(named["start"] or 0, -size), size) % size if named["start"] else 0
    cutter.show(node, value.sliced(dim, start, shape[dim], named["step"]))


@handles(aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int)
def _split(cutter: Cutter, node: Node) -> None:
    value = cutter.value(node.args[0])
    dim, start, parts = arguments(node)["dim"] % len(value.shape), 0, []
    for part in node.meta["val"]:
        size = 1 if node.target is aten.unbind.int else part.shape[dim]
        parts.append(value.sliced(dim, start, size).reshaped(tuple(part.shape)))
        start += size
    cutter.yield_parts(node, parts)


@handles(operator.getitem)
def _part(cutter: Cutter, node: Node) -> None:
    source, index = node.args
    if (part := cutter.part(source, int(index))) is not None:  # type: ignore[arg-type]
        cutter.show(node, part)
    elif node.users:
        raise unsupported(node, f"no kernel computes part {index} of '{source}'", "use the first part alone")


@handles(aten.select.int)
def _select(cutter: Cutter, node: Node) -> None:
    value, named = cutter.value(node.args[0]), arguments(node)
    dim = named["dim"] % len(value.shape)
    cutter.show(node, value.sliced(dim, named["index"] % value.shape[dim], 1).reshaped(static_shape(node)))
