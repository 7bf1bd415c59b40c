"""The composer: writes the simple operators that stand in for a composed one into a traced graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.fx.node import map_arg

from edgeprune.graph.mutation import stale_read
from edgeprune.graph.nodes import COMPOSES, shape_of
from edgeprune.graph.tables import filling

aten = torch.ops.aten

Composition = Callable[["Composer", Node], Node | Sequence[Node] | None]
"""The node that yields the operator's value (or those of each of its values), None to leave the operator as it is."""

COMPOSED: dict[Any, Composition] = {}
"""ATen overload -> how it is written with others."""

WHOLE = frozenset({torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})
MIXED = frozenset(
    getattr(getattr(aten, name), kind)
    for names, kind in (
        ("add sub mul div eq ne lt le gt ge remainder fmod", "Tensor"),
        ("atan2 floor_divide maximum minimum logical_and logical_or logical_xor cat stack", "default"),
        ("div", "Tensor_mode"),
        ("pow", "Tensor_Tensor"),
        ("where", "self"),
        ("where", "ScalarSelf"),
        ("where", "ScalarOther"),
    )
    for name in names.split()
)
"""Overloads whose operands may be constants of other types beside numbers that were integers."""
LOOKS = frozenset(
    getattr(getattr(aten, name), kind)
    for names, kind in (
        ("alias clone contiguous detach detach_ expand lift_fresh_copy reshape unsqueeze view", "default"),
        ("squeeze", "dim"),
    )
    for name in names.split()
)
"""Overloads that show the same values in another shape."""
PLACED = frozenset(
    {
        aten.index_select.default,
        aten.index.Tensor,
        aten.embedding.default,
        aten.gather.default,
        aten.scatter.src,
        aten.scatter.value,
        aten.scatter_reduce.two,
        aten.scatter_add.default,
    }
)
"""Overloads with places among their operands: torch takes no numbers in float32 for these, a kernel does."""


composes = filling(COMPOSED, "composition")
"""Enter a composition for overloads."""


