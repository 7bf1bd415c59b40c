"""Elementwise work on plain tensors of any rank, each read through a walk of its own.

Permuting, slicing, flipping, expanding and broadcasting are all walks, so this one kernel does them,
with any epilogue on the way. It is what an operator without a family of its own is lowered to.
"""

from __future__ import annotations

from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.compiler.kernels.emit import Function, function
from edgeprune.compiler.kernels.nest import Access, Nest, contiguous, write_nest
from edgeprune.graph.spec import KernelSpec
from edgeprune.graph.walks import identity
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


def nest_of(spec: KernelSpec) -> Nest:
    """A loop for each dimension of the output."""
    shape = spec.output.shape
    reads = []
    for i, tensor in enumerate(spec.inputs):
        walk = spec.walk(i) if spec.op == "strided" else identity(len(shape))
        reads.append(Access(walk.offset(tensor.shape), tuple(walk.steps(tensor.shape, len(shape)))))
    return Nest(shape, contiguous(shape), tuple(reads))
