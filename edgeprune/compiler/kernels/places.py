"""Where the maxima of pooling stood, and values put back there.

Places are kept as numbers like any other: that of a pixel in its plane, row by row, exact up to 2 ** 24.
"""

from __future__ import annotations

from typing import Any

from edgeprune.compiler.kernels.base import Rule, Schedule, vector_registers
from edgeprune.compiler.kernels.conv import window_of
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function, when
from edgeprune.compiler.kernels.pool import LOWEST
from edgeprune.compiler.kernels.rows import walk_row
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


class MaxPlaces(Rule):
    """max_places2d: (N, C, H, W) -> the place of each window's maximum; of equal ones the first."""

    name = "max_places"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "max_places2d" and not spec.epilogue

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        width, most = spec.output.shape[3], vector_registers(target) // 4
        return [{"rule": self.name, "columns": c} for c in sorted({min(width, most), min(width, 2)}, reverse=True)]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        window = window_of(spec)
        (height, width), (kh_size, kw_size), rows = window.image, window.kernel, window.output[0]

        def body(e: Emitter) -> None:
            blocks = block_count(spec.output.channels, e.lanes)

            def pixel(ih: Expr, iw: Expr) -> Expr:
                return e.splat(T.cast(ih * width + iw, "float32"))

            with T.parallel(0, spec.output.shape[0] * blocks * rows) as index:
                oh, plane = index % rows, index // rows

                def tile(ow: Expr, columns: int, inside: Any) -> None:
                    best, place = e.registers(columns), e.registers(columns)
                    for t in range(columns):
                        best[t] = e.const(LOWEST)
                        # Where nothing is greater than that, torch names the window's first pixel.
                        place[t] = pixel(T.max(window.row(oh, 0), 0), T.max(window.column(ow + t, 0), 0))
                    with T.serial(0, kh_size) as kh, when(window.row_inside(oh, kh)):
                        ih = window.row(oh, kh)
                        for kw in range(kw_size):
                            for t in range(columns):
                                if inside(t, kw):
                                    iw = window.column(ow + t, kw)
                                    (tap,) = e.keep(e.load(e.inputs[0], ((plane * height + ih) * width + iw) * e.lanes))
                                    place[t] = T.Select(tap > best[t], pixel(ih, iw), place[t])
                                    best[t] = T.max(tap, best[t])
                    for t in range(columns):
                        at = plane * spec.output.pixels + oh * window.output[1] + ow + t
                        e.store(e.output, place[t], at * e.lanes)

                walk_row(window, int(schedule["columns"]), tile)

        return function(name, spec, schedule, target, [], body)


class MaxUnpool(Rule):
    """max_unpool2d: values (N, C, h, w) put where their places say, zeros elsewhere; ``kernel``, ``stride`` and
    ``padding`` of the pooling say which of them can have come from a pixel."""

    name = "max_unpool"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "max_unpool2d"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        (height, width), (rows, columns) = spec.inputs[0].shape[2:], spec.output.shape[2:]
        down, across = zip(spec.attr("kernel"), spec.attr("stride"), spec.attr("padding"), strict=True)

        def body(e: Emitter) -> None:
            planes = spec.output.shape[0] * block_count(spec.output.channels, e.lanes)
            with T.parallel(0, planes * rows) as index:
                plane, oh = index // rows, index % rows
                with T.serial(0, columns) as ow:
                    pixel = oh * columns + ow
                    here, value = e.splat(T.cast(pixel, "float32")), e.registers(1)
                    value[0] = e.const(0.0)
                    # Of several values for a pixel the last one stays, as in torch.
                    for ih in _windows(oh, height, *down):
                        for iw in _windows(ow, width, *across):
                            at = ((plane * height + ih) * width + iw) * e.lanes
                            same = e.load(e.inputs[1], at) == here
                            value[0] = T.Select(same, e.load(e.inputs[0], at), value[0])
                    result = e.epilogue(value[0], plane, pixel)
                    e.store(e.output, result, (plane * spec.output.pixels + pixel) * e.lanes)

        return function(name, spec, schedule, target, [], body)


def _windows(position: Expr, count: int, kernel: int, stride: int, padding: int) -> list[Expr]:
    """The windows along one axis that a position can be in, in order.

    One that does not exist is replaced by its neighbour, which is one of them as well or holds another place.
    """
    last = (position + padding) // stride
    return [T.min(T.max(last - behind, 0), count - 1) for behind in range(-(-kernel // stride) - 1, -1, -1)]
