"""Which kernels may write their result over one of their inputs, so that the arena holds one tensor less.

A kernel's epilogue reads an operand (a residual) at the very place where it writes next, and an
elementwise kernel so reads its input. Such a tensor can give its place to the result if nobody reads
it again. The kernel is then built to read it from the output's buffer (``in_place`` of its schedule).
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeprune.compiler.kernels.base import Schedule
from edgeprune.graph.channels import KernelGraph, KernelNode
from edgeprune.graph.walks import identity

KEY = "in_place"


def overwritten(graph: KernelGraph) -> dict[int, int]:
    """Step -> index of the input that the output of that step takes the place of.

    Inputs and outputs of the network are the caller's, constants are for ever: they keep a place of their own.
    """
    last = {t: step for step, node in enumerate(graph.nodes) for t in node.inputs}
    kept = {p.tensor for p in (*graph.inputs, *graph.outputs)} | set(graph.constants)
    found = {}
    for step, node in enumerate(graph.nodes):
        free = [
            i
            for i in read_where_written(node)
            if last[node.inputs[i]] == step and node.inputs[i] not in kept and node.inputs.count(node.inputs[i]) == 1
        ]
        if free:
            found[step] = free[0]
    return found


def read_where_written(node: KernelNode) -> list[int]:
    """Inputs that a kernel reads at one place at a time, just before it writes there."""
    spec = node.spec
    first = 0 if spec.operator.overwrites else spec.anchor_inputs
    inputs = [i for i in range(first, len(spec.inputs)) if spec.inputs[i] == spec.output]
    if spec.operator.walked and spec.operator.overwrites:
        return [i for i in inputs if spec.walk(i) == identity(len(spec.output.shape))]
    return inputs


def places(graph: KernelGraph, over: Mapping[int, int]) -> dict[str, str]:
    """Tensor -> the tensor whose place it takes; those that take their own are left out."""
    place: dict[str, str] = {}
    for step, index in over.items():
        node = graph.nodes[step]
        place[node.output] = place.get(node.inputs[index], node.inputs[index])
    return place


def scheduled(schedule: Schedule, over: int | None) -> Schedule:
    """The schedule of a kernel that writes over its input ``over`` (None: over none)."""
    return schedule if over is None else {**schedule, KEY: over}
