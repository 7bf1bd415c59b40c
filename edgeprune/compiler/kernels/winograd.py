"""Winograd convolution F(m x m, 3 x 3): fewer multiplications for 3x3 kernels with stride 1.

Source: Lavin and Gray 2016, arXiv:1509.09308. The image is cut into tiles of m x m outputs; each
tile's inputs are transformed, every one of the ``(m + 2) ** 2`` transformed points is a matrix
product over channels, and the products are transformed back. F(4 x 4) needs 4 times fewer
multiplications than the direct kernel and stores 4 times its weights, F(2 x 2) 2.25 and 1.8.

The image goes through in strips of whole tile rows, so that a strip's points stay in the cache;
their place is the kernel's scratch buffer. Points of the products lie blocked like images:
``[point][channel block][tile][lane]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.kernels.base import Constants, Rule, Schedule, most_columns, padded
from edgeprune.compiler.kernels.blocks import Groups, block_widths, groups_of
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function, tiles, when
from edgeprune.compiler.kernels.rows import Window, walk_row
from edgeprune.compiler.kernels.tile import accumulate, multiplies_by_lane, row_cycles, row_issued, tile_columns
from edgeprune.compiler.kernels.work import FLOAT_BYTES, Work
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

_NEAR, _FAR = 3 / 4, 3 / 2
"""Interpolation points of F(4 x 4) are 0, these with both signs, and infinity. With the paper's 1 and 2 the
result is 2.5 times as far from the exact one; these also are exact in binary (docs/DECISIONS.md)."""


def kernel_transform(m: int) -> NDArray[np.float64]:
    """G of the paper, (m + 2, 3)."""
    if m == 2:
        return np.array([(1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)])
    a, b = _NEAR, _FAR
    near, far = 2 * a**2 * (a**2 - b**2), 2 * b**2 * (b**2 - a**2)
    points = [(a, near), (-a, near), (b, far), (-b, far)]
    return np.array([(1 / (a * b) ** 2, 0, 0), *((1 / n, p / n, p**2 / n) for p, n in points), (0, 0, 1)])


def input_transform(e: Emitter, d: Sequence[Expr]) -> list[Expr]:
    """One line of inputs times the paper's B transposed."""
    if len(d) == 4:
        return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]
    a, b = _NEAR, _FAR
    aa, bb, both, product = (e.const(v) for v in (a**2, b**2, a**2 + b**2, (a * b) ** 2))
    near_even, near_odd = e.keep(d[4] - bb * d[2], e.const(a) * (d[3] - bb * d[1]))
    far_even, far_odd = e.keep(d[4] - aa * d[2], e.const(b) * (d[3] - aa * d[1]))
    return [
        product * d[0] - both * d[2] + d[4],
        near_even + near_odd,
        near_even - near_odd,
        far_even + far_odd,
        far_even - far_odd,
        product * d[1] - both * d[3] + d[5],
    ]


