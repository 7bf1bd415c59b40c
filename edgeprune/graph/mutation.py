"""In-place operators: may a traced graph be read as functions of values?

The exporter keeps in-place operators, and renames what was changed to their result. Another name of
the same memory, made by a view before the change, keeps its old node: in torch it shows the new
value, to a reader of the graph the old one.
"""

from __future__ import annotations

import operator

import torch
from torch._ops import OpOverload
from torch.fx import Graph, Node

aten = torch.ops.aten

# Operators whose result may share memory with their first operand though their schema does not say so.
VIEWS = frozenset(
    {
        aten._unsafe_view.default,
        aten.contiguous.default,
        aten.dropout.default,
        aten.feature_dropout.default,
        aten.flatten.using_ints,
        aten.reshape.default,
        aten.to.dtype,
        operator.getitem,  # one of the parts that chunk, split and unbind yield
    }
)


def stale_read(graph: Graph) -> tuple[Node, Node, Node] | None:
    """The first (in-place operator, name of what it changed, node that reads this name later), if any.

    Where there is none, every operator of the graph is a function of the values it names.
    """
    order = {node: i for i, node in enumerate(graph.nodes)}
    names: dict[Node, list[Node]] = {}  # node -> all nodes so far that share its memory, itself included
    for node in graph.nodes:
        in_place = _in_place(node)
        source = node.args[0] if in_place or _shows_its_operand(node) else None
        if not isinstance(source, Node):
            names[node] = [node]
            continue
        if in_place:
            for name in names[source]:
                for reader in name.users:
                    if order[reader] > order[node]:
                        return node, name, reader
        names[node] = names[source]
        names[node].append(node)
    return None


def _in_place(node: Node) -> bool:
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _shows_its_operand(node: Node) -> bool:
    if node.target in VIEWS:
        return True
    return isinstance(node.target, OpOverload) and any(r.alias_info for r in node.target._schema.returns)
