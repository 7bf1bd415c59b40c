"""The kernels drafted so far, in running order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch.fx import Graph, Node

from edgeprune.graph.channels import WeightRef
from edgeprune.graph.cutting.values import Data, Draft, Value
from edgeprune.graph.ops.table import OPERATORS
from edgeprune.graph.spec import Attr, TensorSpec


class Drafts:
    """What was opened by operators of the network, and what was put between them.

    Attributes:
        order: running number of the node at hand.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._all: list[Draft] = []
        self._put: dict[str, Draft] = {}
        self.order = 0

    def sorted(self) -> list[Draft]:
        """In the order in which they run."""
        return sorted(self._all, key=lambda d: d.order)

    def open(self, op: str, node: Node, anchor: Node, spec: TensorSpec, sources: Iterable[Data]) -> Draft:
        """A kernel that yields what ``node`` does."""
        draft = Draft(op, node, anchor, spec, list(sources), order=self.order)
        self._all.append(draft)
        return draft

    def defer(self, draft: Draft) -> None:
        """What was begun earlier is finished now: it runs behind all that was drafted so far."""
        self._all.remove(draft)
        self._all.append(draft)
        draft.order = self.order

    def put(self, op: str, name: str, source: Value, spec: TensorSpec, **attrs: Attr) -> Draft:
        """A kernel that no operator of the network asked for; the one of this name, if there is one.

        Args:
            name: of what it yields.
        """
        if name in self._put:
            return self._put[name]
        # A detached fx node names its value. The name has a dot: no other node's has.
        node = Node(self._graph, name, "call_function", torch.ops.aten.clone.default, (), {})
        order = source.draft.order if source.draft else -1
        draft = Draft(op, node, source.node, spec, [source.data], attrs=attrs, closed=True, order=order)
        close(source)
        self._all.append(draft)
        self._put[name] = draft
        return draft


def close(value: Value) -> None:
    """Nothing may follow in the kernel that computes ``value``."""
    if value.draft:
        value.draft.closed = True


def joinable(value: Value, readers: int) -> Draft | None:
    """The draft behind ``value`` if its one reader may join the epilogue."""
    draft = value.draft
    if draft is None or draft.closed or draft.node is not value.node or not OPERATORS[draft.op].fuses:
        return None
    return draft if readers == 1 and value.in_order else None


def join(
    draft: Draft,
    node: Node,
    steps: Sequence[str],
    *,
    operands: Iterable[Data],
    walked: Iterable[Value],
    weights: WeightRef | None,
) -> None:
    """``node`` is the result of ``draft`` after ``steps``."""
    draft.operands.extend(operands)
    for value in walked:
        draft.attrs[f"walk{len(draft.sources) + len(draft.operands)}"] = value.view.walk.to_attr()
        draft.operands.append(value.walked)
    draft.epilogue.extend(steps)
    draft.weights = weights or draft.weights
    draft.node = node
