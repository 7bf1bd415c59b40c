"""Axes moved, and values repeated, reversed and rolled along them."""

from __future__ import annotations

import torch
from torch.fx import Node

from edgeprune.graph import zeros
from edgeprune.graph.aten.common import carried, drop, tensor
from edgeprune.graph.aten.joining import join
from edgeprune.graph.aten.table import handles, rule
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.cutting.values import Value
from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import joined, widened
from edgeprune.graph.nodes import arguments, detached, static_shape, unsupported
from edgeprune.graph.walks import View

aten = torch.ops.aten


@rule(aten.permute.default, zero=zeros.first)
def permute(flow: Flow, node: Node) -> None:
    rank = len(flow.shape(node))
    _moved(flow, node, [d % rank for d in arguments(node)["dims"]])


@rule(aten.transpose.int, aten.swapaxes.default, zero=zeros.first)
def transpose(flow: Flow, node: Node) -> None:
    order = list(range(len(flow.shape(node))))
    i, j = (int(d) for d in node.args[1:3])  # type: ignore[arg-type]
    order[i], order[j] = order[j], order[i]
    _moved(flow, node, order)


@rule(aten.mT.default, aten.t.default, aten.numpy_T.default, zero=zeros.first)
def matrix_transpose(flow: Flow, node: Node) -> None:
    *others, i, j = range(len(flow.shape(node)))
    if node.target is aten.numpy_T.default and others:
        raise Refused("all dimensions are reversed")
    _moved(flow, node, [*others, j, i])


@rule(aten.movedim.int, zero=zeros.first)
def movedim(flow: Flow, node: Node) -> None:
    rank = len(flow.shape(node))
    source, destination = (int(d) % rank for d in node.args[1:3])  # type: ignore[arg-type]
    order = [d for d in range(rank) if d != source]
    order.insert(destination, source)
    _moved(flow, node, order)


def _moved(flow: Flow, node: Node, order: list[int]) -> None:
    axes = carried(flow, node.args[0])
    flow.produce(node, {new: axes[old] for new, old in enumerate(order) if old in axes})


@rule(aten.repeat.default, aten.tile.default, zero=zeros.first)
def repetition(flow: Flow, node: Node) -> None:
    """All channels again and again: each copy of a channel is the same decision."""
    source = tensor(node.args[0])
    more = len(flow.shape(node)) - len(flow.shape(source))
    axes = carried(flow, source)
    out = {}
    for dim, layout in axes.items():
        out[dim + more] = joined([layout] * (flow.shape(node)[dim + more] // flow.shape(source)[dim]))
    flow.produce(node, out)


@rule(aten.repeat_interleave.self_int, zero=zeros.first)
def interleaved_repetition(flow: Flow, node: Node) -> None:
    a = arguments(node)
    axes = carried(flow, node.args[0])
    if a["dim"] is None:
        raise Refused("flattens what it repeats")
    dim = a["dim"] % len(flow.shape(node))
    if dim in axes:
        axes[dim] = widened(axes[dim], a["repeats"])
    flow.produce(node, axes)


@rule(aten.cumsum.default)
@rule(aten.flip.default, aten.roll.default, zero=zeros.first)
def along(flow: Flow, node: Node) -> None:
    """The place in the order matters: channels of these dimensions are frozen, the others pass."""
    a = arguments(node)
    rank = len(flow.shape(node))
    dims = next(a[name] for name in ("dim", "dims") if name in a)
    axes = carried(flow, node.args[0])
    for dim in [dims] if isinstance(dims, int) else dims or range(rank):
        drop(flow, axes, dim % rank, "the order of channels matters")
    flow.produce(node, axes)


@handles(aten.permute.default, aten.transpose.int, aten.t.default, aten.mT.default)
def _permute(cutter: Cutter, node: Node) -> None:
    value, named = cutter.value(node.args[0]), arguments(node)
    order = list(range(len(value.shape)))
    if node.target is aten.permute.default:
        order = [int(d) % len(order) for d in named["dims"]]
    else:
        first, second = (-2, -1) if node.target is aten.mT.default else (0, 1)
        i, j = (named.get(d, n) for d, n in (("dim0", first), ("dim1", second)))
        order[i], order[j] = order[j], order[i]
    cutter.show(node, value.permuted(order))


@handles(aten.movedim.int)
def _movedim(cutter: Cutter, node: Node) -> None:
    value, named = cutter.value(node.args[0]), arguments(node)
    order = list(range(len(value.shape)))
    order.insert(named["destination"] % len(order), order.pop(named["source"]))
    cutter.show(node, value.permuted(order))


@handles(aten.repeat.default)
def _repeat(cutter: Cutter, node: Node) -> None:
    """Every dimension once more beside itself: a view, and then a copy of what it shows."""
    value = cutter.row_major(node.args[0])
    counts = [int(n) for n in node.args[1]]  # type: ignore[union-attr, arg-type]
    shape = (1,) * (len(counts) - len(value.shape)) + value.shape
    pairs, wide = [n for s in shape for n in (1, s)], [n for c, s in zip(counts, shape, strict=True) for n in (c, s)]
    copy(cutter, node, value.reshaped(pairs).expanded(wide))


@handles(aten.repeat_interleave.self_int)
def _repeat_each(cutter: Cutter, node: Node) -> None:
    """Every position of one dimension, several times in a row."""
    named, shape = arguments(node), static_shape(node)
    if named["dim"] is None:
        raise unsupported(node, "values of the flattened tensor, repeated", "say which dimension is repeated")
    value = cutter.row_major(node.args[0])
    dim, count = named["dim"] % len(shape), named["repeats"]
    apart = value.reshaped((*value.shape[: dim + 1], 1, *value.shape[dim + 1 :]))
    copy(cutter, node, apart.expanded((*value.shape[: dim + 1], count, *value.shape[dim + 1 :])))


def copy(cutter: Cutter, node: Node, value: Value) -> None:
    """``node`` is what is seen, in another shape."""
    cutter.show(node, cutter.copied(value.at(node)).seen(View.identity(static_shape(node))))


@handles(aten.flip.default)
def _flip(cutter: Cutter, node: Node) -> None:
    value = cutter.value(node.args[0])
    for dim in arguments(node)["dims"]:
        size = value.shape[dim]
        value = value.sliced(dim % len(value.shape), size - 1, size, -1)
    cutter.show(node, value)


@handles(aten.roll.default)
def _roll(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    if not named["dims"]:
        raise unsupported(node, "a roll of the flattened tensor", "say which dimensions roll")
    value = cutter.row_major(node.args[0])
    turns = [(int(d) % len(value.shape), int(n)) for d, n in zip(named["dims"], named["shifts"], strict=True)]
    for i, (dim, shift) in enumerate(turns):
        size, last = value.shape[dim], i == len(turns) - 1
        turn, yielding = shift % size, node if last else detached(node, f"turn{i}")
        cuts = [(size - turn, turn), (0, size - turn)] if turn else [(0, size)]
        value = join(cutter, yielding, dim, [value.sliced(dim, *part) for part in cuts])
