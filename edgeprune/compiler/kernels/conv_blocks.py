"""1x1 convolutions that compute the stored blocks of their weights alone.

A register tile has the filters of one row of blocks and several pixels. It reads a channel's pixels where the image has
them, so nothing is gathered or copied: only the place of the channel comes from memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.kernels.base import Constants, Rule, Schedule, most_columns
from edgeprune.compiler.kernels.blocks import Groups, block_widths, groups_of
from edgeprune.compiler.kernels.conv import flattened, window_of
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, Registers, T, block_count, function, tiles
from edgeprune.compiler.kernels.rows import Window
from edgeprune.compiler.kernels.stored_blocks import (
    BIAS,
    WEIGHTS,
    blocks_of,
    drawn_places,
    packed_blocks,
    place_at,
    row_of,
    sizes_of,
    stored_of,
)
from edgeprune.compiler.kernels.tile import row_cycles, row_issued, tile_columns
from edgeprune.compiler.kernels.work import Work
from edgeprune.graph.ops.convolution import BLOCK, block_rows
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

MOST_COLUMNS = 14
"""Of a register tile: more hide nothing more."""

Tiled = list[tuple[Groups, int]]
"""Rows of blocks that share a register tile, and its columns."""


class ConvBlocks(Rule):
    """conv2d of one pixel, of blocked images, any stride.

    Two orders of the loops: by ``rows`` of blocks, whose weights stay in the nearest cache while all pixels go by, or
    by ``pixels``, a few ``tiles`` of which stay there while all weights go by.
    """

    name = "conv_blocks"
    in_blocks = True

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "conv2d" and spec.density is not None and spec.inputs[0].layout == "blocked"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        """As many columns as there are registers for, or fewer that divide a line better."""
        found: dict[str, list[int]] = {}
        for order in ("pixels", "rows"):
            width, vectors = _lines(spec, order).output[1], BLOCK // target.lanes
            most = range(1, min(width, most_columns(vectors, target), MOST_COLUMNS) + 1)
            found[order] = sorted(most, key=lambda c, w=width, v=vectors: (row_cycles(w, v, c), -c))[:2]  # type: ignore[misc]
        points: list[Schedule] = [
            {"order": "pixels", "columns": found["pixels"][0], "tiles": 4},
            {"order": "rows", "columns": found["rows"][0]},
            {"order": "pixels", "columns": found["pixels"][0], "tiles": 1},
            *({"order": "rows", "columns": c} for c in found["rows"][1:]),
        ]
        return [{"rule": self.name, **point} for point in points]

    def constants(self, spec: KernelSpec, schedule: Schedule, target: Target) -> list[int]:
        return sizes_of(spec, target)

    def pack(self, spec: KernelSpec, schedule: Schedule, target: Target, weight: Any, bias: Any) -> Constants:
        return packed_blocks(spec, target, weight, bias)

    def fixed(self, spec: KernelSpec, schedule: Schedule, target: Target) -> Mapping[int, NDArray[np.float32]]:
        return drawn_places(spec, target)

    def work(self, spec: KernelSpec, schedule: Schedule, target: Target) -> Work:
        window = _lines(spec, schedule["order"])
        rows, lines = blocks_of(spec)[0], spec.output.shape[0] * window.output[0]
        depth = stored_of(spec) / rows
        plain = super().work(spec, schedule, target)
        cycles = issued = loops = 0.0
        for group, columns in _tiled(spec, window, schedule, target):
            blocks, count = len(group.widths), group.count * lines
            cycles += count * depth * row_cycles(window.output[1], blocks, columns)
            issued += count * depth * row_issued(window.output[1], blocks, columns, 1, target)
            loops += count * len(tiles(window.output[1], columns))
        again = rows if schedule["order"] == "rows" else 1
        return replace(plain, cycles=cycles, issued=issued, loops=loops, again_bytes=again * plain.read_bytes)

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        window = _lines(spec, schedule["order"])
        groups = _tiled(spec, window, schedule, target)

        def body(e: Emitter) -> None:
            if schedule["order"] == "rows":
                _by_rows(e, window, groups)
            else:
                _by_pixels(e, window, groups, int(schedule["tiles"]))

        return function(name, spec, schedule, target, self.constants(spec, schedule, target), body)


def _by_rows(e: Emitter, window: Window, groups: Tiled) -> None:
    """Every pixel of a row of blocks after the other."""
    lines, first = window.output[0], 0
    for group, columns in groups:
        with T.parallel(0, e.spec.output.shape[0] * group.count * lines) as index:
            row, n = index // lines % group.count, index // (lines * group.count)
            whole, rest = divmod(window.output[1], columns)
            if whole:
                with T.serial(0, whole) as i:
                    _tile(e, window, group, first, row, (n, index % lines, i * columns), columns)
            if rest:
                _tile(e, window, group, first, row, (n, index % lines, whole * columns), rest)
        first += group.count


def _by_pixels(e: Emitter, window: Window, groups: Tiled, most: int) -> None:
    """Every row of blocks, for ``most`` tiles of pixels of a line after the others."""
    lines, columns = window.output[0], min(columns for _, columns in groups)
    every, (whole, rest) = e.spec.output.shape[0] * lines, divmod(window.output[1], columns)

    def all_rows(line: Expr, begin: Expr, count: int, size: int) -> None:
        """For ``count`` tiles of ``size`` pixels from column ``begin`` of a line on."""
        first = 0
        for group, _ in groups:
            with T.serial(0, group.count) as row, T.serial(0, count) as tile:
                _tile(e, window, group, first, row, (line // lines, line % lines, begin + tile * size), size)
            first += group.count

    many = min(most, max(whole, 1))
    stretches, left = divmod(whole, many)
    if stretches:
        with T.parallel(0, every * stretches) as index:
            all_rows(index // stretches, index % stretches * (many * columns), many, columns)
    for begin, count, size in ((stretches * many, left, columns), (whole, 1 if rest else 0, rest)):
        if count:
            with T.parallel(0, every) as index:
                all_rows(index, begin * columns, count, size)


def _lines(spec: KernelSpec, order: str) -> Window:
    """The image as the kernel goes through it: without a stride as few long lines, by pixels as one."""
    window = window_of(spec)
    if order == "rows" or not window.single_pixel:
        return flattened(window)
    shape = (1, window.output[0] * window.output[1])
    return Window(shape, shape, (1, 1), (1, 1), (0, 0))


def _tiled(spec: KernelSpec, window: Window, schedule: Schedule, target: Target) -> Tiled:
    """Rows of blocks that share a register tile, and the columns of each one's tiles."""
    groups = groups_of(block_widths(spec.output.channels, target.lanes), BLOCK // target.lanes)
    return [(g, tile_columns(g.widths, int(schedule["columns"]), window.output[1], target)) for g in groups]


def _tile(
    e: Emitter, window: Window, group: Groups, first: int, row: Expr, at: tuple[Expr, Expr, Expr], size: int
) -> None:
    """``size`` pixels from ``at`` (sample, line, column) on, of a row of blocks of a group that begins at row
    ``first``.
    """
    spec, lanes, (n, oh, ow) = e.spec, e.lanes, at
    planes, pixels = block_count(spec.inputs[0].channels, lanes), window.image[0] * window.image[1]
    block = group.first + row * len(group.widths)
    acc = [e.registers(size, w) for w in group.widths]
    for b, w in enumerate(group.widths):
        for t in range(size):
            acc[b][t] = e.load(e.constants[BIAS], (block + b) * lanes, w)
    start = n * planes * pixels + window.row(oh, 0) * window.image[1]
    reads = [(start + window.column(ow + t, 0)) * lanes for t in range(size)]
    _accumulate(e, acc, group.widths, first + row, reads)
    plane = n * block_count(spec.output.channels, lanes) + block
    for b, w in enumerate(group.widths):
        for t in range(size):
            pixel = oh * window.output[1] + ow + t
            value = e.epilogue(acc[b][t], plane + b, pixel, w)
            e.store(e.output, value, ((plane + b) * spec.output.pixels + pixel) * lanes, w)


def _accumulate(e: Emitter, acc: list[Registers], widths: tuple[int, ...], row: Expr, at: list[Expr]) -> None:
    """``acc[vector][column] += weight[block, vector] * x[column, block]`` for all blocks of a row."""
    begin, count = row_of(e, row)
    with T.serial(0, count) as k:
        place = place_at(e, block_rows(e.spec.output.channels) + 1 + begin + k)
        vectors = [e.load(e.constants[WEIGHTS], (begin + k) * BLOCK + b * e.lanes, w) for b, w in enumerate(widths)]
        for t, start in enumerate(at):
            for b, w in enumerate(widths):
                acc[b][t] = acc[b][t] + e.splat(e.inputs[0][start + place], w) * vectors[b]
