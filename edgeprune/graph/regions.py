"""Regions that a network's code marks and that compute what they would without the mark.

``with torch.no_grad():`` and ``with torch.autocast(..., enabled=False):`` come out of the exporter as one node that
calls a graph of its own. It is put in the node's place, so that nothing downstream knows of regions.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

_GRAD = torch.ops.higher_order.wrap_with_set_grad_enabled
_AUTOCAST = torch.ops.higher_order.wrap_with_autocast


def dissolve_regions(program: ExportedProgram) -> None:
    """Puts the nodes of each region where it is called, regions within regions included.

    A region of an autocast that is enabled for this processor computes in another type: it stays, and whoever meets it
    refuses it.
    """
    graph = program.graph
    renamed: dict[str, str] = {}
    while calls := [n for n in graph.nodes if _region(n) is not None]:
        for call in calls:  # asked anew: what a call reads may come from the one before
            inner, operands = _region(call)  # type: ignore[misc]
            renamed |= _inlined(program.graph_module, call, inner, operands)
    for old, new in renamed.items():
        program.graph_signature.replace_all_uses(old, new)
    if renamed:
        graph.eliminate_dead_code()
        program.graph_module.recompile()


def _region(node: Node) -> tuple[Node, tuple[Any, ...]] | None:
    """The node that names a region's graph, and what the region reads; None for all other nodes."""
    if node.op != "call_function":
        return None
    if node.target is _GRAD:
        return node.args[1], node.args[2:]  # type: ignore[return-value]
    if node.target is _AUTOCAST and not (node.args[0] == "cpu" and node.args[2]):
        return node.args[4], node.args[5:]  # type: ignore[return-value]
    return None


def _inlined(owner: GraphModule, call: Node, inner: Node, operands: tuple[Any, ...]) -> dict[str, str]:
    """One region put in place; names of nodes that others replace."""
    region = owner.get_submodule(str(inner.target))
    assert isinstance(region, GraphModule), region
    places = [n for n in region.graph.nodes if n.op == "placeholder"]
    with call.graph.inserting_before(call):
        values = dict(zip(places, operands, strict=True))
        for node in region.graph.nodes:
            if node.op == "get_attr":  # a region within this one
                name = f"{inner.target}_{node.target}".replace(".", "_")
                owner.add_module(name, region.get_submodule(str(node.target)))
                values[node] = call.graph.get_attr(name)
        results: Any = call.graph.graph_copy(region.graph, values)
    renamed = {}
    for use in list(call.users):
        assert use.target is operator.getitem, use
        result = results[use.args[1]]
        use.replace_all_uses_with(result)
        renamed[use.name] = result.name
        call.graph.erase_node(use)
    call.graph.erase_node(call)
    return renamed
