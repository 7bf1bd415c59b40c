"""What the board does not compute: parameters, numbers that the network's code holds, and what is made of both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg

from edgeprune.graph.aten.table import overloads
from edgeprune.graph.channels import WeightRef
from edgeprune.graph.computed import Computed, Recipes, made_of
from edgeprune.graph.cutting.values import Data, Value
from edgeprune.graph.nodes import shape_of, static_shape, unsupported
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.trace import parameter_names

_ELEMENTWISE = overloads("add.Tensor add_.Tensor sub.Tensor sub_.Tensor mul.Tensor mul_.Tensor div.Tensor div_.Tensor")


class Constants:
    """The constants of a program, entered as they are asked for.

    Attributes:
        literals: node name -> values of any type that depend on nothing but the network's code.
    """

    def __init__(self, program: ExportedProgram) -> None:
        self.parameters: Mapping[str, str] = parameter_names(program)
        self._state: Mapping[str, Tensor] = {**program.constants, **program.state_dict}
        lifted = program.graph_signature.inputs_to_lifted_tensor_constants
        self.literals: dict[str, Tensor] = {name: program.constants[at] for name, at in lifted.items()}
        self.recipes = Recipes(self.parameters, self._state, self.literals)
        self._taken: set[Node] = set()
        self._held: dict[str, str | NDArray[np.float32]] = {}
        self._specs: dict[str, TensorSpec] = {}
        self._computed: dict[str, Computed] = {}

    def takes(self, node: Node) -> bool:
        """Whether ``node`` depends on literals and parameters alone; nodes come in running order."""
        found = self._literal(node) or self.recipes.add(node)
        if found:
            self._taken.add(node)
        return found

    def _literal(self, node: Node) -> bool:
        """Compute a node that depends on nothing but literals; whether it was one. What is drawn at random is none."""
        value = node.meta.get("val")
        if all(
            isinstance(t, Tensor) and not t.numel() for t in (value if isinstance(value, tuple | list) else [value])
        ):
            # What holds nothing depends on nothing.
            if isinstance(value, Tensor):
                self.literals[node.name] = torch.zeros(value.shape, dtype=value.dtype)
            return True
        if not all(n.name in self.literals for n in node.all_input_nodes) or not isinstance(node.target, OpOverload):
            return False
        if torch.Tag.nondeterministic_seeded in node.target.tags:
            return False
        given, named = map_arg((node.args, node.kwargs), lambda n: self.literals[n.name])
        result = node.target(*given, **{k: v for k, v in named.items() if k != "pin_memory"})
        if not isinstance(result, Tensor):
            return False
        self.literals[node.name] = result.contiguous()
        return True

    def value(self, node: Node, reader: Node) -> Value | None:
        """What ``node`` yields, if it is a constant in float32.

        Raises:
            UnsupportedOperatorError: a constant that ``reader`` cannot take.
        """
        if node.name in self.literals:
            literal = self.literals[node.name]
            floats = literal.dtype == torch.float32
            return self.add(node, literal.contiguous().numpy()) if floats else None
        if node in self.recipes:
            return self._made(node, reader)
        if node.name in self.parameters:
            name = self.parameters[node.name]
            if node.meta["val"].dtype != torch.float32:
                raise unsupported(reader, f"'{name}' is not in float32", "convert it once and for all")
            return self._hold(node, name, TensorSpec(static_shape(node), "plain"))
        return None

    def _made(self, node: Node, reader: Node) -> Value:
        if node.meta["val"].dtype != torch.float32:
            raise unsupported(reader, f"its operand {node} is not in float32", "compute it in float32")
        recipe = self.recipes.recipe(node, compact=True)
        self._computed[name := f"%{node.name}"] = recipe
        value = self._hold(node, name, TensorSpec(recipe.shape, "plain"))
        # Sums and products read one value a channel beside an image; others see it everywhere.
        if all(u.target in _ELEMENTWISE and shape_of(u) == shape_of(node) for u in node.users):
            return value
        return value.expanded(static_shape(node))

    def add(self, node: Node, values: NDArray[Any]) -> Value:
        """A tensor of the program, named by ``node``."""
        kept = np.ascontiguousarray(values, np.float32)
        return self._hold(node, kept, TensorSpec(values.shape, "plain"))

    def image(self, value: Value) -> Value:
        """A constant that is seen in order, kept in blocked layout from the start."""
        name = f"{value.tensor}.{'x'.join(map(str, value.shape))}"
        node = Node(value.node.graph, name, "call_function", torch.ops.aten.clone.default, (), {})
        return self._hold(node, self._held[value.tensor], TensorSpec(value.shape))

    def __contains__(self, tensor: str) -> bool:
        return tensor in self._held

    def _hold(self, node: Node, what: str | NDArray[np.float32], spec: TensorSpec) -> Value:
        self._held[node.name], self._specs[node.name] = what, spec
        return Value.stored(node, Data(node, spec, node))

    def numbers(self, node: Node) -> Tensor | None:
        """The values of what is made of literals and buffers alone, of any type; None for anything else."""
        if node.name in self.literals:
            return self.literals[node.name]
        if node.name in self.parameters:
            return self._state.get(self.parameters[node.name])
        if node not in self._taken:
            return None
        known = {n: self.numbers(n) for n in node.all_input_nodes}
        if not known or not isinstance(node.target, OpOverload) or any(v is None for v in known.values()):
            return None
        given, named = map_arg((node.args, node.kwargs), lambda n: known[n])
        found: Tensor = node.target(*given, **named)
        return found

    def parameter(self, node: Any, reader: Node) -> str:
        """The name of a weight, or of its recipe; empty for None.

        Raises:
            UnsupportedOperatorError: it is computed from the network's input.
        """
        if node is None:
            return ""
        name = self.parameters.get(node.name, "") if isinstance(node, Node) else ""
        if node in self.recipes:
            self._computed[name := f"%{node.name}"] = self.recipes.recipe(node)
        if not name:
            raise unsupported(reader, f"its weight {node} is computed, not a parameter", "fold it into a parameter")
        return name

    def computed(self, name: str, how: Callable[..., Tensor], weights: Sequence[Node], reader: Node) -> str:
        """The name of what ``how`` makes of parameters.

        Raises:
            UnsupportedOperatorError: one of them is computed itself.
        """
        for weight in weights:
            if weight.name not in self.parameters:
                raise unsupported(
                    reader, f"its weight {weight} is computed, not a parameter", "fold it into a parameter"
                )
        self._computed[own := f"%{name}"] = made_of(
            name, how, {w: self.parameters[w.name] for w in weights}, self._state
        )
        return own

    def named(self, tensor: str) -> bool:
        """Whether it is a parameter or buffer as it is, or is made of them."""
        return isinstance(self._held.get(tensor), str)

    def said(self, tensor: str) -> str:
        """What such a constant is, for messages."""
        return f"'{self._held[tensor]}', a parameter or buffer of its own"

    def read(self, tensors: set[str]) -> tuple[dict[str, str | NDArray[np.float32]], dict[str, TensorSpec]]:
        """Those among ``tensors``: what they hold, and how it is kept."""
        held = {name: what for name, what in self._held.items() if name in tensors}
        return held, {name: self._specs[name] for name in held}

    def recipes_of(self, names: Iterable[str], weights: Iterable[WeightRef]) -> dict[str, Computed]:
        """Those among the names of constants and weights that are computed, and how."""
        used = {*names}.union(*((w.weight, w.bias, *(w.norm or ())) for w in weights))
        return {name: recipe for name, recipe in self._computed.items() if name in used}
