"""Axes merged, split and expanded."""

from __future__ import annotations

from math import prod

import torch
from torch.fx import Node

from edgeprune.graph import zeros
from edgeprune.graph.aten.common import carried, tensor, tied_runs, units
from edgeprune.graph.aten.shuffles import shuffle_result, shuffled
from edgeprune.graph.aten.table import handles, overloads, rule
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.cutting.values import Value
from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import Layout, joined, positions, widened
from edgeprune.graph.nodes import arguments, static_shape
from edgeprune.graph.sizes import Attribute, Origin, Read, Size, origins
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.walks import View

aten = torch.ops.aten


@rule(*overloads("flatten.using_ints ravel squeeze squeeze.dim squeeze.dims unsqueeze"), zero=zeros.first)
def reshaping(flow: Flow, node: Node) -> None:
    """Sizes follow from the operand's."""
    _reshaped(flow, node, [Origin.OPEN] * len(flow.shape(node)))


@rule(aten.view.default, aten._unsafe_view.default, aten.reshape.default, zero=zeros.first)
def view(flow: Flow, node: Node) -> None:
    _reshaped(flow, node, origins(node, node.args[1]))  # type: ignore[arg-type]


@rule(aten.unflatten.int, zero=zeros.first)
def unflatten(flow: Flow, node: Node) -> None:
    a = arguments(node)
    sizes: list[Size] = [Origin.OPEN] * len(flow.shape(tensor(a["self"])))
    dim = a["dim"] % len(sizes)
    sizes[dim : dim + 1] = origins(node, a["sizes"])
    _reshaped(flow, node, sizes)


def _reshaped(flow: Flow, node: Node, sizes: list[Size]) -> None:
    source = tensor(node.args[0])
    before, after = flow.shape(source), flow.shape(node)
    axes = carried(flow, source)
    out: dict[int, Layout] = {}
    sized: set[int] = set()
    for old, new in _matched_dims(before, after):
        olds, news = ([d for d in dims if shape[d] > 1] for dims, shape in ((old, before), (new, after)))
        if not olds:
            if new:
                out |= {new[min(old.index(d), len(new) - 1)]: axes[d] for d in old if d in axes}
            continue
        carriers = [d for d in olds if d in axes]
        if not carriers:
            continue
        if len(carriers) > 1 or min(len(olds), len(news)) > 1:
            raise Refused(f"reshapes channels {before} to {after}")
        layout = axes[carriers[0]]
        if len(news) == 1:
            at = olds.index(carriers[0])
            inner, outer = prod(before[d] for d in olds[at + 1 :]), prod(before[d] for d in olds[:at])
            out[news[0]] = joined([widened(layout, inner)] * outer)
        else:
            dim = _flexible(news, sizes, last=carriers[0] == len(before) - 1)
            end = shuffle_result(node, carriers[0]) if (carriers[0], dim) == (news[0], news[0] + 1) else None
            if dim is not None and end is not None:
                # Which channel of a group goes may differ by group, so the axes between have no layouts.
                group, mixed = shuffled(flow, end, layout, after[news[0]])
                flow.shuffled[end] = {carriers[0]: mixed}
                flow.sized(group, sizes[dim], whole=layout)
                sized.add(dim)
                continue
            if dim is None:
                flow.freeze_layout(layout, "split into sizes that are written in the network's code")
                continue
            outer = prod(after[d] for d in news if d < dim)
            inner = prod(after[d] for d in news if d > dim)
            out[dim] = units(flow, tied_runs(flow, layout, outer), inner)
            flow.sized(out[dim], sizes[dim], whole=layout)
            sized.add(dim)
    out |= flow.shuffled.get(node, {})
    for dim, size in enumerate(sizes):
        if dim not in sized:
            flow.sized(out.get(dim) if after[dim] > 1 else None, size)
    flow.produce(node, out)


def _flexible(dims: list[int], sizes: list[Size], *, last: bool) -> int | None:
    """Which of the parts of an axis gives way: one that is left open, else read, else an attribute.

    Of several, features are split into heads that go whole, channels into groups that stay.
    """
    for kind in (Origin, Read, Attribute):
        if found := [d for d in dims if isinstance(sizes[d], kind) and sizes[d] is not Origin.WRITTEN]:
            return found[0 if last else -1]
    return None


