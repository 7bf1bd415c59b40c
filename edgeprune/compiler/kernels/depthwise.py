"""Depthwise convolution: lane by lane, a filter for each channel, nothing summed over channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeprune.compiler.kernels.base import Constants, Rule, Schedule, padded, vector_registers
from edgeprune.compiler.kernels.blocks import Groups, block_widths, groups_of
from edgeprune.compiler.kernels.conv import taps_of, window_of
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function, when
from edgeprune.compiler.kernels.rows import Window, walk_row
from edgeprune.compiler.kernels.tile import short_of_registers
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

FEW = (4, 6, 7, 8)
"""Columns of a tile where LLVM has 16 registers: with 12 it keeps inputs on the stack, and takes up to four times as
long (measured on Zen 3).
"""


class DepthwiseConv(Rule):
    """conv2d and conv3d with one filter per channel: lane by lane, no reduction over channels."""

    name = "conv_depthwise"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.depthwise and spec.multiplier == 1 and spec.inputs[0].layout == "blocked"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        width, limit = spec.output.shape[3], vector_registers(target) - 4
        # Taps share inputs, which is what makes this fast while there are registers for those of a row.
        offered = FEW if short_of_registers(target) else (4, 7, 8, 12, 14, 16, 28)
        points = sorted({min(c, width) for c in offered if c <= limit})
        ranked = sorted(points, key=lambda c: (-(-width // c), c))
        return [{"rule": self.name, "columns": c} for c in ranked]

    def constants(self, spec: KernelSpec, schedule: Schedule, target: Target) -> list[int]:
        width = block_count(spec.output.channels, target.lanes) * target.lanes
        return [width * taps_of(spec), width]

    def pack(self, spec: KernelSpec, schedule: Schedule, target: Target, weight: Any, bias: Any) -> Constants:
        """(C, 1, KH, KW) -> [block][kh][kw][lane]."""
        c, _, kh, kw = weight.shape
        lanes = target.lanes
        blocks = block_count(c, lanes)
        whole = np.zeros((blocks * lanes, kh, kw), np.float32)
        whole[:c] = weight[:, 0]
        packed = whole.reshape(blocks, lanes, kh, kw).transpose(0, 2, 3, 1).reshape(-1)
        return [np.ascontiguousarray(packed), padded(bias, blocks * lanes)]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        def body(e: Emitter) -> None:
            for groups in groups_of(block_widths(spec.output.channels, e.lanes), 1):
                _depthwise_planes(e, window_of(spec), int(schedule["columns"]), groups)

        return function(name, spec, schedule, target, self.constants(spec, schedule, target), body)


def _depthwise_planes(e: Emitter, window: Window, columns: int, groups: Groups) -> None:
    """Every row of these blocks, in parallel."""
    (height, width), (kh_size, kw_size), rows = window.image, window.kernel, window.output[0]
    x, (weight, bias), spec = e.inputs[0], e.constants, e.spec
    blocks, (lanes,) = block_count(spec.output.channels, e.lanes), groups.widths
    with T.parallel(0, spec.output.shape[0] * groups.count * rows) as index:
        oh, block = index % rows, groups.first + index // rows % groups.count
        plane = index // (rows * groups.count) * blocks + block

        def tile(ow: Expr, size: int, inside: Any) -> None:
            acc = e.registers(size, lanes)
            for t in range(size):
                acc[t] = e.load(bias, block * e.lanes, lanes)
            with T.serial(0, kh_size) as kh:
                ih = window.row(oh, kh)
                with when(window.row_inside(oh, kh)):
                    for kw in range(kw_size):
                        tap = e.load(weight, ((block * kh_size + kh) * kw_size + kw) * e.lanes, lanes)
                        for t in range(size):
                            if inside(t, kw):
                                at = ((plane * height + ih) * width + window.column(ow + t, kw)) * e.lanes
                                acc[t] = acc[t] + e.load(x, at, lanes) * tap
            for t in range(size):
                pixel = oh * window.output[1] + ow + t
                value = e.epilogue(acc[t], plane, pixel, lanes)
                e.store(e.output, value, (plane * spec.output.pixels + pixel) * e.lanes, lanes)

        walk_row(window, columns, tile)
