"""Which values are exactly zero at channels that a plan removes, in the masked network.

Masking sets parameters to zero, and a convolution then writes zeros. ReLU keeps them, sigmoid does not. It matters
only where channels are summed up (products of matrices, norms, sums): there a zero is what makes the masked network
equal to the one that lacks the channel. Each transfer rule says with one of the functions here when the result of its
operators is zero, given the nodes that are and the dimensions in which the result has channels.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Node
from torch.utils._pytree import tree_leaves

from edgeprune.graph.aten.table import ZEROS, Zero
from edgeprune.graph.nodes import arguments, shape_of

_WRITES_NOTHING = (torch.ops.aten.detach_.default,)


class Zeros:
    """The nodes of a graph that hold zeros wherever a channel was removed, as far as the graph was walked through.

    Args:
        parameters: names of placeholders that are masked: those of parameters and buffers. Running variances are not.
    """

    def __init__(self, parameters: Collection[str]) -> None:
        self._parameters = {name for name in parameters if "running_var" not in name}
        self._nodes: set[Node] = set()
        self._lost = False

    def __contains__(self, node: object) -> bool:
        return isinstance(node, Node) and (node.name in self._parameters or node in self._nodes)

    def see(self, node: Node, dims: Collection[int]) -> None:
        """A node that was reached, in running order; ``dims``: those of its result that have channels.

        A change in place that writes something else may reach a value under another name: from then on nothing is
        claimed but of parameters.
        """
        if self._lost:
            return
        if node.target in ZEROS and ZEROS[node.target](node, self, dims):
            self._nodes.add(node)
        elif (
            isinstance(node.target, OpOverload)
            and node.target._schema.is_mutable
            and node.target not in _WRITES_NOTHING
        ):
            self._nodes.clear()
            self._lost = True


def first(node: Node, zero: Any, dims: Collection[int]) -> bool:
    """Where the first operand is: f(0) = 0, or values that are moved."""
    return isinstance(node.args[0], Node) and node.args[0] in zero


def widened(node: Node, zero: Any, dims: Collection[int]) -> bool:
    """As :func:`first`, if no value of the operand is repeated along channels."""
    return first(node, zero, dims) and _spans(node.args[0], node, dims)  # type: ignore[arg-type]


def part(node: Node, zero: Any, dims: Collection[int]) -> bool:
    """One of several tensors, where they are; indices are no values of channels."""
    return node.args[0] in zero and node.meta["val"].is_floating_point()


def joined(node: Node, zero: Any, dims: Collection[int]) -> bool:
    """Where all operands are, side by side."""
    return all(n in zero for n in node.all_input_nodes)


def every(node: Node, zero: Any, dims: Collection[int]) -> bool:
    """Sums and extremes: where all operands are. One that is repeated along channels is not."""
    numbers = any(isinstance(a, (int, float)) and a != 0 for a in node.args[:2])
    return not numbers and all(n in zero and _spans(n, node, dims) for n in node.all_input_nodes)


def some(node: Node, zero: Any, dims: Collection[int]) -> bool:
    """Products: where one operand is, that is not repeated along channels."""
    return any(n in zero and _spans(n, node, dims) for n in node.all_input_nodes)


def product(node: Node, zero: Any, dims: Collection[int]) -> bool:
    """A product of matrices: rows are zero where the left one is, columns where the right one is."""
    left, right = node.all_input_nodes[0], node.all_input_nodes[-1]
    rank = len(shape_of(node) or ())
    deciding = {rank - 2: (left,), rank - 1: (right,)}
    return all(any(n in zero for n in deciding.get(d, (left, right))) for d in dims) and (left in zero or right in zero)


def contraction(node: Node, zero: Any, dims: Collection[int]) -> bool:
    """A sum of products by letters: where an operand is that has the letter of the channels."""
    equation, operands = str(node.args[0]).replace(" ", ""), list(node.args[1])  # type: ignore[arg-type]
    terms, _, result = equation.partition("->")
    zeros = [term for term, n in zip(terms.split(","), operands, strict=False) if n in zero]
    return bool(zeros) and all(d < len(result) and any(result[d] in term for term in zeros) for d in dims)


def fixed(node: Node, zero: Any, dims: Collection[int]) -> bool:
    """Where the first operand is, if the numbers beside it leave a zero alone: those of ``clamp`` and ``pow``."""
    if not first(node, zero, dims):
        return False
    named = arguments(node)
    if node.target is torch.ops.aten.pow.Tensor_Scalar:
        return isinstance(named["exponent"], (int, float)) and named["exponent"] > 0
    low, high = (named.get(f"{end}_val", named.get(end)) for end in ("min", "max"))
    return (low is None or _at_most(low, 0)) and (high is None or _at_most(0, high))


def written(*weights: int, axis: int) -> Zero:
    """Where these operands are (filters and bias), whatever is read: channels of the layer's own ``axis`` alone."""

    def found(node: Node, zero: Any, dims: Collection[int]) -> bool:
        rank = len(shape_of(node) or ())
        return {d - rank if axis < 0 else d for d in dims} <= {axis} and all(
            n in zero for i in weights for n in _nodes(node, i)
        )

    return found


def normed(source: int, weight: int, bias: int) -> Zero:
    """Where weight and bias are, or without these where the input is; by their positions."""

    def found(node: Node, zero: Any, dims: Collection[int]) -> bool:
        affine = [_nodes(node, i) for i in (weight, bias)]
        if not affine[0]:
            return all(n in zero for n in _nodes(node, source))
        return set(dims) <= {1} and all(n in zero for n in chain(*affine))

    return found


def _spans(operand: Node, node: Node, dims: Collection[int]) -> bool:
    """Whether an operand that is broadcast to the result of ``node`` has a value of its own for each channel."""
    own, whole = shape_of(operand) or (), shape_of(node) or ()
    more = len(whole) - len(own)
    return all(d >= more and own[d - more] == whole[d] for d in dims)


def _at_most(a: Any, b: Any) -> bool:
    return isinstance(a, (int, float)) and isinstance(b, (int, float)) and a <= b


def _nodes(node: Node, position: int) -> list[Node]:
    found = node.args[position : position + 1]
    return [n for n in tree_leaves(found) if isinstance(n, Node)]
