"""Values taken by number."""

from __future__ import annotations

import torch
from torch.fx import Node

from edgeprune.graph.aten.common import carried, drop, tensor
from edgeprune.graph.aten.table import handles, rule
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.nodes import arguments, static_shape, unsupported
from edgeprune.graph.spec import TensorSpec

aten = torch.ops.aten


@rule(aten.index_select.default)
def selection(flow: Flow, node: Node) -> None:
    """As :func:`indexing`, along one dimension."""
    a = arguments(node)
    axes = carried(flow, node.args[0])
    drop(flow, axes, a["dim"] % len(flow.shape(node)), "channels are selected by number")
    flow.produce(node, axes)


@rule(aten.index.Tensor)
def indexing(flow: Flow, node: Node) -> None:
    """Places come from a tensor of numbers; only indices on leading dimensions are followed."""
    source = tensor(node.args[0])
    indices = list(node.args[1])  # type: ignore[arg-type]
    used = [d for d, index in enumerate(indices) if index is not None]
    if len(used) != 1 or len(flow.shape(node)) != len(flow.shape(source)):
        raise Refused("several indices")
    axes = carried(flow, source)
    drop(flow, axes, used[0], "channels are selected by number")
    flow.produce(node, axes)


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
