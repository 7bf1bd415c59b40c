"""Width groups: the walk over a traced program that yields its channel graph."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn
from torch.export import ExportedProgram
from torch.fx import Node

from edgeprune.graph.analysis import Analysis
from edgeprune.graph.aten.families import RULES
from edgeprune.graph.blocks import find_blocks
from edgeprune.graph.channels import Activation, AxisBinding, ChannelGraph, CodeSize, WidthGroup
from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import Layout, Partition
from edgeprune.graph.nodes import describe, inside, shape_of
from edgeprune.graph.trace import user_inputs, user_outputs

# Layers of torch that compare their input with sizes of their own before they compute.
OPAQUE = (nn.MultiheadAttention,)


def analyse(program: ExportedProgram) -> Analysis:
    """Read the width groups off a traced program (:func:`edgeprune.graph.trace.trace`).

    Method: transfer rules per ATen operator, union-find over channel intervals. Channels of the
    network's inputs and outputs are frozen, and so is all that an operator without a rule touches;
    each group carries the reason.
    """
    calls = [n for n in program.graph.nodes if n.op == "call_function"]
    flow = _passes(program, calls)
    partition = flow.space.solve(flow.layouts())
    members = flow.members(partition)
    activations = _activations(flow, partition, calls)
    groups = tuple(
        WidthGroup(c.name, c.size, tuple(owned), c.frozen, tuple(seen))
        for c, owned, seen in zip(partition.classes, members, activations, strict=True)
    )

    def binding(layout: Layout) -> AxisBinding:
        return AxisBinding(tuple(groups[i].name for i, repeat in partition.pieces(layout) for _ in range(repeat)))

    def axis(node: Node, dim: int, size: int) -> AxisBinding:
        layout = flow.tracked(node).get(dim)
        return AxisBinding((), base=size) if layout is None else binding(layout)

    axes: dict[str, AxisBinding] = {}
    features: dict[str, AxisBinding] = {}
    for node in (*user_inputs(program), *calls):
        shape = shape_of(node)
        if shape is not None and len(shape) > 1:
            axes[node.name] = axis(node, 1, shape[1])
            features[node.name] = axis(node, len(shape) - 1, shape[-1])
    frozen = {g.name for g in groups if g.frozen}
    sizes = tuple(CodeSize(a, binding(layout)) for a, layout in flow.attributes())
    carried = {n: [set(binding(x).groups) for x in flow.tracked(n).values()] for n in calls}
    blocks = find_blocks(calls, user_inputs(program), user_outputs(program), carried, groups)
    return Analysis(
        ChannelGraph(groups, tuple(s for s in sizes if not frozen.issuperset(s.axis.groups)), blocks),
        axes,
        features,
        frozenset(n.name for n in flow.shuffled),
    )


def _activations(flow: Flow, partition: Partition, calls: list[Node]) -> list[list[Activation]]:
    """For each class of ``partition``: where layers with weights read it or, if none does, where it is last seen."""
    found: list[list[Activation]] = [[] for _ in partition.classes]

    def see(node: Node, dim: int, wanted: Collection[int]) -> None:
        start = 0
        for index, repeat in partition.pieces(flow.tracked(node).get(dim, ())):
            if index in wanted:
                found[index].append(Activation(node.name, dim, start, repeat))
            start += partition.classes[index].size * repeat

    for node, dim in flow.reads:
        if not flow.parameter(node):
            see(node, dim, range(len(found)))
    unread = {index for index, seen in enumerate(found) if not seen}
    for node in reversed(calls):
        for dim in flow.tracked(node) if unread and not flow.parameter(node) else ():
            see(node, dim, unread)
        unread = {index for index in unread if not found[index]}
    return found


def _passes(program: ExportedProgram, calls: list[Node]) -> Flow:
    """Once, and again where a shuffle's result turned out to be cut into blocks that its units do not fit."""
    known: dict[str, int] = {}
    while True:
        flow = Flow(program, known)
        for node in user_inputs(program):
            if len(flow.shape(node)) > 1:
                flow.fresh_frozen(node, f"graph input '{node.name}'")
        for node in calls:
            if 0 not in (shape_of(node) or ()):  # what a block that went whole left behind
                _transfer(flow, node)
                flow.zeros.see(node)
        for node in user_outputs(program):
            flow.freeze(node, f"graph output '{node.name}'")
        if known.keys() >= flow.found_runs.keys():
            break
        known = {**flow.found_runs, **known}
    flow.settle()
    return flow


def _transfer(flow: Flow, node: Node) -> None:
    flow.node = node
    transfer = RULES.get(node.target)
    if inside(node, *OPAQUE):
        flow.freeze_around(node, f"channels are not followed through {describe(node)}")
        return
    if transfer is None:
        flow.freeze_around(node, f"no transfer rule for {describe(node)}")
        return
    try:
        transfer(flow, node)
    except Refused as why:
        flow.freeze_around(node, f"{why}: {describe(node)}")
