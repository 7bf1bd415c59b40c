"""Grouped convolution: a direct convolution whose output blocks see only the channels they are made of.

A vector of output channels may span several groups. It then reads the channels of all of them, with
zeros among its weights, so that any number of channels a group works with one code; where groups are
whole vectors nothing is wasted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.kernels.base import Constants, Rule, Schedule, most_columns, padded
from edgeprune.compiler.kernels.blocks import Groups, block_widths, groups_of
from edgeprune.compiler.kernels.conv import taps_of, window_of
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function, when
from edgeprune.compiler.kernels.rows import Window, walk_row
from edgeprune.graph.spec import CONVOLUTIONS, KernelSpec
from edgeprune.targets import Target


class GroupedConv(Rule):
    """conv2d and conv3d with groups > 1, from a blocked image; one filter for each channel has a rule of its own."""

    name = "conv_grouped"

    def matches(self, spec: KernelSpec) -> bool:
        grouped = spec.op in CONVOLUTIONS and spec.attr("groups") > 1
        return grouped and not (spec.depthwise and spec.multiplier == 1) and spec.inputs[0].layout == "blocked"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        width, most = spec.output.shape[3], most_columns(1, target)
        points = {min(c, width, most) for c in (7, 8, 12, 14, 16, 24, 28)}
        ranked = sorted(points, key=lambda c: (-(-width // c) * max(c, 8), c))
        return [{"rule": self.name, "columns": c} for c in ranked]

    def constants(self, spec: KernelSpec, schedule: Schedule, target: Target) -> list[int]:
        widths = block_widths(spec.output.channels, target.lanes)
        return [sum(widths) * taps_of(spec) * _span(spec, target.lanes), len(widths) * target.lanes]

    def pack(self, spec: KernelSpec, schedule: Schedule, target: Target, weight: Any, bias: Any) -> Constants:
        """(O, C / groups, KH, KW) -> [out block][kh][kw][channel it sees][lane]; the last block has its own width."""
        o, depth, kh, kw = weight.shape
        span = _span(spec, target.lanes)
        parts: list[NDArray[np.float32]] = []
        for block, width in enumerate(block_widths(o, target.lanes)):
            whole = np.zeros((kh, kw, span, width), np.float32)
            start = _first(spec, target.lanes, block)
            for lane in range(min(width, o - block * target.lanes)):
                out = block * target.lanes + lane
                at = out // (o // spec.attr("groups")) * depth - start
                whole[:, :, at : at + depth, lane] = np.asarray(weight[out]).transpose(1, 2, 0)
            parts.append(whole.reshape(-1))
        return [np.concatenate(parts), padded(bias, block_count(o, target.lanes) * target.lanes)]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        def body(e: Emitter) -> None:
            for groups in groups_of(block_widths(spec.output.channels, e.lanes), 1):
                _rows(e, window_of(spec), int(schedule["columns"]), groups)

        return function(name, spec, schedule, target, self.constants(spec, schedule, target), body)


def _first(spec: KernelSpec, lanes: int, block: Any) -> Any:
    """First input channel that an output block sees, for a block number or an expression of one."""
    groups, channels = spec.attr("groups"), spec.inputs[0].channels
    first = block * lanes // (spec.output.channels // groups) * (channels // groups)
    last = channels - _span(spec, lanes)
    return min(first, last) if isinstance(first, int) else T.min(first, last)


def _span(spec: KernelSpec, lanes: int) -> int:
    """Most input channels that an output block sees."""
    groups, out = spec.attr("groups"), spec.output.channels
    each = out // groups
    seen = max((min(s + lanes, out) - 1) // each - s // each + 1 for s in range(0, out, lanes))
    return int(seen * (spec.inputs[0].channels // groups))


def _rows(e: Emitter, window: Window, columns: int, groups: Groups) -> None:
    """Every row of these output blocks, in parallel."""
    (height, width), (kh_size, kw_size), rows = window.image, window.kernel, window.output[0]
    spec, x, (weight, bias), (lanes,) = e.spec, e.inputs[0], e.constants, groups.widths
    blocks, in_blocks = (block_count(t.channels, e.lanes) for t in (spec.output, spec.inputs[0]))
    span = _span(spec, e.lanes)
    with T.parallel(0, spec.output.shape[0] * groups.count * rows) as index:
        oh, block = index % rows, groups.first + index // rows % groups.count
        n = index // (rows * groups.count)
        start = _first(spec, e.lanes, block)

        def tile(ow: Expr, size: int, inside: Any) -> None:
            acc = e.registers(size, lanes)
            for t in range(size):
                acc[t] = e.load(bias, block * e.lanes, lanes)

            def tap(ih: Expr, kh: Expr, kw: Expr, inner: list[int]) -> None:
                with T.serial(0, span) as s:
                    channel = start + s
                    plane = (n * in_blocks + channel // e.lanes) * height + ih
                    vector = block * kh_size * kw_size * span * e.lanes + ((kh * kw_size + kw) * span + s) * lanes
                    weights = e.load(weight, vector, lanes)
                    for t in inner:
                        at = (plane * width + window.column(ow + t, kw)) * e.lanes + channel % e.lanes
                        acc[t] = acc[t] + e.splat(x[at], lanes) * weights

            with T.serial(0, kh_size) as kh:
                ih = window.row(oh, kh)
                with when(window.row_inside(oh, kh)):
                    if all(inside(t, kw) for t in range(size) for kw in range(kw_size)):
                        with T.serial(0, kw_size) as kw:
                            tap(ih, kh, kw, list(range(size)))
                    else:
                        for kw in range(kw_size):
                            tap(ih, kh, kw, [t for t in range(size) if inside(t, kw)])
            for t in range(size):
                pixel = oh * window.output[1] + ow + t
                plane = n * blocks + block
                value = e.epilogue(acc[t], plane, pixel, lanes)
                e.store(e.output, value, (plane * spec.output.pixels + pixel) * e.lanes, lanes)

        walk_row(window, columns, tile)
