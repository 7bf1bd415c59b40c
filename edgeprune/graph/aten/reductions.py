"""Many values to one, and operators along one dimension: pooling where it is the pixels of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph import zeros
from edgeprune.graph.aten.common import carried, drop, tensor, tied_runs
from edgeprune.graph.aten.pointwise import step
from edgeprune.graph.aten.table import ADVICE, handles, overloads, rule
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.cutting.values import are_images, as_picture
from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import Layout
from edgeprune.graph.nodes import arguments, detached, static_shape, unsupported
from edgeprune.graph.spec import TensorSpec

aten = torch.ops.aten


_SUMS = (aten.sum.dim_IntList, aten.sum.default, aten.linalg_vector_norm.default)


@rule(*_SUMS, aten.mean.dim, aten.mean.default, aten.amax.default, aten.amin.default, zero=zeros.first)
@rule(
    *overloads(
        """
        max min var.dim var.correction std.dim std.correction prod.dim_int prod logsumexp argmax argmin any.dim any
        all.dim all
        """
    )
)
def reduction(flow: Flow, node: Node) -> None:
    """A sum (or a norm) over channels is right where removed ones are zero; a mean counts them."""
    flow.produce(node, _reduced(flow, node))


ADVICE |= dict.fromkeys(
    overloads("argmax argmin topk sort argsort"),
    "return the scores, and look for the largest where they arrive: which of two nearly equal ones comes first is "
    "decided by their last digits, which differ from board to board",
)


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
            flow.summed(axes.pop(dim), (source, dim))
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


@rule(aten.sort.default, aten.topk.default)
def sorting(flow: Flow, node: Node) -> None:
    axes = carried(flow, node.args[0])
    drop(flow, axes, arguments(node)["dim"] % len(flow.shape(tensor(node.args[0]))), "sorted over channels")
    flow.produce_tuple(node, [dict(axes), dict(axes)])


@rule(aten.glu.default, zero=zeros.first)
def gated(flow: Flow, node: Node) -> None:
    """The first half of the channels times the sigmoid of the second: halves are tied."""
    source = tensor(node.args[0])
    axes = carried(flow, source)
    dim = arguments(node)["dim"] % len(flow.shape(source))
    if flow.shape(source)[dim] % 2:
        raise Refused("an odd number of channels has no halves")
    if dim in axes:
        axes[dim] = tied_runs(flow, axes[dim], 2)
    flow.produce(node, axes)


@handles(aten.mean.dim, aten.mean.default)
def _mean(cutter: Cutter, node: Node) -> None:
    _reduce(cutter, node, "sum", _dims(node), static_shape(node), mean=True)


@handles(aten.sum.dim_IntList, aten.sum.default)
def _sum(cutter: Cutter, node: Node) -> None:
    _reduce(cutter, node, "sum", _dims(node), static_shape(node))


@handles(aten.amax.default)
def _largest(cutter: Cutter, node: Node) -> None:
    _reduce(cutter, node, "max", _dims(node), static_shape(node))


@handles(aten.amin.default)
def _smallest(cutter: Cutter, node: Node) -> None:
    _reduce(cutter, node, "min", _dims(node), static_shape(node))


@handles(aten.max.dim, aten.min.dim)
def _extreme(cutter: Cutter, node: Node) -> None:
    """The values; whoever asks for the places is refused."""
    kind, result = ("max" if node.target is aten.max.dim else "min"), tuple(node.meta["val"][0].shape)
    inner = detached(node, "values")
    _reduce(cutter, inner, kind, [arguments(node)["dim"]], result, operand=node.args[0])
    cutter.yield_parts(node, [cutter.value(inner)])


def _dims(node: Node) -> list[int]:
    operand = node.args[0]
    dims = arguments(node).get("dim")
    return list(dims) if dims else list(range(len(static_shape(operand))))  # type: ignore[arg-type]


def _reduce(
    cutter: Cutter,
    node: Node,
    kind: str,
    dims: Sequence[int],
    result: tuple[int, ...],
    *,
    mean: bool = False,
    operand: Any = None,
) -> None:
    source = node.args[0] if operand is None else operand
    before = cutter.value(source)
    dims = sorted({int(d) % len(before.shape) for d in dims})
    kept = tuple(1 if d in dims else n for d, n in enumerate(before.shape))
    if dims == list(range(2, len(kept))) and kind != "min" and are_images([before.image]):
        op = "global_max_pool" if kind == "max" else "global_avg_pool"
        steps = [step("times", math.prod(before.shape[2:]))] if kind == "sum" and not mean else []
        spec, sources = TensorSpec(as_picture(kept)), [cutter.blocked(before.image)]
        cutter.emit(op, node, spec, sources, epilogue=steps, seen=result)
        return
    if len(kept) < 2:
        raise unsupported(node, "a reduction of a single dimension", "give the tensor a batch dimension")
    steps = [step("times", 1 / math.prod(before.shape[d] for d in dims))] if mean else []
    spec, sources = TensorSpec(kept, "plain"), [cutter.plain(source)]
    cutter.emit("reduce", node, spec, sources, {"kind": kind, "dims": tuple(dims)}, epilogue=steps, seen=result)


@handles(aten.softmax.int, aten.log_softmax.int)
def _softmax(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    if named["dtype"] not in (None, torch.float32):
        raise unsupported(node, "a softmax in another type", "compute it in float32")
    axis, log = named["dim"] % len(shape), node.target is aten.log_softmax.int
    cutter.emit("softmax", node, TensorSpec(shape, "plain"), [cutter.plain(node.args[0])], {"axis": axis, "log": log})
