"""Pooling: max and average windows, and the mean over the whole image."""

from __future__ import annotations

from typing import Any

from edgeprune.compiler.kernels.base import Rule, Schedule, vector_registers
from edgeprune.compiler.kernels.conv import window_of
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function, when
from edgeprune.compiler.kernels.rows import walk_row
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

LOWEST = -3.4028234663852886e38


class WindowPool(Rule):
    """Maxima and averages of images and volumes (dilation 1; average counts padding if ``count_include_pad``)."""

    name = "pool"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op in ("max_pool2d", "avg_pool2d", "max_pool3d", "avg_pool3d")

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        width = spec.output.shape[3]
        return [{"rule": self.name, "columns": min(width, c)} for c in (8, 4, vector_registers(target) // 2)]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        window = window_of(spec)
        largest = spec.op.startswith("max")
        (height, width), (kh_size, kw_size) = window.image, window.kernel

        def body(e: Emitter) -> None:
            lanes, rows = e.lanes, window.output[0]
            blocks = block_count(spec.output.channels, lanes)
            with T.parallel(0, spec.output.shape[0] * blocks * rows) as index:
                oh, plane = index % rows, index // rows

                def tile(ow: Expr, columns: int, inside: Any) -> None:
                    acc = e.registers(columns)
                    for t in range(columns):
                        acc[t] = e.const(LOWEST if largest else 0.0)
                    with T.serial(0, kh_size) as kh:
                        ih = window.row(oh, kh)
                        with when(window.row_inside(oh, kh)):
                            for kw in range(kw_size):
                                for t in range(columns):
                                    if inside(t, kw):
                                        at = ((plane * height + ih) * width + window.column(ow + t, kw)) * lanes
                                        tap = e.load(e.inputs[0], at)
                                        acc[t] = T.max(acc[t], tap) if largest else acc[t] + tap
                    for t in range(columns):
                        value = acc[t]
                        if not largest:
                            value = value * e.splat(self._scale(spec, oh, t, inside))
                        pixel = oh * window.output[1] + ow + t
                        value = e.epilogue(value, plane, pixel)
                        e.store(e.output, value, (plane * spec.output.pixels + pixel) * lanes)

                walk_row(window, int(schedule["columns"]), tile)

        return function(name, spec, schedule, target, [], body)

    @staticmethod
    def _scale(spec: KernelSpec, oh: Expr, t: int, inside: Any) -> Expr:
        window = window_of(spec)
        if spec.attr("count_include_pad"):
            return T.float32(1.0 / (window.kernel[0] * window.kernel[1]))
        columns = sum(bool(inside(t, kw)) for kw in range(window.kernel[1]))
        return T.float32(1.0) / (T.cast(window.rows_inside(oh), "float32") * T.float32(columns))


class GlobalPool(Rule):
    """global_avg_pool and global_max_pool: (N, C, H, W) -> (N, C, 1, 1), several partial results a block."""

    name = "global_pool"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op in ("global_avg_pool", "global_max_pool")

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name, "chains": c} for c in (4, 8, 2) if c <= spec.inputs[0].pixels] or [
            {"rule": self.name, "chains": 1}
        ]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        pixels, chains = spec.inputs[0].pixels, int(schedule["chains"])
        largest = spec.op == "global_max_pool"

        def merged(a: Expr, b: Expr) -> Expr:
            return T.max(a, b) if largest else a + b

        def body(e: Emitter) -> None:
            blocks = block_count(spec.output.channels, e.lanes)
            with T.parallel(0, spec.output.shape[0] * blocks) as plane:
                acc = e.registers(chains)
                for c in range(chains):
                    acc[c] = e.const(LOWEST if largest else 0.0)
                with T.serial(0, pixels // chains) as i:
                    for c in range(chains):
                        at = (plane * pixels + i * chains + c) * e.lanes
                        acc[c] = merged(acc[c], e.load(e.inputs[0], at))
                for c in range(pixels % chains):
                    at = (plane * pixels + pixels // chains * chains + c) * e.lanes
                    acc[c] = merged(acc[c], e.load(e.inputs[0], at))
                total = acc[0]
                for c in range(1, chains):
                    total = merged(total, acc[c])
                value = total if largest else total * e.const(1.0 / pixels)
                e.store(e.output, e.epilogue(value, plane, 0), plane * e.lanes)

        return function(name, spec, schedule, target, [], body)
