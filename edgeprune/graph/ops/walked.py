"""Operators on plain tensors that read their inputs through walks (graph/walks.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgeprune.graph.ops.movement import shared_out
from edgeprune.graph.ops.operator import WALK, Operator

if TYPE_CHECKING:
    from edgeprune.graph.spec import KernelSpec, TensorSpec


@dataclass(frozen=True)
class Walked(Operator):
    """Inputs seen through walks; those without one have the shape of the result."""

    walked: ClassVar[bool] = True

    def resized(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> KernelSpec:
        full, walks = spec.output.channels, dict(spec.attrs)

        def input_of(i: int, t: TensorSpec) -> TensorSpec:
            if f"{WALK}{i}" not in walks:
                return t.with_channels(out)
            return replace(t, shape=spec.walk(i).resized(t.shape, 1, full, out))

        inputs = tuple(input_of(i, t) for i, t in enumerate(spec.inputs))
        return replace(spec, inputs=inputs, output=spec.output.with_channels(out))

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

    def resized(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> KernelSpec:
        sizes: tuple[int, ...] = spec.attr("sizes")
        along = spec.attr("axis") == 1
        after = shared_out(sizes, out) if along else sizes
        inputs = []
        for i, tensor in enumerate(spec.inputs):
            before, now = (sizes[i], after[i]) if along else (spec.output.channels, out)
            inputs.append(replace(tensor, shape=spec.walk(i).resized(tensor.shape, 1, before, now)))
        attrs = tuple((k, tuple(after) if k == "sizes" else v) for k, v in spec.attrs)
        output = spec.output.with_channels(sum(after) if along else out)
        return replace(spec, inputs=tuple(inputs), output=output, attrs=attrs)