def _matched_dims(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of dimensions of both shapes that hold the same number of positions."""
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        old, new, p, q = [i], [j], before[i], after[j]
        i, j = i + 1, j + 1
        while p != q:
            if p < q:
                p, old, i = p * before[i], [*old, i], i + 1
            else:
                q, new, j = q * after[j], [*new, j], j + 1
        blocks.append((old, new))
    if blocks:
        blocks[-1][0].extend(range(i, len(before)))
        blocks[-1][1].extend(range(j, len(after)))
    return blocks


@rule(aten.expand.default, zero=zeros.widened)
def expansion(flow: Flow, node: Node) -> None:
    """An axis of size 1 that takes its size from channels carries these channels."""
    source = tensor(node.args[0])
    before, after = flow.shape(source), flow.shape(node)
    axes = carried(flow, source)
    more = len(after) - len(before)
    out: dict[int, Layout] = {}
    for dim, size in enumerate(origins(node, node.args[1])):  # type: ignore[arg-type]
        old = dim - more
        if old >= 0 and before[old] == after[dim]:
            if old in axes:
                out[dim] = axes[old]
        elif isinstance(size, Read) and len(size.axes) == 1:
            of, where = size.axes[0]
            if (layout := flow.tracked(of).get(where)) and positions(layout) == after[dim]:
                out[dim] = layout
        flow.sized(out.get(dim) if after[dim] > 1 else None, size)
    flow.produce(node, out)


@rule(aten.expand_as.default, zero=zeros.widened)
def expansion_as(flow: Flow, node: Node) -> None:
    source, other = tensor(node.args[0]), tensor(node.args[1])
    axes = carried(flow, other)
    more = len(flow.shape(node)) - len(flow.shape(source))
    for dim, size in enumerate(flow.shape(source)):
        if size > 1 and size == flow.shape(node)[dim + more]:
            if dim + more in axes:
                flow.bind(source, dim, axes[dim + more])
            elif dim in flow.tracked(source):
                axes[dim + more] = flow.axis(source, dim)
                flow.bind(other, dim + more, axes[dim + more])
    flow.produce(node, axes)


@handles(
    *overloads(
        """
        flatten.using_ints view reshape _unsafe_view squeeze.dim squeeze.dims squeeze unsqueeze unflatten.int view_as
        reshape_as
        """
    )
)
def _reshape(cutter: Cutter, node: Node) -> None:
    value, shape = cutter.value(node.args[0]), static_shape(node)
    if shape == value.shape:
        cutter.alias(node, value)
    elif (view := value.view.reshaped(shape)) is not None:
        cutter.show(node, value.seen(view))
    elif named := _kept_of_shuffle(cutter, node, value, shape):
        cutter.emit("channel_shuffle", node, TensorSpec(shape), [value], named)
    else:
        cutter.show(node, cutter.plain(node.args[0]).seen(View.identity(shape)))


def _kept_of_shuffle(cutter: Cutter, node: Node, value: Value, shape: tuple[int, ...]) -> dict[str, int]:
    """What a channel shuffle keeps while its channels are pruned, ``rows`` or ``columns``; empty if it is none.

    A shuffle sees the channels as rows, one behind the other, and transposes rows and columns.
    """
    if value.layout != "blocked" or shape != value.data.spec.shape or len(value.shape) != 5:
        return {}
    _, columns, rows, height, width = value.shape
    pixels = height * width
    steps = value.view.steps
    expected = (columns * rows * pixels, pixels, columns * pixels, width, 1)
    same = all(a == b or size == 1 for a, b, size in zip(steps, expected, value.shape, strict=True))
    if not same or shape[2:] != (height, width) or value.view.offset:
        return {}
    binding = cutter.analysis.axes.get(value.node.name)
    narrower = node.name in cutter.analysis.shuffles or (binding is not None and binding.groups)
    return {"rows": rows} if narrower else {"columns": columns}


@handles(aten.expand.default, aten.expand_as.default)
def _expand(cutter: Cutter, node: Node) -> None:
    cutter.show(node, cutter.value(node.args[0]).expanded(static_shape(node)))
