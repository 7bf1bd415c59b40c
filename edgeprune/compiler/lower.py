"""From the kernel graph to the static plan: schedules chosen, kernels built, every byte placed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.arena import lifetimes, scratch_of
from edgeprune.compiler.failures import KernelBuildError
from edgeprune.compiler.folding import State, folded
from edgeprune.compiler.inplace import overwritten, places, scheduled
from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import rule_named
from edgeprune.compiler.layouts import stored_elements, to_blocked
from edgeprune.compiler.memory import aligned, plan_arena
from edgeprune.compiler.objects import KernelObject, symbol_of
from edgeprune.compiler.program import Buffer, Call, Port, Program
from edgeprune.compiler.schedules import Chosen, ScheduleBook
from edgeprune.compiler.workers import build_all
from edgeprune.graph.channels import KernelGraph
from edgeprune.graph.spec import KernelSpec
from edgeprune.progress import SILENT, Progress
from edgeprune.targets import Target


class Builder(Protocol):
    """Gives each kernel its object file, or why there is none; equal kernels may share one."""

    def __call__(
        self, requests: Sequence[tuple[KernelSpec, Schedule]], target: Target, /
    ) -> Iterable[KernelObject | KernelBuildError]: ...


@dataclass(frozen=True, slots=True)
class Lowered:
    """A program and, call by call, where its schedule came from."""

    program: Program
    chosen: tuple[Chosen, ...]


def lower(
    graph: KernelGraph,
    state: State | None,
    target: Target,
    book: ScheduleBook,
    *,
    name: str,
    build: Builder = build_all,
    progress: Progress = SILENT,
) -> Lowered:
    """Build every kernel of the network and lay out arena and weights.

    Kernels that are equal in spec and schedule share one function. Weights keep the order of the
    calls, so that an inference streams through them.

    Args:
        state: values of the weights by name; None: constants have their sizes, and the board fills them with noise,
            which is as quick.
        build: gives an object file for each kernel.

    Raises:
        TargetError: nothing is built for that kind of target.
        UnsupportedOperatorError: a kernel that there is no rule for.
        MissingDependencyError: what compiles for the target's GPU is not installed.
        KernelBuildError: the compiler failed.
    """
    target.require_buildable()
    chosen = [book.choose(n.spec) for n in graph.nodes]
    # On a GPU no two arguments may overlap: compiled code counts on it (__restrict__).
    over = overwritten(graph) if target.kind == "cpu" else {}
    schedules = [scheduled(c.schedule, over.get(step)) for step, c in enumerate(chosen)]
    progress.stage("building kernels", len(graph.nodes))
    objects = []
    for built in build([(node.spec, s) for node, s in zip(graph.nodes, schedules, strict=True)], target):
        if isinstance(built, KernelBuildError):
            raise built
        objects.append(built)
        progress.advance()
    place = places(graph, over)
    arena = plan_arena(lifetimes(graph, schedules, target, place))
    weights = Weights()
    buffers = {}
    for tensor, constant in graph.constants.items():
        spec = graph.tensors[tensor]
        if state is None:
            buffers[tensor] = weights.reserve(stored_elements(spec, target.lanes))
        else:
            values, blocked = state[constant] if isinstance(constant, str) else constant, spec.layout == "blocked"
            buffers[tensor] = weights.add(to_blocked(values.reshape(spec.shape), target.lanes) if blocked else values)
    for tensor, spec in graph.tensors.items():
        if tensor not in buffers:
            offset = arena.offsets[place.get(tensor, tensor)]
            buffers[tensor] = Buffer("arena", offset, stored_elements(spec, target.lanes), spec.dtype)
    calls = []
    for step, (node, schedule, kernel) in enumerate(zip(graph.nodes, schedules, objects, strict=True)):
        rule = rule_named(schedule)
        if state is None:
            fixed = rule.fixed(node.spec, schedule, target)
            sizes = rule.constants(node.spec, schedule, target)
            constants = [weights.reserve(n, fixed[i].tobytes() if i in fixed else b"") for i, n in enumerate(sizes)]
        else:
            constants = [weights.add(c) for c in rule.pack(node.spec, schedule, target, *folded(node, state))]
        placed = [*(buffers[t] for t in node.inputs), *constants]
        if elements := rule.scratch(node.spec, schedule, target):
            placed.append(Buffer("arena", arena.offsets[scratch_of(step)], elements))
        calls.append(Call(node.name, node.spec, schedule, kernel, (*placed, buffers[node.output])))
    inputs, outputs = (
        tuple(
            Port(p.name, p.shape, buffers[p.tensor].offset, p.dtype, graph.tensors[p.tensor].dtype, p.image, p.range)
            for p in ports
        )
        for ports in (graph.inputs, graph.outputs)
    )
    blob = None if state is None else weights.joined()
    program = Program(name, tuple(calls), inputs, outputs, arena.bytes, weights.bytes, blob)
    return Lowered(program, tuple(chosen))


def unbuilt(path: Path) -> Builder:
    """Gives each kernel its name, and as its object file one that is none: for programs that are laid out alone."""

    def build(requests: Sequence[tuple[KernelSpec, Schedule]], target: Target, /) -> Iterable[KernelObject]:
        return (KernelObject(symbol_of(*request, target), path) for request in requests)

    return build


class Weights:
    """Constants one behind the other, each where vectors may begin."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.float32]] = []
        self.bytes = 0

    def reserve(self, elements: int, fixed: bytes = b"") -> Buffer:
        """The place of a constant without its values; then all are without, except those that are ``fixed``."""
        at = self.bytes
        self.bytes += aligned(4 * elements)
        return Buffer("weights", at, elements, fixed=fixed)

    def add(self, values: NDArray[np.float32]) -> Buffer:
        self._parts.append(np.pad(values.reshape(-1), (0, aligned(4 * values.size) // 4 - values.size)))
        return self.reserve(values.size)

    def joined(self) -> NDArray[np.float32]:
        return np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)
