"""Which values are exactly zero at channels that a plan removes, in the masked network.

Masking sets parameters to zero, and a convolution then writes zeros. ReLU keeps them, sigmoid does not. It matters
only where channels are summed up (products of matrices, norms, sums): there a zero is what makes the masked network
equal to the one that lacks the channel. Each transfer rule says with one of the functions here when the result of its
operators is zero, and along which of its channels that is not known: a linear layer writes zeros for the features that
it lacks, and its bias for tokens that its input lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Node
from torch.utils._pytree import tree_leaves

from edgeprune.graph.aten.table import ZEROS, Zero
from edgeprune.graph.intervals import Layout
from edgeprune.graph.nodes import arguments, shape_of

Holes = frozenset[int]
"""Sources of channels (:class:`~edgeprune.graph.intervals.Segment`) along which a value may be other than zero."""

_WRITES_NOTHING = (torch.ops.aten.detach_.default,)
NONE: Holes = frozenset()


class Zeros:
    """The nodes of a graph that hold zeros where channels were removed, as far as the graph was walked through.

    Args:
        parameters: names of placeholders that are masked: those of parameters and buffers. Running variances are not.
        tracked: the layouts of a node's channels, by dimension.
    """

    def __init__(self, parameters: Iterable[str], tracked: Callable[[Node], Mapping[int, Layout]]) -> None:
        self._parameters = {name for name in parameters if "running_var" not in name}
        self._holes: dict[Node, Holes] = {}
        self._lost = False
        self.tracked = tracked

    def see(self, node: Node) -> None:
        """A node that was reached, in running order.

        A change in place that writes something else may reach a value under another name: from then on nothing is
        claimed but of parameters.
        """
        if self._lost:
            return
        holes = ZEROS[node.target](node, self) if node.target in ZEROS else None
        if holes is not None:
            self._holes[node] = holes
        elif _writes(node.target):
            self._holes.clear()
            self._lost = True

    def holes(self, node: Any) -> Holes | None:
        """Channels along which a node may be other than zero; None for one of which nothing is known."""
        if not isinstance(node, Node):
            return None
        return NONE if node.name in self._parameters else self._holes.get(node)

    def along(self, node: Node, dim: int) -> bool:
        """Whether a node is zero where channels of one of its dimensions were removed."""
        holes = self.holes(node)
        return holes is not None and holes.isdisjoint(_sources(self.tracked(node).get(dim, ())))

    def but(self, node: Node, known: Callable[[int], bool]) -> Holes:
        """All channels of a result but those in dimensions of which it is known."""
        layouts = self.tracked(node).items()
        return frozenset(chain.from_iterable(_sources(layout) for dim, layout in layouts if not known(dim)))


def first(node: Node, zeros: Zeros) -> Holes | None:
    """Where the first operand is: f(0) = 0, or values that are moved."""
    operand = node.args[0]
    holes = zeros.holes(operand)
    if not holes:
        return holes
    # What channels became that the operand has not, nobody knows.
    before = {s for layout in zeros.tracked(operand).values() for s in _sources(layout)}  # type: ignore[arg-type]
    after = {s for layout in zeros.tracked(node).values() for s in _sources(layout)}
    return holes | (after - before)


def widened(node: Node, zeros: Zeros) -> Holes | None:
    """As :func:`first`, if no value of the operand is repeated along channels."""
    holes = first(node, zeros)
    return None if holes is None else holes | zeros.but(node, lambda d: _spans(node.args[0], node, d))  # type: ignore[arg-type]


def part(node: Node, zeros: Zeros) -> Holes | None:
    """One of several tensors, where they are; indices are no values of channels."""
    return zeros.holes(node.args[0]) if node.meta["val"].is_floating_point() else None


def joined(node: Node, zeros: Zeros) -> Holes | None:
    """Where all operands are, side by side."""
    found = [zeros.holes(n) for n in node.all_input_nodes]
    if None in found:
        return None
    return zeros.but(node, lambda d: False) if any(found) else NONE


def every(node: Node, zeros: Zeros) -> Holes | None:
    """Sums and extremes: where all operands are. One that is repeated along channels is not."""
    numbers = any(isinstance(a, (int, float)) and a != 0 for a in node.args[:2])
    operands = node.all_input_nodes
    if numbers or any(zeros.holes(n) is None for n in operands):
        return None
    return zeros.but(node, lambda d: all(_carries(n, node, d, zeros) for n in operands))


def some(node: Node, zeros: Zeros) -> Holes | None:
    """Products: where one operand is, that is not repeated along channels."""
    operands = [n for n in node.all_input_nodes if zeros.holes(n) is not None]
    return zeros.but(node, lambda d: any(_carries(n, node, d, zeros) for n in operands)) if operands else None


def product(node: Node, zeros: Zeros) -> Holes | None:
    """A product of matrices: rows are zero where the left one is, columns where the right one is."""
    left, right = node.all_input_nodes[0], node.all_input_nodes[-1]
    rank = len(shape_of(node) or ())

    def known(dim: int) -> bool:
        if dim < rank - 2:
            return any(_carries(n, node, dim, zeros) for n in (left, right))
        deciding = left if dim == rank - 2 else right
        return zeros.along(deciding, dim - rank + len(shape_of(deciding) or ()))

    return zeros.but(node, known)


def contraction(node: Node, zeros: Zeros) -> Holes | None:
    """A sum of products by letters: where an operand is that has the letter of the channels."""
    equation, operands = str(node.args[0]).replace(" ", ""), list(node.args[1])  # type: ignore[arg-type]
    terms, _, result = equation.partition("->")
    named = list(zip(terms.split(","), operands, strict=False))

    def known(dim: int) -> bool:
        letter = result[dim : dim + 1]
        return bool(letter) and any(letter in term and zeros.along(n, term.index(letter)) for term, n in named)

    return zeros.but(node, known)


def fixed(node: Node, zeros: Zeros) -> Holes | None:
    """Where the first operand is, if the numbers beside it leave a zero alone: those of ``clamp`` and ``pow``."""
    named = arguments(node)
    if node.target is torch.ops.aten.pow.Tensor_Scalar:
        kept = isinstance(named["exponent"], (int, float)) and named["exponent"] > 0
    else:
        low, high = (named.get(f"{end}_val", named.get(end)) for end in ("min", "max"))
        kept = (low is None or _at_most(low, 0)) and (high is None or _at_most(0, high))
    return first(node, zeros) if kept else None


def written(*weights: int, axis: int) -> Zero:
    """Where these operands are (filters and bias), whatever is read: along the layer's own ``axis`` alone."""

    def found(node: Node, zeros: Zeros) -> Holes | None:
        if any(zeros.holes(n) is None for i in weights for n in _nodes(node, i)):
            return None
        own = axis % max(len(shape_of(node) or ()), 1)
        return zeros.but(node, lambda d: d == own)

    return found


