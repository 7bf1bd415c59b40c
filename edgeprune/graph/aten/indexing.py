"""Values taken by number."""

from __future__ import annotations

import math

import torch
from torch.fx import Node

from edgeprune.graph.aten.common import carried, drop, tensor
from edgeprune.graph.aten.table import handles, rule
from edgeprune.graph.composed.composer import is_places
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.cutting.values import Value
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
    if len(x.shape) == 1:
        x, axis = cutter.row(node.args[0]), 1
    if numbers is not None and numbers.dtype == torch.bool:
        raise unsupported(node, "indexing by a mask", "index by numbers")
    if numbers is not None:
        places = cutter.constant(node, "places", (numbers.reshape(-1) % x.shape[axis]).float())
    else:
        places = _computed(cutter, index)
    taken = (*x.shape[:axis], math.prod(places.shape), *x.shape[axis + 1 :])
    cutter.emit("take", node, TensorSpec(taken, "plain"), [x, places], {"axis": axis}, seen=shape)


def _computed(cutter: Cutter, index: Node) -> Value:
    """Places in float32, in a row."""
    return cutter.row(index.args[0] if is_places(index) else index)


@handles(aten._to_copy.default)
def _places(cutter: Cutter, node: Node) -> None:
    """Nothing that runs: places stay numbers in float32, and who reads them knows."""
    if not is_places(node):
        raise unsupported(node, f"a tensor of {node.meta['val'].dtype}", "compute in float32")


@handles(aten.embedding.default)
def _embedding(cutter: Cutter, node: Node) -> None:
    """Rows of a table of parameters."""
    named = arguments(node)
    table, index = cutter.plain(named["weight"]), named["indices"]
    numbers = cutter.numbers(index)
    places = (
        _computed(cutter, index) if numbers is None else cutter.constant(node, "places", numbers.reshape(-1).float())
    )
    taken = TensorSpec((math.prod(places.shape), table.shape[1]), "plain")
    cutter.emit("take", node, taken, [table, places], {"axis": 0}, seen=static_shape(node), features=True)
