"""The composer: writes the simple operators that stand in for a composed one into a traced graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.fx.node import map_arg

from edgeprune.graph.mutation import stale_read
from edgeprune.graph.nodes import shape_of
from edgeprune.graph.tables import filling

aten = torch.ops.aten

Composition = Callable[["Composer", Node], Node | Sequence[Node] | None]
"""The node that yields the operator's value (or those of each of its values), None to leave the operator as it is."""

COMPOSED: dict[Any, Composition] = {}
"""ATen overload -> how it is written with others."""


composes = filling(COMPOSED, "composition")
"""Enter a composition for overloads."""


class Composer:
    """Makes nodes in front of the one that is being composed; they say of themselves what that one said: module, line.

    Attributes:
        constants: nodes that depend on no input of the network: on parameters and literals alone.
        numbers: nodes that yielded truth values, and yield the numbers 0 and 1 now.
    """

    def __init__(self, graph: Graph, constants: set[Node]) -> None:
        self.constants = constants
        self.numbers: set[Node] = set()
        self._graph = graph
        self._node: Node | None = None
        self._made: list[Node] = []

    def compose(self, node: Node, composition: Composition) -> bool:
        """Have ``node`` written with other operators, if they can stand in for it here; whether it is still there."""
        self._node, self._made = node, []
        with self._graph.inserting_before(node):
            made = composition(self, node)
        if made is None:
            for begun in reversed(self._made):
                self.constants.discard(begun)
                self._graph.erase_node(begun)
        elif isinstance(made, Node):
            self._become(node, made)
        else:
            for part in [u for u in node.users if u.target is operator.getitem]:
                if part.users:
                    self._become(part, made[part.args[1]])  # type: ignore[index]
                else:
                    self._graph.erase_node(part)
            self._graph.erase_node(node)
            return False
        return True

    def __call__(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """A node for ``target``, an ATen overload."""
        assert self._node is not None
        made = self._graph.call_function(target, args, kwargs)
        made.meta = {k: v for k, v in self._node.meta.items() if k != "val"}
        given, named = map_arg((args, kwargs), lambda n: n.meta["val"])
        with torch.no_grad(), self._faking():
            made.meta["val"] = target(*given, **named)
        if all(n in self.constants for n in made.all_input_nodes):
            self.constants.add(made)
        self._made.append(made)
        return made

    def follow(self, node: Node) -> None:
        """An operator that only looks at truth values looks at numbers now."""
        value = node.meta.get("val")
        if self.numbers.isdisjoint(node.all_input_nodes) or not isinstance(value, Tensor) or value.dtype != torch.bool:
            return
        given, named = map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
        self._node = node
        with torch.no_grad(), self._faking():
            node.meta["val"] = node.target(*given, **named)  # type: ignore[operator]
        if node.meta["val"].dtype != torch.bool:
            self._now_numbers(node)

    def _now_numbers(self, node: Node) -> None:
        self.numbers.add(node)
        # The exporter noted the type that it saw.
        for checked in [u for u in node.users if u.target is aten._assert_tensor_metadata.default]:
            self._graph.erase_node(checked)

    def _faking(self) -> Any:
        """Shapes are computed, not values: in the mode that the exporter did it in."""
        value = self._node.meta.get("val") if self._node is not None else None
        first = value[0] if isinstance(value, (tuple, list)) else value
        return getattr(first, "fake_mode", None) or nullcontext()

    def _become(self, node: Node, made: Node) -> None:
        """``node``, which keeps its name and its readers, computes what ``made`` does."""
        if made.users or made.op != "call_function":
            node.target, node.args, node.kwargs = aten.alias.default, (made,), {}
        else:
            node.target, node.args, node.kwargs = made.target, made.args, made.kwargs
        if node.meta["val"].dtype != made.meta["val"].dtype:
            self._now_numbers(node)
        node.meta["val"] = made.meta["val"]
        if node.target is not aten.alias.default:
            self.constants.discard(made)
            self._graph.erase_node(made)


def compose(graph: Graph, fixed: Collection[str]) -> bool:
    """Write every composed operator of a traced graph with simpler ones; whether there was any.

    Args:
        fixed: names of the placeholders that no caller fills: parameters, buffers, constants.
    """
    composer = Composer(graph, {n for n in graph.find_nodes(op="placeholder") if n.name in fixed})
    in_place, found = stale_read(graph) is None, False
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        target = node.target
        composition = COMPOSED.get(target)
        if composition is not None and not in_place and target._schema.is_mutable:
            composition = None
        if composition is not None and not composer.compose(node, composition):
            found = True
            continue
        composer.follow(node)
        found = found or node.target is not target
        if all(n in composer.constants for n in node.all_input_nodes):
            composer.constants.add(node)
    return found


def rank(node: Node) -> int:
    """Dimensions of what a node yields."""
    return len(size(node))


def size(node: Node) -> tuple[int, ...]:
    """Its shape."""
    shape = shape_of(node)
    assert shape is not None  # of a tensor
    return shape


def is_float(node: Any) -> bool:
    value = node.meta.get("val") if isinstance(node, Node) else None
    return isinstance(value, Tensor) and value.dtype == torch.float32
