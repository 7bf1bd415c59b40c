"""Many values to one, and operators along one dimension."""

from __future__ import annotations

import torch
from torch.fx import Node

from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import Layout
from edgeprune.graph.nodes import arguments
from edgeprune.graph.rules.common import carried, drop, tensor, tied_blocks
from edgeprune.graph.rules.table import rule

aten = torch.ops.aten
_SUMS = (aten.sum.dim_IntList, aten.sum.default, aten.linalg_vector_norm.default)


@rule(
    *_SUMS,
    aten.mean.dim,
    aten.mean.default,
    aten.amax.default,
    aten.amin.default,
    aten.max.default,
    aten.min.default,
    aten.var.dim,
    aten.var.correction,
    aten.std.dim,
    aten.std.correction,
    aten.prod.dim_int,
    aten.prod.default,
    aten.logsumexp.default,
    aten.argmax.default,
    aten.argmin.default,
    aten.any.dim,
    aten.any.default,
    aten.all.dim,
    aten.all.default,
)
def reduction(flow: Flow, node: Node) -> None:
    """A sum (or a norm) over channels is right where removed ones are zero; a mean counts them."""
    flow.produce(node, _reduced(flow, node))


@rule(aten.max.dim, aten.min.dim, aten.var_mean.dim, aten.var_mean.correction, aten.median.dim)
def pair_of_reductions(flow: Flow, node: Node) -> None:
    axes = _reduced(flow, node)
    flow.produce_tuple(node, [dict(axes), dict(axes)])


def _reduced(flow: Flow, node: Node) -> dict[int, Layout]:
    a = arguments(node)
    source = tensor(node.args[0])
    rank = len(flow.shape(source))
    dims = a.get("dim")
    # An empty list means all dimensions, as does none.
    gone = {d % rank for d in ([dims] if isinstance(dims, int) else dims or range(rank))} if rank else set()
    axes = carried(flow, source)
    for dim in gone & set(axes):
        if node.target in _SUMS and a.get("ord", 2) > 0:
            flow.summed(axes.pop(dim), source)
        else:
            drop(flow, axes, dim, "reduced over channels")
    shift = {d: d if a.get("keepdim") else d - sum(g < d for g in gone) for d in axes}
    return {shift[d]: layout for d, layout in axes.items()}


@rule(aten.softmax.int, aten.log_softmax.int)
def softmax(flow: Flow, node: Node) -> None:
    """A removed channel would still take its share of the sum in the masked network."""
    axes = carried(flow, node.args[0])
    dim = arguments(node)["dim"] % len(flow.shape(node))
    if dim in axes:
        flow.freeze_layout(axes[dim], "softmax over channels")
    flow.produce(node, axes)


@rule(aten.cumsum.default, aten.flip.default, aten.roll.default)
def along(flow: Flow, node: Node) -> None:
    """The place in the order matters: channels of these dimensions are frozen, the others pass."""
    a = arguments(node)
    rank = len(flow.shape(node))
    dims = next(a[name] for name in ("dim", "dims") if name in a)
    axes = carried(flow, node.args[0])
    for dim in [dims] if isinstance(dims, int) else dims or range(rank):
        drop(flow, axes, dim % rank, "the order of channels matters")
    flow.produce(node, axes)


@rule(aten.sort.default, aten.topk.default)
def sorting(flow: Flow, node: Node) -> None:
    axes = carried(flow, node.args[0])
    drop(flow, axes, arguments(node)["dim"] % len(flow.shape(tensor(node.args[0]))), "sorted over channels")
    flow.produce_tuple(node, [dict(axes), dict(axes)])


@rule(aten.glu.default)
def gated(flow: Flow, node: Node) -> None:
    """The first half of the channels times the sigmoid of the second: halves are tied."""
    source = tensor(node.args[0])
    axes = carried(flow, source)
    dim = arguments(node)["dim"] % len(flow.shape(source))
    if flow.shape(source)[dim] % 2:
        raise Refused("an odd number of channels has no halves")
    if dim in axes:
        axes[dim] = tied_blocks(flow, axes[dim], 2)
    flow.produce(node, axes)
