"""Direct convolution in blocked layout, with a register tile of output channels by columns.

One tile keeps ``blocks * columns`` vector accumulators; per input channel and tap it loads
``blocks`` weight vectors and broadcasts ``columns`` inputs. Widths that are no multiple of the
block cost little more than what they hold: input channels are looped exactly, and the last output
block is computed with the narrowest vector that covers it. The input may be plain NCHW (the stem)
or blocked. A 1x1 convolution with stride 1 sees the image as one long row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.kernels import inorder
from edgeprune.compiler.kernels.base import Constants, Rule, Schedule, most_columns, padded
from edgeprune.compiler.kernels.blocks import Groups, block_widths, groups_of
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function, tiles, when
from edgeprune.compiler.kernels.rows import Volume, Window, walk_row
from edgeprune.compiler.kernels.tile import (
    accumulate,
    apart,
    multiplies_by_lane,
    row_cycles,
    short_of_registers,
    tile_columns,
    tile_cycles,
    tile_issued,
)
from edgeprune.compiler.kernels.work import Work
from edgeprune.graph.spec import CONVOLUTIONS, KernelSpec
from edgeprune.targets import Target

_LONG_ROW = 56


def window_of(spec: KernelSpec) -> Window:
    """The sliding window of a spec of a convolution or of pooling, of images or of volumes."""
    kernel, stride, padding = (spec.attr(a) for a in ("kernel", "stride", "padding"))
    dilation: tuple[int, ...] = spec.attr("dilation") if spec.op in CONVOLUTIONS else (1,) * len(kernel)
    image, output = spec.inputs[0].shape[2:], spec.output.shape[2:]
    if len(kernel) == 2:
        sizes = (image[0], image[1]), (output[0], output[1])
        return Window(*sizes, kernel, stride, padding, (dilation[0], dilation[1]))
    (before, after), axes = spec.attr("slices"), list(zip(kernel, stride, padding, dilation, strict=True))
    across = Window((before, 1), (after, 1), *((n, beside) for n, beside in zip(axes[0], (1, 1, 0, 1), strict=True)))
    sizes = (image[0] // before, image[1]), (output[0] // after, output[1])
    return Volume.of(across, Window(*sizes, *zip(axes[1], axes[2], strict=True)))


def taps_of(spec: KernelSpec) -> int:
    """Weights that a filter of a convolution has for each channel."""
    return math.prod(spec.attr("kernel"))


@dataclass(frozen=True, slots=True)
class Part:
    """A sliding window whose results lie ``step`` apart in the output image, from ``start`` on.

    A convolution is one part; a transposed one of stride s is s * s of them.
    """

    window: Window
    row: int  # pixels of a row of the output image
    start: tuple[int, int] = (0, 0)
    step: tuple[int, int] = (1, 1)
    taps_before: int = 0  # of the parts whose weights come first

    def pixel(self, oh: Expr, ow: Expr) -> Expr:
        """Where result (``oh``, ``ow``) of the window lies in the output image."""
        return (self.start[0] + oh * self.step[0]) * self.row + self.start[1] + ow * self.step[1]


def _rows_inside(window: Window) -> float:
    """Share of the rows that a filter's taps read that lie inside the image."""
    outputs, taps = window.output[0], window.kernel[0]
    places = [int(window.row(oh, kh)) for oh in range(outputs) for kh in range(taps)]
    return sum(0 <= place < window.image[0] for place in places) / len(places)