class Composer:
    """Makes nodes in front of the one that is being composed; they say of themselves what that one said: module, line.

    A program computes with float32 alone. So truth values and integers that depend on an input of the network become
    numbers of that type: 0 and 1, and whole numbers, exact up to 2^24.

    Attributes:
        constants: nodes that depend on no input of the network: on parameters and literals alone.
        numbers: nodes that yielded truth values or integers, and yield float32 now -> the type that it was.
    """

    def __init__(self, graph: Graph, constants: set[Node], values: Mapping[str, Tensor | None]) -> None:
        self.constants = constants
        self.numbers: dict[Node, torch.dtype] = {}
        self._values = values
        self._graph = graph
        self._node: Node | None = None
        self._made: list[Node] = []

    def known(self, node: Node) -> Tensor | None:
        """What a buffer or a literal holds, also where it is only looked at in another shape; None: anything else."""
        while node.op == "call_function" and node.target in LOOKS and node in self.constants:
            node = node.all_input_nodes[0]
        return self._values.get(node.name)

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
        made = self._made_of(self._node, target, args, kwargs)
        given, named = map_arg((args, kwargs), lambda n: n.meta["val"])
        with torch.no_grad(), self._faking():
            made.meta["val"] = target(*given, **named)
        if all(n in self.constants for n in made.all_input_nodes):
            self.constants.add(made)
        self._made.append(made)
        return made

    def places(self, index: Node) -> Node:
        """Places as numbers in float32, whatever they are now."""
        if index in self.constants:
            return self(aten._to_copy.default, index, dtype=torch.float32)
        return index.args[0] if is_places(index) else index  # type: ignore[return-value]

    def _made_of(self, node: Node, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Node:
        made = self._graph.call_function(target, args, kwargs)
        made.meta = {COMPOSES: str(node.target)} | {k: v for k, v in node.meta.items() if k != "val"}
        return made

    def enter(self, node: Node) -> None:
        """An input of the network: a program takes numbers in float32."""
        self._follow(node)

    def prepare(self, node: Node) -> None:
        """Constants of other types beside numbers become float32, too."""
        computed = [n for n in node.all_input_nodes if n not in self.constants]
        if not computed:
            return
        self._node = node
        if node.target in PLACED:
            for index in [n for n in computed if n in self.numbers and n is not node.args[0]]:
                with self._graph.inserting_before(node):
                    node.replace_input_with(index, self(aten._to_copy.default, index, dtype=torch.int64))
        if node.target not in MIXED:
            return
        for constant in set(node.all_input_nodes) - set(computed):
            value = constant.meta.get("val")
            if isinstance(value, Tensor) and value.dtype in WHOLE:
                with self._graph.inserting_before(node):
                    node.replace_input_with(constant, self(aten._to_copy.default, constant, dtype=torch.float32))

    def tidy(self, inputs: Sequence[Node]) -> None:
        """Places that were made for a node which reads numbers by now."""
        for index in inputs:
            if is_places(index) and not index.users:
                self._graph.erase_node(index)

    def follow(self, node: Node) -> None:
        """What depends on an input of the network and yields truth values or integers yields numbers now."""
        if not all(n in self.constants for n in node.all_input_nodes):
            self._follow(node)

    def _follow(self, node: Node) -> None:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and value.dtype in WHOLE:
            self._now_numbers(node, value.dtype)
            node.meta["val"] = self._in_float32(node, value)
        elif isinstance(value, tuple | list):
            parts = [self._in_float32(node, v) if isinstance(v, Tensor) and v.dtype in WHOLE else v for v in value]
            node.meta["val"] = type(value)(parts)

    def _in_float32(self, node: Node, value: Tensor) -> Tensor:
        self._node = node
        with torch.no_grad(), self._faking():
            return torch.empty(value.shape, dtype=torch.float32, device=value.device)

    def _now_numbers(self, node: Node, dtype: torch.dtype) -> None:
        self.numbers[node] = dtype
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
        node.meta.setdefault(COMPOSES, str(node.target))
        if made.users or made.op != "call_function":
            node.target, node.args, node.kwargs = aten.alias.default, (made,), {}
        else:
            node.target, node.args, node.kwargs = made.target, made.args, made.kwargs
        if node.meta["val"].dtype != made.meta["val"].dtype:
            self._now_numbers(node, node.meta["val"].dtype)
        node.meta["val"] = made.meta["val"]
        if node.target is not aten.alias.default:
            self.constants.discard(made)
            self._graph.erase_node(made)


def compose(graph: Graph, fixed: Mapping[str, Tensor | None]) -> bool:
    """Write every composed operator of a traced graph with simpler ones; whether there was any.

    Args:
        fixed: names of the placeholders that no caller fills -> what buffers and literals hold, None for parameters.
    """
    placeholders = graph.find_nodes(op="placeholder")
    composer = Composer(graph, {n for n in placeholders if n.name in fixed}, fixed)
    for node in placeholders:
        if node.name not in fixed:
            composer.enter(node)
    in_place, found = stale_read(graph) is None, False
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        target = node.target
        composition = COMPOSED.get(target)
        if composition is not None and not in_place and target._schema.is_mutable:
            composition = None
        composer.prepare(node)
        inputs = node.all_input_nodes
        if composition is not None and not composer.compose(node, composition):
            node = None
        composer.tidy(inputs)
        if node is None:
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


def is_places(node: Any) -> bool:
    """Numbers in float32, made places for an operator that takes integers alone."""
    if (
        not isinstance(node, Node)
        or node.target is not aten._to_copy.default
        or node.kwargs.get("dtype") != torch.int64
    ):
        return False
    return is_float(node.args[0])


def is_float(node: Any) -> bool:
    value = node.meta.get("val") if isinstance(node, Node) else None
    return isinstance(value, Tensor) and value.dtype == torch.float32
