"""The cutter: what a handler may ask for and do while a traced network is walked through.

An anchor operator (convolution, dense, pooling, …) begins a kernel; batch norm, bias, activations and residual
additions that follow it, with no other reader in between, join its epilogue.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.fx import Node

from edgeprune.graph.analysis import Analysis
from edgeprune.graph.aten.table import ADVICE, HANDLERS
from edgeprune.graph.channels import WeightRef
from edgeprune.graph.computed import is_view
from edgeprune.graph.cutting.constants import Constants
from edgeprune.graph.cutting.drafts import Drafts, close, join, joinable
from edgeprune.graph.cutting.layouts import Layouts
from edgeprune.graph.cutting.values import Data, Draft, Value, as_picture
from edgeprune.graph.nodes import detached, unsupported
from edgeprune.graph.spec import Attr, TensorSpec
from edgeprune.graph.walks import View, kept_shape

NO_ATTRS: Mapping[str, Attr] = {}
LINES = frozenset({"elementwise", "layout", "strided", "take"})
"""Operators that say nothing of dimensions: they take tensors of less than two."""


class Cutter:
    """The values that nodes yield. Operands are given as fx nodes; refusals name the node at hand.

    Attributes:
        analysis: how channels hang together, for operators that are computed in more than one way.
    """

    def __init__(self, analysis: Analysis, constants: Constants, drafts: Drafts) -> None:
        self.analysis = analysis
        self._constants, self._drafts = constants, drafts
        self._layouts = Layouts(drafts, constants)
        self._values: dict[Node, Value] = {}
        self._parts: dict[Node, list[Value]] = {}
        self._reader: Node | None = None

    # -- walking --------------------------------------------------------------------------

    def give(self, node: Node, spec: TensorSpec, shape: tuple[int, ...]) -> None:
        """``node`` is an input of the network, of ``shape``; kernels read it as ``spec`` says."""
        value = Value.stored(node, Data(node, spec, node))
        self._values[node] = value.seen(View.whole(shape))

    def handle(self, node: Node) -> None:
        """Make kernels of ``node``.

        Raises:
            UnsupportedOperatorError: none computes it.
        """
        handler = HANDLERS.get(node.target)
        if handler is None:
            advice = ADVICE.get(node.target, "see docs/OPERATORS.md for the operators that do")
            raise unsupported(node, "no kernel computes it", advice)
        with self._reading(node):
            handler(self, node)
        draft = self._values[node].draft if node in self._values else None
        if draft is not None and draft.node is node:
            draft.order = self._drafts.order

    @contextmanager
    def _reading(self, node: Node) -> Iterator[None]:
        before, self._reader = self._reader, node
        try:
            yield
        finally:
            self._reader = before

    # -- what operands are ----------------------------------------------------------------

    def value(self, node: Any) -> Value:
        """What ``node`` yields, as it is kept and seen; constants are entered as they are asked for."""
        if isinstance(node, Node) and node not in self._values:
            if node in self._constants.recipes and is_view(node) and node.target in HANDLERS:
                self.handle(node)
            elif (constant := self._constants.value(node, self._reader or node)) is not None:
                self._values[node] = constant
        if not isinstance(node, Node) or node not in self._values:
            reader = self._reader or node
            raise unsupported(reader, f"its operand {node} is not a tensor", "pass a tensor of the network")
        return self._values[node]

    def operand(self, node: Any, rank: int) -> Value:
        """The operand; a constant of fewer dimensions than ``rank`` with those of size 1 that broadcasting adds."""
        value = self.value(node)
        if value.tensor not in self._constants or len(value.shape) >= rank:
            return value
        return value.reshaped((1,) * (rank - len(value.shape)) + value.shape)

    def row_major(self, node: Any) -> Value:
        """The operand in row-major order, seen through its view: for readers that can follow a walk."""
        return self._layouts.row_major(self.value(node))

    def plain(self, node: Any) -> Value:
        """The operand in row-major order, its data in the shape in which it is seen."""
        return self._layouts.plain(self.value(node))

    def row(self, node: Any) -> Value:
        """The operand in row-major order, its data in one row: (1, n)."""
        value = self._layouts.row_major(self.value(node))
        shape = (1, math.prod(value.shape))
        if (view := value.view.reshaped(shape)) is None:
            value = self._layouts.plain(value)
            view = View.whole(value.shape).reshaped(shape)
            assert view is not None  # of data in order
        return self._layouts.plain(value.seen(view))

    def image(self, node: Any, *, plain: bool = False) -> Value:
        """The operand, which has four dimensions, in blocked layout (or as it is, where ``plain`` will do)."""
        value = self.value(node)
        if len(value.shape) != 4:
            raise unsupported(self._reader or node, f"its operand {node} is not an image", "keep it (N, C, H, W)")
        return self.blocked(value, plain=plain)

    def picture(self, node: Any, *, plain: bool = False) -> Value:
        """The operand as the image that :func:`as_picture` makes of it, in blocked layout (or as it is)."""
        value = self.value(node)
        if len(value.shape) not in (2, 3, 5):
            return self.image(node, plain=plain)
        shape = as_picture(value.shape)
        if (view := value.view.reshaped(shape)) is None:  # slices that do not lie one behind the other
            value, view = self.plain(node), View.identity(shape)
        return self.blocked(value.seen(view), plain=plain)

    def blocked(self, value: Value, *, plain: bool = False, ends: bool = False) -> Value:
        """A value of four dimensions in blocked layout (or as it is, where ``plain`` will do).

        Args:
            ends: nothing may follow in the kernel that computes it.
        """
        value = self._layouts.blocked(value, plain=plain)
        if ends:
            close(value)
        return value

    def copied(self, value: Value, name: str = "") -> Value:
        """What a view shows, in row-major order; ``name`` tells it from other views of the same node."""
        return self._layouts.copied(value, name)

    def returned(self, node: Node, value: Value) -> Value:
        """A copy of what no kernel computes, for the network to return."""
        copy = detached(node, "returned")
        shape, seen = kept_shape(value.shape), value.shape
        view = value.view.reshaped(shape)
        source = self._layouts.plain(value if view is None else value.seen(view))
        self._drafts.order += 1
        return self.emit("elementwise", copy, TensorSpec(shape, "plain"), [source], seen=seen)

    def constant(self, node: Node, name: str, values: Tensor) -> Value:
        """A tensor that no node of the network stands for."""
        return self._constants.add(detached(node, name), values.numpy())

    def literal(self, node: Node) -> Tensor | None:
        """The values of what depends on the network's code alone, of any type; None for anything else."""
        return self._constants.literals.get(node.name)

    def numbers(self, node: Node) -> Tensor | None:
        """As :meth:`literal`, of what is made of parameters and buffers, too."""
        return self._constants.numbers(node)

    def weights(self, weight: Any, bias: Any) -> WeightRef:
        return WeightRef(self.parameter(weight), self.parameter(bias))

    def parameter(self, node: Any) -> str:
        """The name of a weight, empty for None."""
        return self._constants.parameter(node, self._reader or node)

    def computed(self, name: str, how: Callable[..., Tensor], *weights: Node) -> str:
        """The name of a weight that the compiler makes of others, which no node of the network stands for."""
        return self._constants.computed(name, how, weights, self._reader or weights[0])

    def is_parameter(self, node: Any) -> bool:
        """A parameter or buffer as it is, not computed from one."""
        return isinstance(node, Node) and node.name in self._constants.parameters

    def part(self, node: Node, index: int) -> Value | None:
        """One of the tensors that ``node`` yields; None for one that no kernel computes."""
        parts = self._parts.get(node, [])
        return parts[index] if index < len(parts) else None

    # -- what nodes yield -----------------------------------------------------------------

    def emit(
        self,
        op: str,
        node: Node,
        spec: TensorSpec,
        sources: Iterable[Data | Value],
        attrs: Mapping[str, Attr] = NO_ATTRS,
        *,
        operands: Iterable[Data | Value] = (),
        epilogue: Sequence[str] = (),
        weights: WeightRef | None = None,
        anchor: Node | None = None,
        seen: View | tuple[int, ...] | None = None,
        closed: bool = False,
        features: bool = False,
        axes: Mapping[str, tuple[str, int, int]] | None = None,
    ) -> Value:
        """Begin a kernel; ``node`` yields its result.

        Args:
            sources, operands: a value is read as it is kept.
            anchor: who names the kernel and knows how its channels are made up, if it is not ``node``.
            seen: how ``node`` sees the result, or in which shape.
            closed: no step may follow in the same kernel.
            features: channels are the last dimension.
            axes: as of :class:`Draft`.
        """
        if 0 in spec.shape:
            raise unsupported(node, "a tensor without elements", "leave it out of the network")
        sources = list(sources)
        for source in sources:
            if isinstance(source, Value) and len(source.shape) < 2 and op not in LINES:
                raise unsupported(node, f"a tensor of {len(source.shape)} dimensions", "give it a batch dimension")
        draft = self._drafts.open(op, node, anchor or node, spec, map(_data, sources))
        draft.operands.extend(map(_data, operands))
        draft.epilogue.extend(epilogue)
        draft.attrs |= attrs
        draft.weights, draft.closed, draft.features = weights or WeightRef(), closed, features
        draft.axes = axes or {}
        value = Value.stored(node, Data(draft, spec, draft.anchor))
        if seen is not None:
            value = value.seen(seen if isinstance(seen, View) else View.whole(seen))
        self._values[node] = value
        return value

    def joinable(self, value: Value) -> Draft | None:
        """The kernel that computes ``value``, if the node at hand may join its epilogue."""
        return joinable(value, len(value.node.users))

    def join(
        self,
        draft: Draft,
        node: Node,
        *steps: str,
        operands: Iterable[Data | Value] = (),
        walked: Iterable[Value] = (),
        weights: WeightRef | None = None,
        seen: tuple[int, ...] | None = None,
    ) -> Value:
        """``node`` is the draft's result after ``steps``, seen as its operand was (or in order, in a shape).

        Args:
            operands: read as they are kept.
            walked: read through their views, by a kernel that reads all its operands so.
        """
        before = self._values[draft.node]
        join(draft, node, steps, operands=map(_data, operands), walked=walked, weights=weights)
        self._drafts.defer(draft)  # its new operands may have been computed after it was begun
        axis = node if before.unviewed else before.data.axis
        value = Value(node, Data(draft, draft.spec, axis), before.view if seen is None else View.whole(seen))
        self._values[node] = value
        return value

    def alias(self, node: Node, source: Value, *, axis: Node | None = None) -> None:
        """``node`` is the same as ``source``; later operators may still join where it is the only reader.

        Args:
            axis: who knows how the channels are made up, if it is not ``node``.
        """
        draft = source.draft
        if draft and not draft.closed and draft.node is source.node:
            if not source.unviewed or len(source.node.users) != 1:
                draft.closed = True
            else:
                draft.node = node
        known = (axis or node) if source.unviewed else source.data.axis
        self._values[node] = Value(node, replace(source.data, axis=known), source.view)

    def show(self, node: Node, value: Value) -> None:
        """``node`` is data that exist, seen through the view of ``value``."""
        close(value)
        self._values[node] = value.at(node)

    def yield_parts(self, node: Node, parts: Iterable[Value]) -> None:
        """``node`` is several tensors."""
        self._parts[node] = list(parts)


def _data(operand: Data | Value) -> Data:
    return operand.data if isinstance(operand, Value) else operand