def flattened(window: Window) -> Window:
    """For a 1x1 kernel the same image as few long rows: fewer tails, and still rows enough for all threads."""
    if window.single_pixel:
        height, pixels = window.output[0], window.output[0] * window.output[1]
        rows = max(d for d in range(1, 9) if d == 1 or (height % d == 0 and pixels // d >= _LONG_ROW))
        shape = (rows, pixels // rows)
        return Window(shape, shape, (1, 1), (1, 1), (0, 0))
    return window


class DirectConv(Rule):
    """conv2d and conv3d with groups = 1."""

    name = "conv_direct"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op in CONVOLUTIONS and spec.attr("groups") == 1

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        """Register tiles that fit, the one with the fewest estimated cycles first."""
        window = flattened(window_of(spec))
        ranked = register_tiles(window.output[1], spec.output.channels, target)
        found: list[Schedule] = [{"rule": self.name, "blocks": b, "columns": c} for b, c in ranked]
        if _fits_in_order(spec, window, target):
            tile = {"blocks": inorder.BLOCKS, "columns": inorder.COLUMNS}
            found.insert(1, {"rule": self.name, **tile, "in_order": True})
        return found

    def constants(self, spec: KernelSpec, schedule: Schedule, target: Target) -> list[int]:
        widths = block_widths(spec.output.channels, target.lanes)
        return [sum(widths) * spec.inputs[0].channels * taps_of(spec), len(widths) * target.lanes]

    def pack(self, spec: KernelSpec, schedule: Schedule, target: Target, weight: Any, bias: Any) -> Constants:
        """(O, C, KH, KW) -> [out block][in block][kh][kw][channel in block][lane]; the last block has its own width."""
        return [packed(spec, target, np.asarray(weight)), padded_bias(spec, target, bias)]

    def work(self, spec: KernelSpec, schedule: Schedule, target: Target) -> Work:
        window, channels, taps = flattened(window_of(spec)), spec.inputs[0].channels, taps_of(spec)
        depth = target.lanes if spec.inputs[0].layout == "blocked" else 1
        rows = spec.output.shape[0] * window.output[0]
        inside = _rows_inside(window)
        plain = super().work(spec, schedule, target)
        cycles = issued = loops = stores = times = 0.0
        for group, columns in tiled(spec.output.channels, window.output[1], schedule, target):
            blocks, times = len(group.widths), times + group.count
            for _, size in tiles(window.output[1], columns):
                count = group.count * rows
                cycles += count * channels * taps * inside * tile_cycles(blocks, size)
                issued += count * taps * inside * tile_issued(blocks, size, channels, target, blocked=depth > 1)
                loops += count * taps * inside * block_count(channels, depth)
                stores += count * blocks * size
        return replace(
            plain, cycles=cycles, issued=issued, loops=loops, stores=stores, again_bytes=times * plain.read_bytes
        )

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        window = flattened(window_of(spec))
        sizes = self.constants(spec, schedule, target)
        # At other widths than it was measured with, too: only where the tile does not fit is it left to LLVM.
        in_order = bool(schedule.get("in_order")) and _fits_in_order(spec, window, target)

        def body(e: Emitter) -> None:
            write_part(e, Part(window, window.output[1]), schedule, target, in_order=in_order)

        return function(name, spec, schedule, target, sizes, body)


def packed(spec: KernelSpec, target: Target, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(O, C, KH, KW) -> [out block][in block][kh][kw][channel in block][lane]; the last block has its own width."""
    o, c = weight.shape[:2]
    depth = target.lanes if spec.inputs[0].layout == "blocked" else 1
    parts: list[NDArray[np.float32]] = []
    first = 0
    for width in block_widths(o, target.lanes):
        block = np.zeros((width, *weight.shape[1:]), np.float32)
        real = weight[first : first + width]
        block[: len(real)] = real
        parts += [block[:, at : at + size].transpose(2, 3, 1, 0).reshape(-1) for at, size in tiles(c, depth)]
        first += width
    return np.concatenate(parts)


def padded_bias(spec: KernelSpec, target: Target, bias: Any) -> NDArray[np.float32]:
    """The bias (None: zeros) up to the end of the last block."""
    return padded(bias, block_count(spec.output.channels, target.lanes) * target.lanes)


def write_part(e: Emitter, part: Part, schedule: Schedule, target: Target, *, in_order: bool = False) -> None:
    """All results of one part, with the schedule's register tile; ``in_order`` where it fits: in assembler."""
    for group, columns in tiled(e.spec.output.channels, part.window.output[1], schedule, target):
        _block_loop(e, part, columns, group, target, in_order)


def tiled(channels: int, width: int, schedule: Schedule, target: Target) -> list[tuple[Groups, int]]:
    """Groups of output blocks that share a register tile, and the columns of each one's tiles."""
    groups = groups_of(block_widths(channels, target.lanes), int(schedule["blocks"]))
    return [(group, tile_columns(group.widths, int(schedule["columns"]), width, target)) for group in groups]


def _block_loop(e: Emitter, part: Part, columns: int, groups: Groups, target: Target, in_order: bool) -> None:
    """Every output row of these groups of output blocks, in parallel."""
    window, widths = part.window, groups.widths
    batch, rows = e.spec.output.shape[0], window.output[0]
    with T.parallel(0, batch * groups.count * rows) as index:
        oh = index % rows
        n = index // (rows * groups.count)
        block = groups.first + (index // rows) % groups.count * len(widths)

        def tile(ow: Expr, size: int, inside: Any) -> None:
            ordered = in_order and (len(widths), size) == (inorder.BLOCKS, inorder.COLUMNS)
            _tile(e, part, n, block, widths, oh, ow, size, inside, target, ordered)

        walk_row(window, columns, tile)


def _tile(
    e: Emitter,
    part: Part,
    n: Expr,
    block: Expr,
    widths: tuple[int, ...],
    oh: Expr,
    ow: Expr,
    columns: int,
    inside: Any,
    target: Target,
    in_order: bool,
) -> None:
    """One register tile: accumulate over all input channels and taps, apply the epilogue, store."""
    spec, lanes, window = e.spec, e.lanes, part.window
    x, (weight, bias) = e.inputs[0], e.constants
    channels = spec.inputs[0].channels
    weights_at = part.taps_before * channels * sum(block_widths(spec.output.channels, lanes))
    depth = lanes if spec.inputs[0].layout == "blocked" else 1
    in_blocks, out_blocks = block_count(channels, depth), block_count(spec.output.channels, lanes)
    (height, width), (kh_size, kw_size) = window.image, window.kernel
    taps = kh_size * kw_size
    by_lane, short = multiplies_by_lane(target), short_of_registers(target)
    acc = [e.registers(columns, w) for w in widths]
    for b, w in enumerate(widths):
        for t in range(columns):
            acc[b][t] = e.load(bias, (block + b) * lanes, w)

    def tap(in_block: Expr, size: int, row: Expr, kh: Expr, kw: Expr, inner: Sequence[int]) -> None:
        # Weights of a tap lie together; only the last block is narrow.
        first = in_block * depth * taps + (kh * kw_size + kw) * size
        at = {t: (row + window.column(ow + t, kw)) * depth for t in inner}

        def weight_at(b: int, ci: Expr) -> Expr:
            return weights_at + (block + b) * (channels * taps * lanes) + (first + ci) * widths[b]

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
            with when(window.row_inside(oh, kh)):
                if all(whole):
                    # A loop, not unrolled: LLVM would share inputs among the taps and run out of registers.
                    with T.serial(0, kw_size) as kw:
                        tap(in_block, size, row, kh, kw, range(columns))
                        if short and depth == 1:
                            apart(e, acc, widths, columns)
                else:
                    for kw in wanted:
                        tap(in_block, size, row, kh, kw, inner_of[kw])
                        if short:
                            apart(e, acc, widths, columns)

    full, rest = divmod(channels, depth)
    left = list(range(kw_size))
    if in_order and any(whole):
        with T.serial(0, kh_size) as kh, when(window.row_inside(oh, kh)):
            for kw in left:
                if whole[kw]:
                    whole_tap(kh, kw)
        left = [kw for kw in left if inner_of[kw] and not whole[kw]]
    if taps and full and left:
        with T.serial(0, full) as in_block:
            channel_block(in_block, depth, left)
    if taps and rest:
        channel_block(full, rest, range(kw_size))
    for b, w in enumerate(widths):
        for t in range(columns):
            plane, pixel = n * out_blocks + block + b, part.pixel(oh, ow + t)
            e.store(e.output, e.epilogue(acc[b][t], plane, pixel, w), (plane * spec.output.pixels + pixel) * lanes, w)


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


def register_tiles(width: int, channels: int, target: Target) -> list[tuple[int, int]]:
    """(blocks, columns) for rows of ``width`` results, the one with the fewest estimated cycles first."""
    blocks = block_count(channels, target.lanes)
    points = {
        (b, min(c, width))
        for b in (1, 2, 3, 4, 6)
        for c in range(1, most_columns(b, target) + 1)
        if b <= blocks and (c <= 14 or b == 1)
    }
    return sorted(points, key=lambda p: (_estimated_cycles(width, blocks, *p), -p[0], p[1]))[:24]


def _estimated_cycles(width: int, blocks: int, step: int, columns: int) -> float:
    """Cycles per input channel and tap for one output row."""
    whole, rest = divmod(blocks, step)
    return whole * row_cycles(width, step, columns) + (row_cycles(width, rest, columns) if rest else 0.0)