def normed(source: int, weight: int, bias: int) -> Zero:
    """Where weight and bias are, or without these where the input is; by their positions."""

    def found(node: Node, zeros: Zeros) -> Holes | None:
        affine = _nodes(node, weight), _nodes(node, bias)
        if not affine[0]:
            return first(node, zeros) if all(zeros.holes(n) is not None for n in _nodes(node, source)) else None
        if any(zeros.holes(n) is None for n in chain(*affine)):
            return None
        return zeros.but(node, lambda d: d == 1)

    return found


def _writes(target: Any) -> bool:
    return isinstance(target, OpOverload) and target._schema.is_mutable and target not in _WRITES_NOTHING


def _sources(layout: Layout) -> set[int]:
    return {segment.source for segment in layout}


def _carries(operand: Node, node: Node, dim: int, zeros: Zeros) -> bool:
    """Whether an operand that is broadcast is zero along a dimension of the result of ``node``."""
    more = len(shape_of(node) or ()) - len(shape_of(operand) or ())
    return _spans(operand, node, dim) and zeros.along(operand, dim - more)


def _spans(operand: Node, node: Node, dim: int) -> bool:
    """Whether an operand that is broadcast to the result of ``node`` has a value of its own for each channel."""
    own, whole = shape_of(operand) or (), shape_of(node) or ()
    at = dim - len(whole) + len(own)
    return at >= 0 and own[at] == whole[dim]


def _at_most(a: Any, b: Any) -> bool:
    return isinstance(a, (int, float)) and isinstance(b, (int, float)) and a <= b


def _nodes(node: Node, position: int) -> list[Node]:
    found = node.args[position : position + 1]
    return [n for n in tree_leaves(found) if isinstance(n, Node)]
