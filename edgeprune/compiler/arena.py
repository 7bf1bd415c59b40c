"""What is in the arena, and when: tensors that are alive, places that they hand on, scratch of kernels.

When a tensor is in use depends on the graph alone, how large it is on the widths. The two are apart here, so that the
arena of any plan is known from one graph (:mod:`edgeprune.compiler.ram`) by the code that lays out a program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import rule_named
from edgeprune.compiler.layouts import stored_bytes
from edgeprune.compiler.memory import Lifetime
from edgeprune.graph.channels import KernelGraph
from edgeprune.targets import Target


@dataclass(frozen=True, slots=True)
class Span:
    """A place of the arena: it has the size of ``tensor``, and is in use from step ``first`` to ``last``, both
    included."""

    tensor: str
    first: int
    last: int


def scratch_of(step: int) -> str:
    """The name of the scratch of a call."""
    return f"scratch of call {step}"


def spans(graph: KernelGraph, place: Mapping[str, str]) -> list[Span]:
    """When each place is in use: inputs from before the first call, outputs past the last.

    Args:
        place: tensors that take the place of another, which is in use until the last reader of either.
    """
    last = {t: step for step, node in enumerate(graph.nodes) for t in (*node.inputs, node.output)}
    first = {node.output: step for step, node in enumerate(graph.nodes)} | {p.tensor: -1 for p in graph.inputs}
    last |= {p.tensor: len(graph.nodes) for p in graph.outputs}
    until: dict[str, int] = {}
    for tensor in first:
        at = place.get(tensor, tensor)
        until[at] = max(until.get(at, -1), last.get(tensor, -1))
    return [Span(t, first[t], until[t]) for t in until]


def sized(places: Iterable[Span], tensor_bytes: Mapping[str, int], scratch_bytes: Sequence[int]) -> list[Lifetime]:
    """Places and scratch with their sizes.

    Args:
        tensor_bytes: of each tensor that has a place.
        scratch_bytes: of each call; where it is 0 there is none.
    """
    tensors = [Lifetime(s.tensor, tensor_bytes[s.tensor], s.first, s.last) for s in places]
    return [*tensors, *(Lifetime(scratch_of(step), n, step, step) for step, n in enumerate(scratch_bytes) if n)]


def lifetimes(
    graph: KernelGraph, schedules: Sequence[Schedule], target: Target, place: Mapping[str, str]
) -> list[Lifetime]:
    """All that lies in the arena of a network, and when."""
    calls = zip(graph.nodes, schedules, strict=True)
    scratch = [4 * rule_named(s).scratch(node.spec, s, target) for node, s in calls]
    places = spans(graph, place)
    return sized(places, {s.tensor: stored_bytes(graph.tensors[s.tensor], target.lanes) for s in places}, scratch)
