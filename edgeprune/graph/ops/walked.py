"""Operators on plain tensors that read their inputs through walks (graph/walks.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgeprune.graph.ops.movement import shared_out
from edgeprune.graph.ops.operator import WALK, Operator

if TYPE_CHECKING:
    from edgeprune.graph.spec import KernelSpec, TensorSpec


FEATURES = "features"
"""Attribute of a kernel whose width axis is the last dimension of three."""


def _along(spec: KernelSpec) -> int:
    """The dimension that is the width axis."""
    return 2 if dict(spec.attrs).get(FEATURES) else 1


@dataclass(frozen=True)
class Walked(Operator):
    """Inputs seen through walks; those without one have the shape of the result.

    The width axis is dimension 1, or the last one where the attribute ``features`` says so: of (steps, samples, units).
    """

    walked: ClassVar[bool] = True
    optional: ClassVar[tuple[str, ...]] = (FEATURES,)

    def widths(self, spec: KernelSpec) -> dict[str, int]:
        return {"out": spec.output.shape[_along(spec)]}

    def resized(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> KernelSpec:
        along, walks = _along(spec), dict(spec.attrs)
        full = spec.output.shape[along]

        def input_of(i: int, t: TensorSpec) -> TensorSpec:
            if f"{WALK}{i}" not in walks:
                return t.with_size(along, out)
            return replace(t, shape=spec.walk(i).resized(t.shape, along, full, out))

        inputs = tuple(input_of(i, t) for i, t in enumerate(spec.inputs))
        return replace(spec, inputs=inputs, output=spec.output.with_size(along, out))

    def smallest(self, spec: KernelSpec) -> KernelSpec | None:
        """A dimension of size 1 is repeated in whatever size it is needed."""
        return spec.with_widths(out=1)

    def family(self, spec: KernelSpec) -> Any:
        return [spec.with_widths(out=len(spec.inputs)).to_json(), WALK + "s"]


@dataclass(frozen=True)
class Strided(Walked):
    """No anchor: the epilogue alone, on tensors that lie in any order."""

    overwrites: ClassVar[bool] = True


@dataclass(frozen=True)
class Join(Walked):
    """Tensors one behind the other along ``axis``, ``sizes`` each."""

    def of_parts(self, spec: KernelSpec, elements: Sequence[int | None]) -> KernelSpec:
        """Where widths are joined, sizes are those of the parts that are seen whole."""
        wide = _along(spec)
        if spec.attr("axis") != wide:
            return spec
        sizes, inputs = list(spec.attr("sizes")), list(spec.inputs)
        for i, (tensor, count) in enumerate(zip(spec.inputs, elements, strict=True)):
            dims = [d for d, along in enumerate(spec.walk(i).dims) if along.loop == wide]
            if count is not None and dims and tensor.shape[dims[0]] == sizes[i]:
                size = sizes[i] * count // tensor.elements
                sizes[i], inputs[i] = size, tensor.with_size(dims[0], size)
        attrs = tuple((k, tuple(sizes) if k == "sizes" else v) for k, v in spec.attrs)
        return replace(spec, inputs=tuple(inputs), attrs=attrs)

    def resized(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> KernelSpec:
        sizes: tuple[int, ...] = spec.attr("sizes")
        wide = _along(spec)
        along = spec.attr("axis") == wide
        after = shared_out(sizes, out) if along else sizes
        inputs = []
        for i, tensor in enumerate(spec.inputs):
            before, now = (sizes[i], after[i]) if along else (spec.output.shape[wide], out)
            inputs.append(replace(tensor, shape=spec.walk(i).resized(tensor.shape, wide, before, now)))
        attrs = tuple((k, tuple(after) if k == "sizes" else v) for k, v in spec.attrs)
        output = spec.output.with_size(wide, sum(after) if along else out)
        return replace(spec, inputs=tuple(inputs), output=output, attrs=attrs)
