"""1x1 convolutions that compute the stored blocks of their weights alone.

A register tile has the filters of one row of blocks and several pixels. It reads a channel's pixels where the image has
them, so nothing is gathered or copied: only the place of the channel comes from memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgeprune.compiler.kernels.base import Schedule, most_columns
from edgeprune.compiler.kernels.blocks import Groups, block_widths, groups_of
from edgeprune.compiler.kernels.conv import flattened, window_of
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, Registers, T, block_count, function, tiles
from edgeprune.compiler.kernels.rows import Window, walk_row
from edgeprune.compiler.kernels.stored_blocks import BIAS, WEIGHTS, StoredBlocks, blocks_of, place_at, row_of, stored_of
from edgeprune.compiler.kernels.tile import row_cycles, row_issued, tile_columns
from edgeprune.compiler.kernels.work import Work
from edgeprune.graph.ops.convolution import BLOCK, block_rows
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


class ConvBlocks(StoredBlocks):
    """conv2d of one pixel, of blocked images, any stride."""

    name = "conv_blocks"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "conv2d" and spec.density is not None and spec.inputs[0].layout == "blocked"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        """As many columns as there are registers for, and fewer that divide a row better."""
        width, vectors = flattened(window_of(spec)).output[1], BLOCK // target.lanes
        most = min(width, most_columns(vectors, target), 14)
        ranked = sorted(range(1, most + 1), key=lambda c: (row_cycles(width, vectors, c), -c))
        return [{"rule": self.name, "columns": c} for c in ranked[:3]]

    def work(self, spec: KernelSpec, schedule: Schedule, target: Target) -> Work:
        window = flattened(window_of(spec))
        rows, images = blocks_of(spec)[0], spec.output.shape[0] * window.output[0]
        depth = stored_of(spec) / rows
        plain = super().work(spec, schedule, target)
        cycles = issued = loops = 0.0
        for group, columns in _tiled(spec, window, schedule, target):
            blocks, count = len(group.widths), group.count * images
            cycles += count * depth * row_cycles(window.output[1], blocks, columns)
            issued += count * depth * row_issued(window.output[1], blocks, columns, 1, target)
            loops += count * len(tiles(window.output[1], columns))
        # Of a channel that few filters read, the pixels of others come along with its own.
        return replace(plain, cycles=cycles, issued=issued, loops=loops, again_bytes=rows * plain.read_bytes)

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        window = flattened(window_of(spec))

        def body(e: Emitter) -> None:
            row = 0
            for group, columns in _tiled(spec, window, schedule, target):
                _conv_rows(e, window, group, columns, row)
                row += group.count

        return function(name, spec, schedule, target, self.constants(spec, schedule, target), body)


def _tiled(spec: KernelSpec, window: Window, schedule: Schedule, target: Target) -> list[tuple[Groups, int]]:
    """Rows of blocks that share a register tile, and the columns of each one's tiles."""
    groups = groups_of(block_widths(spec.output.channels, target.lanes), BLOCK // target.lanes)
    return [(g, tile_columns(g.widths, int(schedule["columns"]), window.output[1], target)) for g in groups]


def _conv_rows(e: Emitter, window: Window, group: Groups, columns: int, first: int) -> None:
    """Every pixel of these rows of blocks, the first of which is row ``first`` of all, in parallel."""
    spec, lanes, lines = e.spec, e.lanes, window.output[0]
    planes, pixels = block_count(spec.inputs[0].channels, lanes), window.image[0] * window.image[1]
    out_planes = block_count(spec.output.channels, lanes)
    with T.parallel(0, spec.output.shape[0] * group.count * lines) as index:
        oh, n = index % lines, index // (lines * group.count)
        row = index // lines % group.count
        plane = n * out_planes + group.first + row * len(group.widths)
        bias_at = (group.first + row * len(group.widths)) * lanes

        def tile(ow: Expr, size: int, inside: Any) -> None:
            acc = [e.registers(size, w) for w in group.widths]
            for b, w in enumerate(group.widths):
                for t in range(size):
                    acc[b][t] = e.load(e.constants[BIAS], bias_at + b * lanes, w)
            start = n * planes * pixels + window.row(oh, 0) * window.image[1]
            at = [(start + window.column(ow + t, 0)) * lanes for t in range(size)]
            _accumulate(e, acc, group.widths, first + row, at)
            for b, w in enumerate(group.widths):
                for t in range(size):
                    pixel = oh * window.output[1] + ow + t
                    value = e.epilogue(acc[b][t], plane + b, pixel, w)
                    e.store(e.output, value, ((plane + b) * spec.output.pixels + pixel) * lanes, w)

        walk_row(window, columns, tile)


def _accumulate(e: Emitter, acc: list[Registers], widths: tuple[int, ...], row: Expr, at: list[Expr]) -> None:
    """``acc[vector][column] += weight[block, vector] * x[column, block]`` for all blocks of a row."""
    begin, count = row_of(e, row)
    with T.serial(0, count) as k:
        place = place_at(e, block_rows(e.spec.output.channels) + 1 + begin + k)
        vectors = [e.load(e.constants[WEIGHTS], (begin + k) * BLOCK + b * e.lanes, w) for b, w in enumerate(widths)]
        for t, start in enumerate(at):
            for b, w in enumerate(widths):
                acc[b][t] = acc[b][t] + e.splat(e.inputs[0][start + place], w) * vectors[b]
