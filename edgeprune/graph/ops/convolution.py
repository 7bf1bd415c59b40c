"""Layers with filters: convolutions of images and volumes, transposed ones, linear layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeprune.graph.ops.operator import Operator

if TYPE_CHECKING:
    from edgeprune.graph.spec import Attr, KernelSpec, TensorSpec

WINDOW = ("dilation", "groups", "kernel", "padding", "stride")


@dataclass(frozen=True)
class Dense(Operator):
    """A linear layer over rows: every input channel meets every output channel."""

    folds: ClassVar[bool] = True

    def widths(self, spec: KernelSpec) -> dict[str, int]:
        return {"in": spec.inputs[0].channels, "out": spec.output.channels}

    def resized_inputs(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> tuple[TensorSpec, ...]:
        return (spec.inputs[0].with_channels(new.get("in", spec.inputs[0].channels)),)

    def macs(self, spec: KernelSpec) -> int:
        return spec.inputs[0].elements * spec.output.channels


@dataclass(frozen=True)
class _Windowed(Dense):
    def said(self, spec: KernelSpec) -> str:
        stride, groups = max(spec.attr("stride")), spec.attr("groups")
        kernel = f" {'x'.join(map(str, spec.attr('kernel')))}" + (f"/{stride}" if stride > 1 else "")
        return kernel + (" dw" if spec.depthwise else f" g{groups}" if groups > 1 else "")


@dataclass(frozen=True)
class Transposed(_Windowed):
    """A transposed convolution: each input pixel writes a window."""

    def macs(self, spec: KernelSpec) -> int:
        per_input: int = spec.output.channels // spec.attr("groups") * math.prod(spec.attr("kernel"))
        return spec.inputs[0].elements * per_input


@dataclass(frozen=True)
class Convolution(_Windowed):
    """A convolution; where every channel has filters of its own (depthwise), input and output are one width axis."""

    def widths(self, spec: KernelSpec) -> dict[str, int]:
        return {"out": spec.output.channels} if spec.depthwise else super().widths(spec)

    def resized_inputs(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> tuple[TensorSpec, ...]:
        if not spec.depthwise:
            return super().resized_inputs(spec, out, new)
        channels, odd = divmod(out, spec.multiplier)
        if odd:
            raise ValueError(f"{out} filters do not divide into {spec.multiplier} a channel")
        return (spec.inputs[0].with_channels(channels),)

    def resized_attrs(self, spec: KernelSpec, out: int) -> tuple[tuple[str, Attr], ...]:
        if not spec.depthwise:
            return spec.attrs
        return tuple((k, out // spec.multiplier if k == "groups" else v) for k, v in spec.attrs)

    def smallest(self, spec: KernelSpec) -> KernelSpec | None:
        """A depthwise kernel of one channel is a plain one."""
        return spec.with_widths(out=spec.multiplier) if spec.depthwise else None

    def macs(self, spec: KernelSpec) -> int:
        per_output: int = spec.inputs[0].channels // spec.attr("groups") * math.prod(spec.attr("kernel"))
        return spec.output.elements * per_output

    def family(self, spec: KernelSpec) -> Any:
        data = super().family(spec)
        if spec.depthwise:
            data["attrs"]["groups"] = 0
            data["multiplier"] = spec.multiplier
        return data
