"""Values that depend on parameters and literals alone: the compiler computes them, not the board.

A branch without channels adds such a value, a table of position biases read at fixed indices is one, and so is a
weight that the network's code standardises. They are kept as recipes, not as numbers: parameters may be trained
after the network was read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node
from torch.fx.node import map_arg

from edgeprune.graph.nodes import shape_of


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Computed:
    """How to compute one tensor.

    Attributes:
        parameters: node name -> qualified name, of what is read.
        literals: node name -> values written in the network's code.
        steps: in running order; the last one yields the result.
        shape: of the result as it is kept; 1 along dimensions where it holds the same everywhere, whatever the
            parameters hold.
    """

    parameters: Mapping[str, str]
    literals: Mapping[str, Tensor]
    steps: tuple[_Step, ...]
    shape: tuple[int, ...]

    def values(self, state: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The tensor, shape :attr:`shape`, from parameters and buffers by qualified name."""
        # Copies: steps may be operators in place.
        given = {node: torch.from_numpy(np.array(state[name])) for node, name in self.parameters.items()}
        result = self.run(given)
        for dim, size in enumerate(self.shape):
            result = result.narrow(dim, 0, size)
        return np.ascontiguousarray(result.numpy())

    def run(self, given: Mapping[str, Tensor]) -> Tensor:
        """The whole tensor; ``given`` by node name, may be overwritten."""
        known: dict[str, Any] = dict(given) | {name: t.clone() for name, t in self.literals.items()}
        with torch.no_grad():
            for step in self.steps:
                args, kwargs = map_arg((step.args, dict(step.kwargs)), lambda n: known[n.name])
                known[step.name] = step.target(*args, **kwargs)
        result: Tensor = known[self.steps[-1].name]
        return result.contiguous()


def made_of(
    name: str, how: Callable[..., Tensor], parameters: Mapping[Node, str], state: Mapping[str, Tensor]
) -> Computed:
    """``how`` of parameters; ``parameters``: their nodes and qualified names, ``state``: their values by the latter."""
    names = {node.name: qualified for node, qualified in parameters.items()}
    with torch.no_grad():
        shape = tuple(how(*(state[qualified] for qualified in names.values())).shape)
    return Computed(names, {}, (_Step(name, how, tuple(parameters), {}),), shape)


def is_view(node: Node) -> bool:
    """Whether ``node`` is a view of its operand."""
    schema = getattr(node.target, "_schema", None)
    returned = schema.returns[0].alias_info if schema and len(schema.returns) == 1 else None
    return returned is not None and not returned.is_write


class Recipes:
    """The nodes of a graph that depend on parameters and literals alone.

    Args:
        parameters: placeholder node name -> qualified name.
        state: qualified name -> values.
        literals: node name -> values written in the network's code; may grow.
    """

    def __init__(
        self, parameters: Mapping[str, str], state: Mapping[str, Tensor], literals: Mapping[str, Tensor]
    ) -> None:
        self._parameters, self._state, self._literals = parameters, state, literals
        self._nodes: set[Node] = set()

    def __contains__(self, node: object) -> bool:
        return node in self._nodes

    def add(self, node: Node) -> bool:
        """Take ``node`` in if it is such a node; nodes come in running order. What is drawn at random is none."""
        known = all(
            n in self._nodes or n.name in self._parameters or n.name in self._literals for n in node.all_input_nodes
        )
        if not known or not isinstance(node.target, OpOverload) or shape_of(node) is None:
            return False
        if torch.Tag.nondeterministic_seeded in node.target.tags:
            return False
        self._nodes.add(node)
        return True

    def recipe(self, node: Node, *, compact: bool = False) -> Computed:
        """How to compute ``node``.

        Args:
            compact: keep a vector where each index of one dimension (a channel) holds one value everywhere.
        """
        steps: list[Node] = []
        read: dict[str, Node] = {}
        written: dict[str, Tensor] = {}

        def visit(n: Node) -> None:
            if n.name in self._literals:
                written[n.name] = self._literals[n.name]
            elif n not in self._nodes:
                read[n.name] = n
            elif n not in steps:
                for source in n.all_input_nodes:
                    visit(source)
                steps.append(n)

        visit(node)
        names = {name: self._parameters[name] for name in read}
        made = tuple(_Step(n.name, n.target, n.args, n.kwargs) for n in steps)  # type: ignore[arg-type]
        shape = shape_of(node) or ()
        recipe = Computed(names, written, made, shape)
        if not compact:
            return recipe
        # What is the same everywhere for parameters drawn at random is so for any.
        generator = torch.Generator().manual_seed(0)
        result = recipe.run({node: _drawn(self._state[name], generator) for node, name in names.items()})
        kept = list(shape)
        for dim in range(1, len(shape)):
            if result.numel() and torch.allclose(result, result.narrow(dim, 0, 1), rtol=1e-6, atol=0):
                kept[dim] = 1
        return replace(recipe, shape=tuple(kept)) if sum(n > 1 for n in kept[1:]) < 2 else recipe


def _drawn(like: Tensor, generator: torch.Generator) -> Tensor:
    if not like.dtype.is_floating_point:  # indices, which are not trained
        return like.clone()
    return torch.rand(like.shape, generator=generator).add(0.5).to(like.dtype)
