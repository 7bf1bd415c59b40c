"""From the kernel graph to the static plan: schedules chosen, kernels built, every byte placed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeprune.compiler.folding import State, folded
from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import rule_named
from edgeprune.compiler.layouts import stored_elements
from edgeprune.compiler.memory import Lifetime, aligned, plan_arena
from edgeprune.compiler.objects import KernelBuildError
from edgeprune.compiler.program import Buffer, Call, Port, Program
from edgeprune.compiler.schedules import Chosen, ScheduleBook
from edgeprune.compiler.workers import build_all
from edgeprune.graph.channels import KernelGraph
from edgeprune.progress import SILENT, Progress
from edgeprune.targets import Target


@dataclass(frozen=True, slots=True)
class Lowered:
    """A program and, call by call, where its schedule came from."""

    program: Program
    chosen: tuple[Chosen, ...]


def lower(
    graph: KernelGraph, state: State, target: Target, book: ScheduleBook, *, name: str, progress: Progress = SILENT
) -> Lowered:
    """Build every kernel of the network and lay out arena and weights.

    Kernels that are equal in spec and schedule share one function. Weights keep the order of the
    calls, so that an inference streams through them.
    """
    chosen = [book.choose(n.spec) for n in graph.nodes]
    progress.stage("building kernels", len(graph.nodes))
    objects = []
    requests = [(node.spec, choice.schedule) for node, choice in zip(graph.nodes, chosen, strict=True)]
    for built in build_all(requests, target):
        if isinstance(built, KernelBuildError):
            raise built
        objects.append(built)
        progress.advance()
    arena = plan_arena(lifetimes(graph, [c.schedule for c in chosen], target))
    calls, weights, weight_at = [], [], 0
    for step, (node, choice, kernel) in enumerate(zip(graph.nodes, chosen, objects, strict=True)):
        tensors = [_arena(graph, t, arena.offsets, target) for t in (*node.inputs, node.output)]
        constants = rule_named(choice.schedule).pack(node.spec, choice.schedule, target, *folded(node, state))
        buffers = []
        for constant in constants:
            size = aligned(4 * constant.size)
            buffers.append(Buffer("weights", weight_at, constant.size))
            weights.append(np.pad(constant, (0, size // 4 - constant.size)))
            weight_at += size
        if elements := rule_named(choice.schedule).scratch(node.spec, choice.schedule, target):
            buffers.append(Buffer("arena", arena.offsets[_scratch_of(step)], elements))
        placed = (*tensors[:-1], *buffers, tensors[-1])
        calls.append(Call(node.name, node.spec, choice.schedule, kernel, placed))
    inputs = tuple(Port(p.name, p.shape, arena.offsets[p.tensor]) for p in graph.inputs)
    outputs = tuple(Port(p.name, p.shape, arena.offsets[p.tensor]) for p in graph.outputs)
    blob = np.concatenate(weights) if weights else np.zeros(0, np.float32)
    return Lowered(Program(name, tuple(calls), inputs, outputs, arena.bytes, weight_at, blob), tuple(chosen))


def _arena(graph: KernelGraph, tensor: str, offsets: Mapping[str, int], target: Target) -> Buffer:
    return Buffer("arena", offsets[tensor], stored_elements(graph.tensors[tensor], target.lanes))


def _scratch_of(step: int) -> str:
    return f"scratch of call {step}"


def lifetimes(graph: KernelGraph, schedules: Sequence[Schedule], target: Target) -> list[Lifetime]:
    """When each tensor is alive: inputs from before the first call, outputs past the last, scratch for one call."""
    last = {t: step for step, node in enumerate(graph.nodes) for t in (*node.inputs, node.output)}
    first = {node.output: step for step, node in enumerate(graph.nodes)} | {p.tensor: -1 for p in graph.inputs}
    last |= {p.tensor: len(graph.nodes) for p in graph.outputs}
    size = {t: 4 * stored_elements(graph.tensors[t], target.lanes) for t in first}
    tensors = [Lifetime(t, size[t], first[t], last.get(t, -1)) for t in first]
    scratch = []
    for step, (node, schedule) in enumerate(zip(graph.nodes, schedules, strict=True)):
        if elements := rule_named(schedule).scratch(node.spec, schedule, target):
            scratch.append(Lifetime(_scratch_of(step), 4 * elements, step, step))
    return [*tensors, *scratch]
