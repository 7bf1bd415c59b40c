"""Operations on the layouts of channels that transfer rules of several families share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.fx import Node

from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import Layout, narrowed, positions, widened, window


def tensor(value: Any) -> Node:
    if not isinstance(value, Node):
        raise Refused("an operand is not a tensor of the network")
    return value


def carried(flow: Flow, value: Any) -> dict[int, Layout]:
    """Layouts of an operand; a parameter's are made first, so that work on it is followed too."""
    source = tensor(value)
    if flow.parameter(source):
        for dim, size in enumerate(flow.shape(source)):
            if size > 1:
                flow.axis(source, dim)
    return flow.tracked(source)


def only_axis(flow: Flow, source: Node, dim: int) -> Layout:
    """Layout of ``dim``; channels that stand elsewhere (the nodes of a learned graph) stay, and are not followed."""
    for other, layout in flow.tracked(source).items():
        if other != dim and not flow.space.is_frozen(layout):
            flow.freeze_layout(layout, f"channels stand in another dimension than {dim}")
    return flow.axis(source, dim)


def drop(flow: Flow, axes: dict[int, Layout], dim: int, reason: str) -> None:
    """Freeze one dimension's channels and stop following them."""
    if dim in axes:
        flow.freeze_layout(axes.pop(dim), reason)


def equal_parts(layout: Layout, n: int) -> list[Layout]:
    """``layout`` in ``n`` equal parts."""
    size = positions(layout) // n
    found = [window(layout, i * size, (i + 1) * size) for i in range(n)]
    if any(part is None for part in found):
        raise Refused("the end of a part falls inside a flattened channel")
    return [part for part in found if part is not None]


def tied_runs(flow: Flow, layout: Layout, n: int) -> Layout:
    """Channel i of each of ``n`` equal parts is one decision, which keeps the parts equal in size."""
    try:
        first, *others = equal_parts(layout, n)
    except Refused:
        if layout in flow.shuffles:
            flow.found_runs[flow.shuffles[layout].name] = n
        raise
    for run in others:
        flow.equate(first, run)
    return first


def equal_runs(flow: Flow, layout: Layout, n: int) -> None:
    """Each of ``n`` equal parts keeps as many channels as the others, whichever these are."""
    first, *others = equal_parts(layout, n)
    for run in others:
        flow.counted(first, run)


def units(flow: Flow, layout: Layout, size: int) -> Layout:
    """The layout of an axis that has one position for every ``size`` neighbours: decided together."""
    found = narrowed(layout, size)
    if found is None:
        assert flow.node is not None
        found = flow.space.source(flow.node.name, positions(layout) // size)
        flow.equate(layout, widened(found, size))
    return found


def aligned(flow: Flow, node: Node, operands: Iterable[Any], *, ignore: int = 0) -> dict[int, Layout]:
    """Layouts of a broadcast: operands meet at the last dimension, one of size 1 follows the others.

    Args:
        ignore: so many of the last dimensions do not meet.
    """
    shape = flow.shape(node)
    nodes = [n for n in operands if isinstance(n, Node)]
    axes: dict[int, Layout] = {}
    for dim, size in enumerate(shape[: len(shape) - ignore]):
        here = [(n, d) for n in nodes if (d := dim - len(shape) + len(flow.shape(n))) >= 0 and flow.shape(n)[d] == size]
        leader = next(((n, d) for n, d in here if d in flow.tracked(n)), None)
        if leader is None and size > 1:
            leader = next(((n, d) for n, d in here if flow.parameter(n)), None)
        if leader is None:
            continue
        axes[dim] = flow.axis(*leader)
        for n, d in here:
            if (n, d) != leader:
                flow.bind(n, d, axes[dim])
    return axes