def output_transform(e: Emitter, p: Sequence[Expr], lanes: int) -> list[Expr]:
    """One line of products times the paper's A transposed."""
    if len(p) == 4:
        return [p[0] + p[1] + p[2], p[1] - p[2] - p[3]]
    near, far = ([e.const(v**k, lanes) for k in range(4)] for v in (_NEAR, _FAR))
    sum1, diff1, sum2, diff2 = e.keep(p[1] + p[2], p[1] - p[2], p[3] + p[4], p[3] - p[4], lanes=lanes)
    return [
        p[0] + sum1 + sum2,
        near[1] * diff1 + far[1] * diff2,
        near[2] * sum1 + far[2] * sum2,
        near[3] * diff1 + far[3] * diff2 + p[5],
    ]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Geometry of one schedule; tiles are counted as (down, across)."""

    spec: KernelSpec
    lanes: int
    m: int
    rows: int  # tile rows of a strip

    @property
    def side(self) -> int:
        return self.m + 2

    @property
    def points(self) -> int:
        return self.side**2

    @property
    def window(self) -> Window:
        """A tile's inputs as a sliding window over the image."""
        (h, w), (oh, ow) = self.spec.inputs[0].shape[2:], self.spec.output.shape[2:]
        across = (-(-oh // self.m), -(-ow // self.m))
        side = (self.side, self.side)
        return Window((h, w), across, side, (self.m, self.m), self.spec.attr("padding"))

    @property
    def tiles(self) -> int:
        """Tiles of a strip."""
        return self.rows * self.window.output[1]

    def plane(self, channels: int) -> int:
        """Elements from one point to the next: a vector more than there are, or points would share cache sets."""
        return (block_count(channels, self.lanes) * self.tiles + 1) * self.lanes

    @property
    def products_at(self) -> int:
        """Where the products begin in the scratch buffer, behind the transformed inputs."""
        return self.points * self.plane(self.spec.inputs[0].channels)

    @property
    def scratch(self) -> int:
        return self.products_at + self.points * self.plane(self.spec.output.channels)


def _plan(spec: KernelSpec, schedule: Schedule, target: Target) -> _Plan:
    """The schedule's plan; strips that would not end with the image are one tile row high."""
    m, rows = int(schedule["m"]), int(schedule["rows"])
    one = _Plan(spec, target.lanes, m, 1)
    return one if one.window.output[0] % rows else _Plan(spec, target.lanes, m, rows)


class WinogradConv(Rule):
    """conv2d, 3x3, stride 1, groups = 1, from a blocked image."""

    name = "conv_winograd"

    def matches(self, spec: KernelSpec) -> bool:
        return (
            spec.op == "conv2d"
            and spec.attr("groups") == 1
            and (spec.attr("kernel"), spec.attr("stride"), spec.attr("dilation")) == ((3, 3), (1, 1), (1, 1))
            and spec.inputs[0].layout == spec.output.layout == "blocked"
            and min(spec.output.shape[2:]) >= 4
        )

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        blocks = block_count(spec.output.channels, target.lanes)
        found: list[Schedule] = []
        for m in (4, 2):
            down, across = _Plan(spec, target.lanes, m, 1).window.output
            # Strips of about 1, 2 and 4 times the tiles that fill the registers, and the whole image.
            wanted = {min((r for r in range(1, down + 1) if not down % r), key=lambda r: abs(r * across - n))
                      for n in (28, 56, 112, down * across)}  # fmt: skip
            for rows in sorted(wanted, reverse=True):
                columns = rows * across
                best = sorted(
                    ((b, min(most_columns(b, target), columns, 14)) for b in (1, 2, 3, 4, 6) if b <= blocks),
                    key=lambda p: -min(p[0] * p[1] / (p[0] + p[1]), 3.5) * columns / (-(-columns // p[1]) * p[1]),
                )
                found += [{"rule": self.name, "m": m, "rows": rows, "blocks": b, "columns": c} for b, c in best[:2]]
        return found

    def constants(self, spec: KernelSpec, schedule: Schedule, target: Target) -> list[int]:
        widths = block_widths(spec.output.channels, target.lanes)
        points = (int(schedule["m"]) + 2) ** 2
        return [points * spec.inputs[0].channels * sum(widths), len(widths) * target.lanes]

    def pack(self, spec: KernelSpec, schedule: Schedule, target: Target, weight: Any, bias: Any) -> Constants:
        """(O, C, 3, 3) -> transformed [point][out block][in channel][lane]; the last block has its own width."""
        o, c = weight.shape[:2]
        g = kernel_transform(int(schedule["m"]))
        points = np.einsum("xi,ocij,yj->xyco", g, np.asarray(weight, np.float64), g).reshape(-1, c, o)
        widths = block_widths(o, target.lanes)
        whole = np.zeros((len(points), c, sum(widths)), np.float32)
        whole[:, :, :o] = points
        parts: list[NDArray[np.float32]] = np.split(whole, np.cumsum(widths)[:-1], axis=2)
        packed = np.concatenate([p.reshape(len(points), -1) for p in parts], axis=1).reshape(-1)
        return [packed, padded(bias, len(widths) * target.lanes)]

    def scratch(self, spec: KernelSpec, schedule: Schedule, target: Target) -> int:
        return _plan(spec, schedule, target).scratch

    def work(self, spec: KernelSpec, schedule: Schedule, target: Target) -> Work:
        """The products as a direct kernel's tiles; transforms of results as stores of vectors, and those of inputs as
        what is gone through again: an input tile takes other work than a result's.
        """
        plan, plain = _plan(spec, schedule, target), super().work(spec, schedule, target)
        channels, strips = spec.inputs[0].channels, spec.output.shape[0] * plan.window.output[0] // plan.rows
        blocks_in = block_count(channels, target.lanes)
        cycles = issued = loops = 0.0
        for group in groups_of(block_widths(spec.output.channels, target.lanes), int(schedule["blocks"])):
            count = strips * plan.points * group.count
            columns = tile_columns(group.widths, int(schedule["columns"]), plan.tiles, target)
            cycles += count * channels * row_cycles(plan.tiles, len(group.widths), columns)
            issued += count * row_issued(plan.tiles, len(group.widths), columns, channels, target)
            loops += count * blocks_in * len(tiles(plan.tiles, columns))
        transformed = strips * plan.tiles * plan.points
        stores = transformed * block_count(spec.output.channels, target.lanes)
        again = transformed * blocks_in * target.lanes * FLOAT_BYTES
        return replace(plain, cycles=cycles, issued=issued, loops=loops, stores=stores, again_bytes=again)

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        plan = _plan(spec, schedule, target)
        groups = groups_of(block_widths(spec.output.channels, target.lanes), int(schedule["blocks"]))

        def body(e: Emitter) -> None:
            strips = plan.window.output[0] // plan.rows
            with T.serial(0, spec.output.shape[0] * strips) as index:
                n, first = index // strips, index % strips * plan.rows
                _transform_inputs(e, plan, n, first)
                for group in groups:
                    _multiply(e, plan, group, int(schedule["columns"]), target)
                _transform_products(e, plan, n, first)

        constants = self.constants(spec, schedule, target)
        return function(name, spec, schedule, target, constants, body, scratch=plan.scratch)


def _transform_inputs(e: Emitter, plan: _Plan, n: Expr, first: Expr) -> None:
    """Every tile of a strip, all channel blocks: image -> points."""
    with T.parallel(0, block_count(plan.spec.inputs[0].channels, e.lanes) * plan.rows) as index:
        row, block = index % plan.rows, index // plan.rows

        def tile(across: Expr, _: int, inside: Any) -> None:
            _input_tile(e, plan, n, block, first, row, across, inside)

        walk_row(plan.window, 1, tile)


def _input_tile(
    e: Emitter, plan: _Plan, n: Expr, block: Expr, first: Expr, row: Expr, across: Expr, inside: Any
) -> None:
    """One tile in ``row`` of the strip that begins with the tile row ``first``."""
    window, side, lanes = plan.window, plan.side, e.lanes
    height, width = window.image
    channels = plan.spec.inputs[0].channels
    image, plane = n * block_count(channels, lanes) + block, plan.plane(channels)
    lines = []
    for r in range(side):
        ih = window.row(first + row, r)
        condition = window.row_inside(first + row, r)
        # A line beside the image is read from inside and then left out, which is quicker than a branch.
        real = ih if condition is None else T.min(T.max(ih, 0), height - 1)
        line = []
        for c in range(side):
            value = e.const(0.0)
            if inside(0, c):
                value = e.load(e.inputs[0], ((image * height + real) * width + window.column(across, c)) * lanes)
                if condition is not None:
                    value = T.Select(condition, value, e.const(0.0))
            line.append(value)
        lines.append(e.keep(*input_transform(e, e.keep(*line))))
    at = (block * plan.tiles + row * window.output[1] + across) * lanes
    for c in range(side):
        for r, value in enumerate(input_transform(e, [line[c] for line in lines])):
            e.store(e.scratch, value, (r * side + c) * plane + at)


def _multiply(e: Emitter, plan: _Plan, group: Groups, columns: int, target: Target) -> None:
    """The matrix products of a strip for ``group``'s output blocks."""
    by_lane, columns = multiplies_by_lane(target), tile_columns(group.widths, columns, plan.tiles, target)
    lanes, count = e.lanes, plan.tiles
    channels, out = plan.spec.inputs[0].channels, plan.spec.output.channels
    stride = channels * sum(block_widths(out, lanes))  # of the weights, from point to point
    with T.parallel(0, plan.points * group.count) as index:
        point = index // group.count
        block = group.first + index % group.count * len(group.widths)
        x_at, y_at = point * plan.plane(channels), plan.products_at + point * plan.plane(out)

        def tile(first: Expr, size: int) -> None:
            acc = [e.registers(size, w) for w in group.widths]
            for b, w in enumerate(group.widths):
                for t in range(size):
                    acc[b][t] = e.const(0.0, w)

            def channel_block(in_block: Expr, depth: int) -> None:
                at = {t: x_at + (in_block * count + first + t) * lanes for t in range(size)}

                def weight_at(b: int, ci: Expr) -> Expr:
                    channel = in_block * lanes + ci
                    return point * stride + (block + b) * channels * lanes + channel * group.widths[b]

                values, weights = (e.scratch, at), (e.constants[0], weight_at)
                accumulate(e, acc, group.widths, values, weights, depth, by_lane=by_lane)

            full, rest = divmod(channels, lanes)
            if full:
                with T.serial(0, full) as in_block:
                    channel_block(in_block, lanes)
            if rest:
                channel_block(full, rest)
            for b, w in enumerate(group.widths):
                for t in range(size):
                    e.store(e.scratch, acc[b][t], y_at + ((block + b) * count + first + t) * lanes, w)

        whole = count // columns
        if whole:
            with T.serial(0, whole) as i:
                tile(i * columns, columns)
        if rest := count - whole * columns:
            tile(whole * columns, rest)


def _transform_products(e: Emitter, plan: _Plan, n: Expr, first: Expr) -> None:
    """Every tile of a strip, all channel blocks: products -> image, with bias and epilogue."""
    width = plan.spec.output.shape[3]
    for group in groups_of(block_widths(plan.spec.output.channels, e.lanes), 1):
        with T.parallel(0, group.count * plan.rows) as index:
            row, block = index % plan.rows, group.first + index // plan.rows
            if width // plan.m:
                with T.serial(0, width // plan.m) as column:
                    _output_tile(e, plan, n, block, group.widths[0], first, row, column, plan.m)
            if rest := width % plan.m:
                _output_tile(e, plan, n, block, group.widths[0], first, row, width // plan.m, rest)


def _output_tile(
    e: Emitter, plan: _Plan, n: Expr, block: Expr, lanes: int, first: Expr, row: Expr, column: Expr, size: int
) -> None:
    """``size`` columns of the tile in ``row`` of the strip that begins with the tile row ``first``."""
    spec, side, m = plan.spec, plan.side, plan.m
    height, width = spec.output.shape[2:]
    plane, image = plan.plane(spec.output.channels), n * block_count(spec.output.channels, e.lanes) + block
    at = plan.products_at + (block * plan.tiles + row * plan.window.output[1] + column) * e.lanes
    lines = []
    for r in range(side):
        values = [e.load(e.scratch, (r * side + c) * plane + at, lanes) for c in range(side)]
        lines.append(e.keep(*output_transform(e, values, lanes)[:size], lanes=lanes))
    bias = e.load(e.constants[1], block * e.lanes, lanes)
    for c in range(size):
        for r, value in enumerate(e.keep(*output_transform(e, [line[c] for line in lines], lanes), lanes=lanes)):
            oh = (first + row) * m + r
            with when(oh < height if height % m else None):
                pixel = oh * width + column * m + c
                done = e.epilogue(value + bias, image, pixel, lanes)
                e.store(e.output, done, (image * height * width + pixel) * e.lanes, lanes)
