"""Which values are exactly zero at channels that a plan removes, in the masked network.

Masking sets parameters to zero, and a convolution then writes zeros. ReLU keeps them, sigmoid does not. It matters
only where channels are summed up (products of matrices, norms, sums): there a zero is what makes the masked network
equal to the one that lacks the channel. Each transfer rule says with one of the functions here when the result of its
operators is zero.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Graph, Node
from torch.utils._pytree import tree_leaves

from edgeprune.graph.aten.table import ZEROS, Zero


def zero_where_removed(graph: Graph) -> frozenset[Node]:
    """Nodes that hold zeros wherever a channel was removed.

    Parameters do, except running variances, which masking keeps. A change in place that writes
    something else may reach a value under another name: then nothing is claimed but of parameters.
    """
    parameters = frozenset(n for n in graph.nodes if n.op == "placeholder" and "running_var" not in n.name)
    zero = set(parameters)
    for node in graph.nodes:
        if node.op == "call_function":
            if node.target in ZEROS and ZEROS[node.target](node, zero):
                zero.add(node)
            elif isinstance(node.target, OpOverload) and node.target._schema.is_mutable:
                return parameters
    return frozenset(zero)


def first(node: Node, zero: Collection[Node]) -> bool:
    """Where the first operand is: f(0) = 0, or values that are moved."""
    return isinstance(node.args[0], Node) and node.args[0] in zero


def part(node: Node, zero: Collection[Node]) -> bool:
    """One of several tensors, where they are; numbers of places are none of channels."""
    return node.args[0] in zero and node.meta["val"].is_floating_point()


def every(node: Node, zero: Collection[Node]) -> bool:
    """Where all operands are."""
    numbers = any(isinstance(a, (int, float)) and a != 0 for a in node.args[:2] if not isinstance(a, bool))
    return not numbers and all(n in zero for n in node.all_input_nodes)


def some(node: Node, zero: Collection[Node]) -> bool:
    """Where one operand is."""
    return any(n in zero for n in node.all_input_nodes)


def fixed(node: Node, zero: Collection[Node]) -> bool:
    """Where the first operand is, if the numbers beside it leave a zero alone: those of ``clamp`` and ``pow``."""
    low, high = (*node.args[1:], None, None)[:2]
    if not first(node, zero):
        return False
    if node.target is torch.ops.aten.pow.Tensor_Scalar:
        return isinstance(low, (int, float)) and low > 0
    return (low is None or _at_most(low, 0)) and (high is None or _at_most(0, high))


def written(*weights: int) -> Zero:
    """Where these operands are (filters and bias), whatever is read."""
    return lambda node, zero: all(n in zero for i in weights for n in _nodes(node, i))


def normed(source: int, weight: int, bias: int) -> Zero:
    """Where weight and bias are, or without these where the input is; by their positions."""

    def found(node: Node, zero: Collection[Node]) -> bool:
        affine = [_nodes(node, i) for i in (weight, bias)]
        return all(n in zero for n in (chain(*affine) if affine[0] else _nodes(node, source)))

    return found


def _at_most(a: Any, b: Any) -> bool:
    return isinstance(a, (int, float)) and isinstance(b, (int, float)) and a <= b


def _nodes(node: Node, position: int) -> list[Node]:
    found = node.args[position : position + 1]
    return [n for n in tree_leaves(found) if isinstance(n, Node)]
