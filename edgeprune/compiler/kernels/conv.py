"""Direct convolution in blocked layout, with a register tile of output channels by columns.

One tile keeps ``blocks * columns`` vector accumulators; per input channel and tap it loads
``blocks`` weight vectors and broadcasts ``columns`` inputs. Widths that are no multiple of the
block cost little more than what they hold: input channels are looped exactly, and the last output
block is computed with the narrowest vector that covers it. The input may be plain NCHW (the stem)
or blocked. A 1x1 convolution with stride 1 sees the image as one long row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.kernels import inorder
from edgeprune.compiler.kernels.base import Constants, Rule, Schedule, most_columns, padded, vector_registers
from edgeprune.compiler.kernels.blocks import Groups, block_widths, groups_of
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function, tiles, when
from edgeprune.compiler.kernels.rows import Window, walk_row
from edgeprune.compiler.kernels.tile import accumulate, multiplies_by_lane
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

_LONG_ROW = 56


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
    """For a 1x1 kernel the same image as few long rows: fewer tails, and still rows enough for all threads."""
    if window.kernel == (1, 1) and window.stride == (1, 1) and window.padding == (0, 0):
        height, pixels = window.output[0], window.output[0] * window.output[1]
        rows = max(d for d in range(1, 9) if d == 1 or (height % d == 0 and pixels // d >= _LONG_ROW))
        shape = (rows, pixels // rows)
        return Window(shape, shape, (1, 1), (1, 1), (0, 0))
    return window


class DirectConv(Rule):
    """conv2d with groups = 1."""

    name = "conv_direct"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "conv2d" and spec.attr("groups") == 1

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        """Register tiles that fit, the one with the fewest estimated cycles first."""
        window = _flattened(window_of(spec))
        blocks = block_count(spec.output.channels, target.lanes)
        points = {
            (b, min(c, window.output[1]))
            for b in (1, 2, 3, 4, 6)
            for c in range(1, most_columns(b, target) + 1)
            if b <= blocks and (c <= 14 or b == 1)
        }
        ranked = sorted(points, key=lambda p: (_estimated_cycles(window, blocks, *p), -p[0], p[1]))
        found: list[Schedule] = [{"rule": self.name, "blocks": b, "columns": c} for b, c in ranked[:24]]
        if _fits_in_order(spec, window, target):
            tile = {"blocks": inorder.BLOCKS, "columns": inorder.COLUMNS}
            found.insert(1, {"rule": self.name, **tile, "in_order": True})
        return found

    def constants(self, spec: KernelSpec, schedule: Schedule, target: Target) -> list[int]:
        kh, kw = spec.attr("kernel")
        widths = block_widths(spec.output.channels, target.lanes)
        return [sum(widths) * spec.inputs[0].channels * kh * kw, len(widths) * target.lanes]

    def pack(self, spec: KernelSpec, schedule: Schedule, target: Target, weight: Any, bias: Any) -> Constants:
        """(O, C, KH, KW) -> [out block][in block][kh][kw][channel in block][lane]; the last block has its own width."""
        o, c, _, _ = weight.shape
        depth = target.lanes if spec.inputs[0].layout == "blocked" else 1
        parts: list[NDArray[np.float32]] = []
        first = 0
        for width in block_widths(o, target.lanes):
            block = np.zeros((width, *weight.shape[1:]), np.float32)
            real = weight[first : first + width]
            block[: len(real)] = real
            parts += [block[:, at : at + size].transpose(2, 3, 1, 0).reshape(-1) for at, size in tiles(c, depth)]
            first += width
        return [np.concatenate(parts), padded(bias, block_count(o, target.lanes) * target.lanes)]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        window = _flattened(window_of(spec))
        sizes = self.constants(spec, schedule, target)
        columns, step = int(schedule["columns"]), int(schedule["blocks"])
        # At other widths than it was measured with, too: only where the tile does not fit is it left to LLVM.
        in_order = bool(schedule.get("in_order")) and _fits_in_order(spec, window, target)

        def body(e: Emitter) -> None:
            for group in groups_of(block_widths(spec.output.channels, e.lanes), step):
                _block_loop(e, window, columns, group, multiplies_by_lane(target), in_order)

        return function(name, spec, target.lanes, sizes, body)


def _block_loop(e: Emitter, window: Window, columns: int, groups: Groups, by_lane: bool, in_order: bool) -> None:
    """Every output row of these groups of output blocks, in parallel."""
    batch, rows = e.spec.output.shape[0], window.output[0]
    widths = groups.widths
    with T.parallel(0, batch * groups.count * rows) as index:
        oh = index % rows
        n = index // (rows * groups.count)
        block = groups.first + (index // rows) % groups.count * len(widths)

        def tile(ow: Expr, size: int, inside: Any) -> None:
            ordered = in_order and (len(widths), size) == (inorder.BLOCKS, inorder.COLUMNS)
            _tile(e, window, n, block, widths, oh, ow, size, inside, by_lane, ordered)

        walk_row(window, columns, tile)


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
    by_lane: bool,
    in_order: bool,
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
            acc[b][t] = e.load(bias, (block + b) * lanes, w)

    def tap(in_block: Expr, size: int, row: Expr, kh: Expr, kw: Expr, inner: Sequence[int]) -> None:
        # Weights of a tap lie together; only the last block is narrow.
        first = in_block * depth * taps + (kh * kw_size + kw) * size
        at = {t: (row + window.column(ow + t, kw)) * depth for t in inner}

        def weight_at(b: int, ci: Expr) -> Expr:
            return (block + b) * (channels * taps * lanes) + (first + ci) * widths[b]

        accumulate(e, acc, widths, (x, at), (weight, weight_at), size, by_lane=by_lane)

    def whole_tap(kh: Expr, kw: Expr) -> None:
        """A tap of all full channel blocks, in assembler."""
        at = ((n * in_blocks * height + window.row(oh, kh)) * width + window.column(ow, kw)) * depth
        vectors = [((block + b) * channels * taps + (kh * kw_size + kw) * depth) * lanes for b in range(len(widths))]
        steps = height * width * depth, taps * depth * lanes
        inorder.accumulate_blocks(acc, (x, at, steps[0]), (weight, vectors, steps[1]), full)

    inner_of = [[t for t in range(columns) if inside(t, kw)] for kw in range(kw_size)]
    whole = [len(inner) == columns for inner in inner_of]

    def channel_block(in_block: Expr, size: int, wanted: Sequence[int]) -> None:
        with T.serial(0, kh_size) as kh:
            ih = window.row(oh, kh)
            row = ((n * in_blocks + in_block) * height + ih) * width
            with when(window.row_inside(ih)):
                if all(whole):
                    # A loop, not unrolled: LLVM would share inputs among the taps and run out of registers.
                    with T.serial(0, kw_size) as kw:
                        tap(in_block, size, row, kh, kw, range(columns))
                else:
                    for kw in wanted:
                        tap(in_block, size, row, kh, kw, inner_of[kw])

    full, rest = divmod(channels, depth)
    left = list(range(kw_size))
    if in_order and any(whole):
        with T.serial(0, kh_size) as kh, when(window.row_inside(window.row(oh, kh))):
            for kw in left:
                if whole[kw]:
                    whole_tap(kh, kw)
        left = [kw for kw in left if inner_of[kw] and not whole[kw]]
    if full and left:
        with T.serial(0, full) as in_block:
            channel_block(in_block, depth, left)
    if rest:
        channel_block(full, rest, range(kw_size))
    pixels = window.output[0] * window.output[1]
    for b, w in enumerate(widths):
        for t in range(columns):
            out_block = n * out_blocks + block + b
            pixel = oh * window.output[1] + ow + t
            e.store(e.output, e.epilogue(acc[b][t], out_block, pixel, w), (out_block * pixels + pixel) * lanes, w)


def _fits_in_order(spec: KernelSpec, window: Window, target: Target) -> bool:
    """Whether some tile can be computed in assembler: its columns lie together, and there are blocks of channels."""
    return (
        inorder.completes_in_order(target)
        and spec.inputs[0].layout == "blocked"
        and window.stride[1] == 1
        and window.output[1] >= inorder.COLUMNS
        and block_count(spec.output.channels, target.lanes) >= inorder.BLOCKS
        and spec.inputs[0].channels >= target.lanes
    )


def _estimated_cycles(window: Window, blocks: int, step: int, columns: int) -> float:
    """Cycles per input channel and tap for one output row: two FMA or two loads a cycle, FMA latency 4."""

    def tile(b: int, c: int) -> float:
        return max(b * c / 2, (b + c) / 2, 4.0) + 0.15

    row = sum(tile(step, size) for _, size in tiles(window.output[1], columns))
    total = (blocks // step) * row
    if rest := blocks % step:
        total += sum(tile(rest, size) for _, size in tiles(window.output[1], columns))
    return total


class DepthwiseConv(Rule):
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
        def body(e: Emitter) -> None:
            for groups in groups_of(block_widths(spec.output.channels, e.lanes), 1):
                _depthwise_planes(e, window_of(spec), int(schedule["columns"]), groups)

        return function(name, spec, target.lanes, self.constants(spec, schedule, target), body)


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
                with when(window.row_inside(ih)):
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
