"""Elementwise work on plain tensors of any rank, each read through a walk of its own.

Permuting, slicing, flipping, expanding and broadcasting are all walks, so this one kernel does them,
with any epilogue on the way. It is what an operator without a family of its own is lowered to.
"""

from __future__ import annotations

from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.compiler.kernels.emit import Emitter, Function, function
from edgeprune.compiler.kernels.nest import Access, Nest, contiguous, write_nest
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.graph.walks import Walk, identity
from edgeprune.targets import Target


class Strided(Rule):
    """strided, and elementwise on plain tensors."""

    name = "strided"

    def matches(self, spec: KernelSpec) -> bool:
        plain = all(t.layout == "plain" for t in (*spec.inputs, spec.output))
        return spec.op in ("strided", "elementwise") and plain

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        return function(name, spec, schedule, target, [], lambda e: write_nest(e, nest_of(spec)))


class Join(Rule):
    """join: plain tensors one behind the other along ``axis``."""

    name = "join"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "join" and not spec.epilogue

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        axis, shape, whole = int(spec.attr("axis")), spec.output.shape, contiguous(spec.output.shape)

        def body(e: Emitter) -> None:
            start = 0
            for i, (tensor, size) in enumerate(zip(spec.inputs, spec.attr("sizes"), strict=True)):
                extents = (*shape[:axis], size, *shape[axis + 1 :])
                write = Access(start * whole.steps[axis], whole.steps)
                write_nest(e, Nest(extents, write, (_read(spec.walk(i), tensor, len(shape)),)), first=i)
                start += size

        return function(name, spec, schedule, target, [], body)


def nest_of(spec: KernelSpec) -> Nest:
    """A loop for each dimension of the output."""
    shape = spec.output.shape
    walks = [spec.walk(i) if spec.op == "strided" else identity(len(shape)) for i in range(len(spec.inputs))]
    reads = [_read(walk, tensor, len(shape)) for walk, tensor in zip(walks, spec.inputs, strict=True)]
    return Nest(shape, contiguous(shape), tuple(reads))


def _read(walk: Walk, tensor: TensorSpec, loops: int) -> Access:
    return Access(walk.offset(tensor.shape), tuple(walk.steps(tensor.shape, loops)))
