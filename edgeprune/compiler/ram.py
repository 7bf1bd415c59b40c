"""The memory of a program, known before there is one: arena, RAM and constants of a network at any widths.

A plan changes the sizes of tensors, not their order; so one kernel graph answers for all plans, by the rules that lay
out a program (:mod:`edgeprune.compiler.arena`, :mod:`edgeprune.compiler.memory`). Nothing is traced, built or packed.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property

from edgeprune.compiler.allocated import allocated_bytes, call_bytes, fixed_bytes, staged_bytes
from edgeprune.compiler.arena import Span, sized, spans
from edgeprune.compiler.inplace import given_up, places, read_where_written, scheduled, taken_over
from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import rule_named
from edgeprune.compiler.layouts import stored_bytes, stored_elements
from edgeprune.compiler.memory import Lifetime, aligned, busiest_bytes, plan_arena
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.errors import PlanError
from edgeprune.graph.channels import ChannelGraph, KernelGraph
from edgeprune.graph.resized import axis_widths, resized
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.densities import WHOLE, in_blocks
from edgeprune.targets import Target


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of one program.

    Attributes:
        arena: of the one block that all tensors and scratch lie in.
        busiest: the most that is in use at one step; no arena is smaller.
        ram: what the program allocates, as its manifest's ``peak_ram`` and its ``allocated_bytes`` say.
        weights: constants, padding included.
    """

    arena: int
    busiest: int
    ram: int
    weights: int


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel at some widths: what the memory plan asks of it.

    Attributes:
        overwritable: inputs that it reads where it writes.
        constants: bytes of each constant, padding included.
    """

    spec: KernelSpec
    schedule: Schedule
    output_bytes: int
    scratch_bytes: int
    constants: tuple[int, ...]
    overwritable: tuple[int, ...]

    @property
    def buffers(self) -> int:
        """Inputs, constants, scratch if there is any, and the result."""
        return len(self.spec.inputs) + len(self.constants) + bool(self.scratch_bytes) + 1


class MemoryModel:
    """Predicts the memory of a network's program on one target, to the byte.

    What a kernel needs is remembered by its widths, so an evaluation costs well under a millisecond per hundred
    kernels once a solver has been to the widths it asks for.

    Args:
        book: where the compiler takes its schedules from, scratch and constants of which differ.
        decoded_share: of the bytes of constants those that are decoded into RAM, for :meth:`held_bytes` alone: which
            they are depends on their values.
    """

    def __init__(
        self,
        kernels: KernelGraph,
        channels: ChannelGraph,
        target: Target,
        book: ScheduleBook,
        decoded_share: float = 0.0,
    ) -> None:
        self._decoded_share = decoded_share
        self.kernels, self._target, self._book = kernels, target, book
        self._sizes = {g.name: g.size for g in channels.groups}
        self._free = given_up(kernels)
        self._calls: list[dict[tuple[object, ...], Call]] = [{} for _ in kernels.nodes]
        self._known: dict[KernelSpec, Call] = {}
        self._spans: dict[tuple[tuple[int, int], ...], list[Span]] = {}
        self._inputs = {p.tensor: kernels.tensors[p.tensor] for p in kernels.inputs}
        self._staging = staged_bytes((*kernels.inputs, *kernels.outputs))

    @property
    def input_bytes(self) -> dict[str, int]:
        """Bytes of the tensors that the caller fills."""
        return {tensor: stored_bytes(spec, self._target.lanes) for tensor, spec in self._inputs.items()}

    @property
    def fixed_bytes(self) -> int:
        """What a program allocates beside its arena, whatever its kernels are."""
        return fixed_bytes(self._target, self._staging)

    def held_bytes(self, step: int, spec: KernelSpec) -> float:
        """What a call adds to that: descriptors of its buffers; on a GPU its constants, and those that it reads as
        tensors, too, and elsewhere what is decoded of them."""
        call = self.call(spec)
        read = sum(self._operand_bytes(spec, i) for i in self._readers.get(step, ()))
        constants = sum(call.constants) + read
        decoded = 0.0 if self._target.kind == "cuda" else self._decoded_share * constants
        return call_bytes(self._target, call.buffers, constants) + decoded

    def spec(self, step: int, axes: Mapping[str, int]) -> KernelSpec:
        """The kernel of a step at these widths of its axes; of a concat with parts of any sizes that add up."""
        return resized(self.kernels.nodes[step], axes, self.kernels, {})

    def output_bytes(self, spec: KernelSpec) -> int:
        return stored_bytes(spec.output, self._target.lanes)

    def calls(self, widths: Mapping[str, int]) -> list[Call]:
        """Every kernel where groups have ``widths``; groups that are not named have all their channels.

        Raises:
            PlanError: a group without channels: with its block the graph changes, and has to be traced.
        """
        full = {**self._sizes, **widths}
        if gone := [name for name, width in full.items() if width < 1]:
            raise PlanError(
                f"the memory of a network without {', '.join(gone)} is not known from the dense network's graph",
                hint="shrink it and read the smaller network",
                groups=gone,
            )
        tensors = dict(self._inputs)
        calls = []
        for node, known in zip(self.kernels.nodes, self._calls, strict=True):
            axes = axis_widths(node, full)
            # The parts of a concat are not known by its own width.
            key = (*axes.values(), *(tensors[t] for t in node.inputs if t in tensors))
            call = known.get(key)
            if call is None:
                call = known[key] = self.call(resized(node, axes, self.kernels, tensors))
            tensors[node.output] = call.spec.output
            calls.append(call)
        return calls

    def call(self, spec: KernelSpec) -> Call:
        """What the memory plan asks of a kernel; raises UnsupportedOperatorError where nothing builds it."""
        if spec not in self._known:
            self._known[spec] = self._call(spec)
        return self._known[spec]

    def in_blocks(self, densities: Mapping[str, int]) -> MemoryModel:
        """The same of a network of whose weights blocks are zero.

        Args:
            densities: parameter -> what stays of its blocks, in per cent; such a layer stores these alone where timings
                say that it is quicker so (:func:`edgeprune.compiler.in_blocks.choose_blocks`).
        """
        if all(density == WHOLE for density in densities.values()):
            return self
        by_node = {n.name: densities.get(n.weights.weight, WHOLE) for n in self.kernels.nodes}
        found = copy(self)
        found.kernels, found._calls = in_blocks(self.kernels, by_node), [{} for _ in by_node]
        return found

    def _call(self, spec: KernelSpec) -> Call:
        if spec.density is None:
            schedule = self._book.choose(spec).schedule
        elif self._book.quicker_in_blocks(spec):
            schedule = self._book.of_blocks().choose(spec).schedule
        else:
            return self.call(spec.with_density(None))
        rule = rule_named(schedule)
        return Call(
            spec,
            schedule,
            self.output_bytes(spec),
            4 * rule.scratch(spec, schedule, self._target),
            tuple(aligned(4 * elements) for elements in rule.constants(spec, schedule, self._target)),
            tuple(read_where_written(spec)),
        )

    def lifetimes(self, widths: Mapping[str, int]) -> list[Lifetime]:
        """All that lies in the arena, and when; raises what :meth:`calls` raises."""
        return self._lifetimes(self.calls(widths))

    def _lifetimes(self, calls: list[Call]) -> list[Lifetime]:
        nodes = self.kernels.nodes
        tensor_bytes = self.input_bytes
        tensor_bytes |= {node.output: call.output_bytes for node, call in zip(nodes, calls, strict=True)}
        return sized(self._spans_at(calls), tensor_bytes, [c.scratch_bytes for c in calls])

    def spans(self, widths: Mapping[str, int]) -> list[Span]:
        """The places of the arena, and when they are in use; raises what :meth:`calls` raises."""
        return self._spans_at(self.calls(widths))

    def built(self, widths: Mapping[str, int]) -> list[tuple[KernelSpec, Schedule]]:
        """What is compiled for each call; equal ones share their code. Raises what :meth:`calls` raises."""
        calls = self.calls(widths)
        over = self._over(calls)
        return [(call.spec, scheduled(call.schedule, over.get(step))) for step, call in enumerate(calls)]

    def _over(self, calls: list[Call]) -> dict[int, int]:
        # As in lower: on a GPU no two arguments may overlap.
        return taken_over([c.overwritable for c in calls], self._free) if self._target.kind == "cpu" else {}

    def _spans_at(self, calls: list[Call]) -> list[Span]:
        over = self._over(calls)
        key = tuple(over.items())
        if key not in self._spans:
            self._spans[key] = spans(self.kernels, places(self.kernels, over))
        return self._spans[key]

    def at(self, widths: Mapping[str, int]) -> Footprint:
        """The memory of the program of a plan.

        Args:
            widths: group name -> channels, at least 1; groups that are not named have all their channels.

        Raises:
            PlanError: a group without channels. UnsupportedOperatorError: a kernel that nothing builds.
        """
        calls = self.calls(widths)
        alive = self._lifetimes(calls)
        arena = plan_arena(alive).bytes
        weights = self._weights(calls)
        buffers = sum(c.buffers for c in calls)
        ram = allocated_bytes(self._target, arena, buffers, weights, self._staging)
        return Footprint(arena, busiest_bytes(alive), ram, weights)

    def weight_bytes(self, widths: Mapping[str, int]) -> int:
        """Constants in the program's file, padding included; raises what :meth:`calls` raises."""
        return self._weights(self.calls(widths))

    def _weights(self, calls: list[Call]) -> int:
        return sum(n for c in calls for n in c.constants) + self._constants(calls)

    def _constants(self, calls: list[Call]) -> int:
        """Bytes of the constants that kernels read as tensors, each once."""
        return sum(self._operand_bytes(calls[step].spec, i) for step, places in self._readers.items() for i in places)

    def _operand_bytes(self, spec: KernelSpec, operand: int) -> int:
        return aligned(4 * stored_elements(spec.inputs[operand], self._target.lanes))

    @cached_property
    def _readers(self) -> dict[int, list[int]]:
        """Step -> the operands of it that are constants; of a constant that many read, one that sees it as it is."""
        read: dict[str, tuple[int, int]] = {}
        for step, node in enumerate(self.kernels.nodes):
            for i, (tensor, seen) in enumerate(zip(node.inputs, node.spec.inputs, strict=True)):
                if tensor in self.kernels.constants and (tensor not in read or seen == self.kernels.tensors[tensor]):
                    read[tensor] = step, i
        by_step: dict[int, list[int]] = {}
        for step, i in read.values():
            by_step.setdefault(step, []).append(i)
        return by_step
