"""Direct convolution in blocked layout, with a register tile of output channels by columns.

One tile keeps ``blocks * columns`` vector accumulators; per input channel and tap it loads
``blocks`` weight vectors and broadcasts ``columns`` inputs. Widths that are no multiple of the
block cost little more than what they hold: input channels are looped exactly, and the last output
block is computed with the narrowest vector that covers it. The input may be plain NCHW (the stem)
or blocked. A 1x1 convolution with stride 1 sees the image as one long row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.kernels.base import Constants, Schedule, padded, vector_registers
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function, tiles, when
from edgeprune.compiler.kernels.rows import Window, walk_row
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


def window_of(spec: KernelSpec) -> Window:
    """The sliding window of a conv2d or pool spec."""
    x, y = spec.inputs[0], spec.output
    dilation = spec.attr("dilation") if spec.op == "conv2d" else (1, 1)
    return Window(
        (x.shape[2], x.shape[3]),
        (y.shape[2], y.shape[3]),
        spec.attr("kernel"),
        spec.attr("stride"),
        spec.attr("padding"),
        dilation,
    )


def _flattened(window: Window) -> Window:
    if window.kernel == (1, 1) and window.stride == (1, 1) and window.padding == (0, 0):
        pixels = window.output[0] * window.output[1]
        return Window((1, pixels), (1, pixels), (1, 1), (1, 1), (0, 0))
    return window


class DirectConv:
    """conv2d with groups = 1."""

    name = "conv_direct"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "conv2d" and spec.attr("groups") == 1

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        """Register tiles that fit, the one with the fewest estimated cycles first."""
        window = _flattened(window_of(spec))
        blocks = block_count(spec.output.channels, target.lanes)
        limit = vector_registers(target) - 4
        points = {
            (b, min(c, window.output[1]))
            for b in (1, 2, 3, 4, 6, 8)
            for c in range(1, limit + 1)
            if b <= blocks and b * c <= limit and (c <= 14 or b == 1)
        }
        ranked = sorted(points, key=lambda p: (_estimated_cycles(window, blocks, *p), -p[0], p[1]))
        return [{"rule": self.name, "blocks": b, "columns": c} for b, c in ranked[:24]]

    def constants(self, spec: KernelSpec, schedule: Schedule, target: Target) -> list[int]:
        kh, kw = spec.attr("kernel")
        widths = block_widths(spec.output.channels, target.lanes)
        return [sum(widths) * spec.inputs[0].channels * kh * kw, len(widths) * target.lanes]

    def pack(self, spec: KernelSpec, schedule: Schedule, target: Target, weight: Any, bias: Any) -> Constants:
        """(O, C, KH, KW) -> [out block][in block][kh][channel in block][kw][lane]; the last block has its own width."""
        o, c, _, _ = weight.shape
        depth = target.lanes if spec.inputs[0].layout == "blocked" else 1
        parts: list[NDArray[np.float32]] = []
        first = 0
        for width in block_widths(o, target.lanes):
            block = np.zeros((width, *weight.shape[1:]), np.float32)
            real = weight[first : first + width]
            block[: len(real)] = real
            parts += [block[:, at : at + size].transpose(2, 1, 3, 0).reshape(-1) for at, size in tiles(c, depth)]
            first += width
        return [np.concatenate(parts), padded(bias, block_count(o, target.lanes) * target.lanes)]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        window = _flattened(window_of(spec))
        sizes = self.constants(spec, schedule, target)
        columns, step = int(schedule["columns"]), int(schedule["blocks"])

        def body(e: Emitter) -> None:
            widths = block_widths(spec.output.channels, e.lanes)
            # The narrow block, if there is one, goes with the blocks that are left over.
            full = sum(w == e.lanes for w in widths) // step
            if full:
                _block_loop(e, window, columns, 0, full, widths[:step])
            if rest := widths[full * step :]:
                _block_loop(e, window, columns, full * step, 1, rest)

        return function(name, spec, target.lanes, sizes, body)


def block_widths(channels: int, lanes: int) -> tuple[int, ...]:
    """Vector width of each output block: ``lanes``, and for a partial last one the narrowest of lanes/2, lanes/4 …
    (at least 4) that covers it."""
    full, rest = divmod(channels, lanes)
    if not rest:
        return (lanes,) * full
    narrow = lanes
    while narrow // 2 >= max(rest, 4):
        narrow //= 2
    return (*(lanes,) * full, narrow)


def _block_loop(e: Emitter, window: Window, columns: int, first: int, count: int, widths: tuple[int, ...]) -> None:
    """Every output row of ``count`` groups of output blocks of these vector widths, in parallel."""
    batch, rows = e.spec.output.shape[0], window.output[0]
    with T.parallel(0, batch * count * rows) as index:
        oh = index % rows
        group = (index // rows) % count
        n = index // (rows * count)
        block = first + group * len(widths)
        walk_row(window, columns, lambda ow, size, tap: _tile(e, window, n, block, widths, oh, ow, size, tap))


def _tile(
    e: Emitter,
    window: Window,
    n: Expr,
    block: Expr,
    widths: tuple[int, ...],
    oh: Expr,
    ow: Expr,
    columns: int,
    inside: Any,
) -> None:
    """One register tile: accumulate over all input channels and taps, apply the epilogue, store."""
    spec, lanes = e.spec, e.lanes
    x, (weight, bias) = e.inputs[0], e.constants
    channels = spec.inputs[0].channels
    depth = lanes if spec.inputs[0].layout == "blocked" else 1
    in_blocks, out_blocks = block_count(channels, depth), block_count(spec.output.channels, lanes)
    (height, width), (kh_size, kw_size) = window.image, window.kernel
    taps = kh_size * kw_size
    acc = [e.registers(columns, w) for w in widths]
    for b, w in enumerate(widths):
        for t in range(columns):
            T.buffer_store(acc[b], e.load(bias, (block + b) * lanes, w), [t])

    def accumulate(in_block: Expr, size: int) -> None:
        with T.serial(0, kh_size) as kh:
            ih = window.row(oh, kh)
            with when(window.row_inside(ih)), T.serial(0, size) as ci:
                row = ((n * in_blocks + in_block) * height + ih) * width
                # Weights of this (in block, kh) lie together: [channel][kw][lane]; only the last block is narrow.
                vector = in_block * depth * taps + (kh * size + ci) * kw_size
                for kw in range(kw_size):
                    weights = [
                        e.load(weight, (block + b) * (channels * taps * lanes) + (vector + kw) * w, w)
                        for b, w in enumerate(widths)
                    ]
                    for t in range(columns):
                        if not inside(t, kw):
                            continue
                        value = x[(row + window.column(ow + t, kw)) * depth + ci]
                        for b, w in enumerate(widths):
                            T.buffer_store(acc[b], acc[b][t] + e.splat(value, w) * weights[b], [t])

    full = channels // depth
    if full:
        with T.serial(0, full) as in_block:
            accumulate(in_block, depth)
    if rest := channels - full * depth:
        accumulate(full, rest)
    pixels = window.output[0] * window.output[1]
    for b, w in enumerate(widths):
        for t in range(columns):
            out_block = n * out_blocks + block + b
            pixel = oh * window.output[1] + ow + t
            e.store(e.output, e.epilogue(acc[b][t], out_block, pixel, w), (out_block * pixels + pixel) * lanes, w)


def _estimated_cycles(window: Window, blocks: int, step: int, columns: int) -> float:
    """Cycles per input channel and tap for one output row: two FMA or two loads a cycle, FMA latency 4."""

    def tile(b: int, c: int) -> float:
        return max(b * c / 2, (b + c) / 2, 4.0) + 0.15

    row = sum(tile(step, size) for _, size in tiles(window.output[1], columns))
    total = (blocks // step) * row
    if rest := blocks % step:
        total += sum(tile(rest, size) for _, size in tiles(window.output[1], columns))
    return total


class DepthwiseConv:
    """conv2d with one filter per channel: lane by lane, no reduction over channels."""

    name = "conv_depthwise"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.depthwise and spec.inputs[0].layout == "blocked"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        width = spec.output.shape[3]
        limit = vector_registers(target) - 4
        points = sorted({min(c, width) for c in (4, 7, 8, 12, 14, 16, 28) if c <= limit})
        ranked = sorted(points, key=lambda c: (-(-width // c), c))
        return [{"rule": self.name, "columns": c} for c in ranked]

    def constants(self, spec: KernelSpec, schedule: Schedule, target: Target) -> list[int]:
        kh, kw = spec.attr("kernel")
        width = block_count(spec.output.channels, target.lanes) * target.lanes
        return [width * kh * kw, width]

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
        window = window_of(spec)
        (height, width), (kh_size, kw_size) = window.image, window.kernel

        def body(e: Emitter) -> None:
            lanes, rows = e.lanes, window.output[0]
            blocks = block_count(spec.output.channels, lanes)
            x, (weight, bias) = e.inputs[0], e.constants
            with T.parallel(0, spec.output.shape[0] * blocks * rows) as index:
                oh, plane = index % rows, index // rows
                block = plane % blocks

                def tile(ow: Expr, columns: int, inside: Any) -> None:
                    acc = e.registers(columns)
                    for t in range(columns):
                        T.buffer_store(acc, e.load(bias, block * lanes), [t])
                    with T.serial(0, kh_size) as kh:
                        ih = window.row(oh, kh)
                        with when(window.row_inside(ih)):
                            for kw in range(kw_size):
                                tap = e.load(weight, ((block * kh_size + kh) * kw_size + kw) * lanes)
                                for t in range(columns):
                                    if inside(t, kw):
                                        at = ((plane * height + ih) * width + window.column(ow + t, kw)) * lanes
                                        T.buffer_store(acc, acc[t] + e.load(x, at) * tap, [t])
                    for t in range(columns):
                        pixel = oh * window.output[1] + ow + t
                        value = e.epilogue(acc[t], plane, pixel)
                        e.store(e.output, value, (plane * spec.output.pixels + pixel) * lanes)

                walk_row(window, int(schedule["columns"]), tile)

        return function(name, spec, target.lanes, self.constants(spec, schedule, target), body)
