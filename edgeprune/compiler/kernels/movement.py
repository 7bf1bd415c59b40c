"""Kernels that move or combine values without a window: elementwise, concat, resize, layout."""

from __future__ import annotations

import numpy as np

from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


class Elementwise(Rule):
    """elementwise: the epilogue alone, over blocked images or plain rows."""

    name = "elementwise"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "elementwise" and spec.inputs[0].layout == spec.output.layout

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name, "unroll": u} for u in (4, 1, 8)]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        unroll = int(schedule["unroll"])

        def blocked(e: Emitter) -> None:
            pixels = spec.output.pixels
            with T.parallel(0, spec.output.shape[0] * block_count(spec.output.channels, e.lanes)) as plane:

                def at(pixel: Expr) -> None:
                    index = (plane * pixels + pixel) * e.lanes
                    e.store(e.output, e.epilogue(e.load(e.inputs[0], index), plane, pixel), index)

                with T.serial(0, pixels // unroll) as i:
                    for u in range(unroll):
                        at(i * unroll + u)
                for u in range(pixels % unroll):
                    at(pixels // unroll * unroll + u)

        def plain(e: Emitter) -> None:
            total = spec.output.shape[0] * spec.output.channels * spec.output.pixels

            def at(index: Expr, lanes: int) -> None:
                value = e.epilogue(e.load(e.inputs[0], index, lanes), index, 0, lanes, plain=True)
                e.store(e.output, value, index, lanes)

            with T.serial(0, total // e.lanes) as i:
                at(i * e.lanes, e.lanes)
            for lane in range(total % e.lanes):
                at(total // e.lanes * e.lanes + lane, 1)

        return function(name, spec, target.lanes, [], blocked if spec.output.layout == "blocked" else plain)


class Concat(Rule):
    """concat along channels: whole blocks where a part starts on one, else lane by lane."""

    name = "concat"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "concat" and not spec.epilogue

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        pixels = spec.output.pixels

        def body(e: Emitter) -> None:
            lanes, out_blocks = e.lanes, block_count(spec.output.channels, e.lanes)
            start = 0
            for part, buffer in zip(spec.inputs, e.inputs, strict=True):
                blocks = block_count(part.channels, lanes)
                with T.parallel(0, spec.output.shape[0] * blocks * pixels) as index:
                    pixel = index % pixels
                    block = index // pixels % blocks
                    n = index // (pixels * blocks)
                    source = ((n * blocks + block) * pixels + pixel) * lanes
                    if start % lanes == 0:
                        # Padding lanes of a part are overwritten by the part that follows.
                        target_block = n * out_blocks + start // lanes + block
                        e.store(e.output, e.load(buffer, source), (target_block * pixels + pixel) * lanes)
                    else:
                        _copy_lanes(e, buffer, source, n * out_blocks, start, part.channels, block, pixel)
                start += part.channels

        return function(name, spec, target.lanes, [], body)


def _copy_lanes(
    e: Emitter, buffer: Expr, source: Expr, plane: Expr, start: int, channels: int, block: Expr, pixel: Expr
) -> None:
    lanes, pixels = e.lanes, e.spec.output.pixels
    shift = start % lanes
    for lane in range(lanes):
        ahead, to = divmod(shift + lane, lanes)
        to_block = plane + start // lanes + block + ahead
        with T.If(block * lanes + lane < channels), T.Then():
            e.store(e.output, buffer[source + lane], (to_block * pixels + pixel) * lanes + to, 1)


class Resize(Rule):
    """resize2d: ``nearest`` and ``bilinear`` (half-pixel centres, or aligned corners)."""

    name = "resize2d"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "resize2d"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        (ih, iw), (oh, ow) = spec.inputs[0].shape[2:], spec.output.shape[2:]
        corners = bool(spec.attr("align_corners"))

        def body(e: Emitter) -> None:
            lanes = e.lanes
            planes = spec.output.shape[0] * block_count(spec.output.channels, lanes)
            with T.parallel(0, planes * oh) as index:
                y, plane = index % oh, index // oh

                def read(row: Expr, column: Expr) -> Expr:
                    return e.load(e.inputs[0], ((plane * ih + row) * iw + column) * lanes)

                with T.serial(0, ow) as x:
                    if spec.attr("mode") == "nearest":
                        value = read(_nearest(y, ih, oh), _nearest(x, iw, ow))
                    else:
                        value = _bilinear(e, read, (y, ih, oh), (x, iw, ow), corners)
                    pixel = y * ow + x
                    value = e.epilogue(value, plane, pixel)
                    e.store(e.output, value, (plane * oh * ow + pixel) * lanes)

        return function(name, spec, target.lanes, [], body)


def _nearest(position: Expr, size: int, out: int) -> Expr:
    """Source index as torch rounds it: in fp32, except where it doubles the size."""
    if out == 2 * size:
        return position // 2
    scale = np.float32(size) / np.float32(out)
    return T.min(T.cast(T.floor(T.cast(position, "float32") * T.float32(float(scale))), "int32"), size - 1)


def _source(position: Expr, size: int, out: int, corners: bool) -> tuple[Expr, Expr, Expr]:
    """Lower neighbour, upper neighbour and weight of the upper one along one axis."""
    if corners:
        at = T.cast(position, "float32") * T.float32((size - 1) / max(out - 1, 1))
    else:
        at = T.max(
            (T.cast(position, "float32") + T.float32(0.5)) * T.float32(size / out) - T.float32(0.5), T.float32(0)
        )
    low = T.min(T.cast(T.floor(at), "int32"), size - 1)
    return low, T.min(low + 1, size - 1), at - T.cast(low, "float32")


def _bilinear(
    e: Emitter, read: Expr, vertical: tuple[Expr, int, int], horizontal: tuple[Expr, int, int], corners: bool
) -> Expr:
    y0, y1, dy = _source(*vertical, corners)
    x0, x1, dx = _source(*horizontal, corners)
    top = read(y0, x0) * e.splat(T.float32(1) - dx) + read(y0, x1) * e.splat(dx)
    bottom = read(y1, x0) * e.splat(T.float32(1) - dx) + read(y1, x1) * e.splat(dx)
    return top * e.splat(T.float32(1) - dy) + bottom * e.splat(dy)


class Layout(Rule):
    """layout: plain NCHW to blocked or back, at the borders of the network."""

    name = "layout"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "layout"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        channels, pixels = spec.inputs[0].channels, spec.inputs[0].pixels
        to_blocked = spec.output.layout == "blocked"

        def body(e: Emitter) -> None:
            lanes = e.lanes
            blocks = block_count(channels, lanes)
            with T.parallel(0, spec.inputs[0].shape[0] * blocks) as plane:
                n, block = plane // blocks, plane % blocks
                with T.serial(0, pixels) as pixel:
                    for lane in range(lanes):
                        channel = block * lanes + lane
                        with T.If(channel < channels), T.Then():
                            plain_at = (n * channels + channel) * pixels + pixel
                            blocked_at = (plane * pixels + pixel) * lanes + lane
                            source, to = (plain_at, blocked_at) if to_blocked else (blocked_at, plain_at)
                            e.store(e.output, e.inputs[0][source], to, 1)

        return function(name, spec, target.lanes, [], body)
