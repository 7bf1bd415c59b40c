"""Layers with filters: convolutions of images and volumes, transposed ones, linear layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeprune.graph.ops.operator import Operator

if TYPE_CHECKING:
    from edgeprune.graph.spec import Attr, KernelSpec, TensorSpec

WINDOW = ("dilation", "groups", "kernel", "padding", "stride")

DENSITY = "density"
"""Attribute of a layer whose weights are zero in whole blocks: how many of them need not be, in per cent of all."""
BLOCK = 16
"""Filters that share a block of weights, which are those of one value that they read."""


def block_rows(channels: int) -> int:
    """Rows of blocks that the filters of so many outputs make up; the last one may have fewer than :data:`BLOCK`."""
    return -(-channels // BLOCK)


def stored_blocks(blocks: int, density: int) -> int:
    """Blocks that are stored of so many; at least one."""
    return max(1, -(-blocks * density // 100))


def density_of(pattern: NDArray[np.bool_]) -> int:
    """The least density that has room for the blocks of a pattern."""
    return max(1, -(-100 * int(pattern.sum()) // pattern.size))


def pixelwise(spec: KernelSpec) -> bool:
    """Whether every result of a convolution of images is made of one pixel of all channels: 1x1, not padded."""
    return (spec.attr("kernel"), spec.attr("padding"), spec.attr("groups")) == ((1, 1), (0, 0), 1)


@dataclass(frozen=True)
class Dense(Operator):
    """A linear layer over rows: every input channel meets every output channel."""

    folds: ClassVar[bool] = True
    optional: ClassVar[tuple[str, ...]] = (DENSITY,)

    def check(self, spec: KernelSpec) -> None:
        super().check(spec)
        if spec.density is not None and not (isinstance(spec.density, int) and 1 <= spec.density <= 100):
            raise ValueError(f"a density is a whole number of per cent, from 1 to 100, not {spec.density!r}")

    def widths(self, spec: KernelSpec) -> dict[str, int]:
        return {"in": spec.inputs[0].channels, "out": spec.output.channels}

    def resized_inputs(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> tuple[TensorSpec, ...]:
        return (spec.inputs[0].with_channels(new.get("in", spec.inputs[0].channels)),)

    def macs(self, spec: KernelSpec) -> int:
        """Those of the blocks that are stored, where weights are zero in the others."""
        return self.dense_macs(spec) * (spec.density or 100) // 100

    def dense_macs(self, spec: KernelSpec) -> int:
        """Multiply-accumulates with all weights."""
        return spec.inputs[0].elements * spec.output.channels

    def said(self, spec: KernelSpec) -> str:
        return "" if spec.density is None else f" {spec.density}%"


@dataclass(frozen=True)
class _Windowed(Dense):
    def said(self, spec: KernelSpec) -> str:
        stride, groups = max(spec.attr("stride")), spec.attr("groups")
        kernel = f" {'x'.join(map(str, spec.attr('kernel')))}" + (f"/{stride}" if stride > 1 else "")
        return kernel + (" dw" if spec.depthwise else f" g{groups}" if groups > 1 else "") + super().said(spec)


@dataclass(frozen=True)
class Transposed(_Windowed):
    """A transposed convolution: each input pixel writes a window."""

    optional: ClassVar[tuple[str, ...]] = ()

    def dense_macs(self, spec: KernelSpec) -> int:
        per_input: int = spec.output.channels // spec.attr("groups") * math.prod(spec.attr("kernel"))
        return spec.inputs[0].elements * per_input


@dataclass(frozen=True)
class Convolution(_Windowed):
    """A convolution; where every channel has filters of its own (depthwise), input and output are one width axis."""

    def check(self, spec: KernelSpec) -> None:
        super().check(spec)
        if spec.density is not None and not (spec.op == "conv2d" and pixelwise(spec)):
            raise ValueError("only the filters of a convolution of one pixel, without padding, are stored in blocks")

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

    def dense_macs(self, spec: KernelSpec) -> int:
        per_output: int = spec.inputs[0].channels // spec.attr("groups") * math.prod(spec.attr("kernel"))
        return spec.output.elements * per_output

    def family(self, spec: KernelSpec) -> Any:
        data = super().family(spec)
        if spec.depthwise:
            data["attrs"]["groups"] = 0
            data["multiplier"] = spec.multiplier
        return data
