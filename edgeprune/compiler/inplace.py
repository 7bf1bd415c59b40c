"""Which kernels may write their result over one of their inputs, so that the arena holds one tensor less.

A kernel's epilogue reads an operand (a residual) at the very place where it writes next, and an
elementwise kernel so reads its input. Such a tensor can give its place to the result if nobody reads
it again. The kernel is then built to read it from the output's buffer (``in_place`` of its schedule).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from edgeprune.compiler.kernels.base import Schedule
from edgeprune.graph.channels import KernelGraph
from edgeprune.graph.spec import KernelSpec
from edgeprune.graph.walks import identity

KEY = "in_place"


def overwritten(graph: KernelGraph) -> dict[int, int]:
    """Step -> index of the input that the output of that step takes the place of.

    Inputs and outputs of the network are the caller's, constants are for ever: they keep a place of their own.
    """
    return taken_over([read_where_written(node.spec) for node in graph.nodes], given_up(graph))


def given_up(graph: KernelGraph) -> list[frozenset[int]]:
    """For each step the inputs whose places are free behind it, which does not depend on widths."""
    last = {t: step for step, node in enumerate(graph.nodes) for t in node.inputs}
    kept = {p.tensor for p in (*graph.inputs, *graph.outputs)} | set(graph.constants)
    return [
        frozenset(
            i for i, t in enumerate(node.inputs) if last[t] == step and t not in kept and node.inputs.count(t) == 1
        )
        for step, node in enumerate(graph.nodes)
    ]


def taken_over(read: Iterable[Sequence[int]], free: Iterable[frozenset[int]]) -> dict[int, int]:
    """Step -> the first of the inputs that are read where the kernel writes whose place is free."""
    both = (next((i for i in inputs if i in rest), None) for inputs, rest in zip(read, free, strict=True))
    return {step: index for step, index in enumerate(both) if index is not None}


def read_where_written(spec: KernelSpec) -> list[int]:
    """Inputs that a kernel reads at one place at a time, just before it writes there."""
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


def chosen(schedule: Schedule) -> Schedule:
    """The schedule without what its kernel writes over: as it was chosen, and as a profile knows it."""
    return {name: value for name, value in schedule.items() if name != KEY}
