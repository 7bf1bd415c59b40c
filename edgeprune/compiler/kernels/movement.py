"""Kernels over blocked images that move or combine values without a window: elementwise, resize, layout."""

from __future__ import annotations

import numpy as np

from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function
from edgeprune.compiler.kernels.nest import Access, Nest, write_nest
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


class Elementwise(Rule):
    """elementwise: the epilogue alone, over blocked images; plain tensors have a rule of their own (strided)."""

    name = "elementwise"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "elementwise" and spec.inputs[0].layout == spec.output.layout == "blocked"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name, "unroll": u} for u in (4, 1, 8)]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        unroll, pixels = int(schedule["unroll"]), spec.output.pixels

        def body(e: Emitter) -> None:
            with T.parallel(0, spec.output.shape[0] * block_count(spec.output.channels, e.lanes)) as plane:

                def at(pixel: Expr) -> None:
                    index = (plane * pixels + pixel) * e.lanes
                    e.store(e.output, e.epilogue(e.load(e.inputs[0], index), plane, pixel), index)

                with T.serial(0, pixels // unroll) as i:
                    for u in range(unroll):
                        at(i * unroll + u)
                for u in range(pixels % unroll):
                    at(pixels // unroll * unroll + u)

        return function(name, spec, schedule, target, [], body)


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

        return function(name, spec, schedule, target, [], body)


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
        def body(e: Emitter) -> None:
            for nest in _layout_nests(spec, e.lanes):
                write_nest(e, nest)

        return function(name, spec, schedule, target, [], body)


def _layout_nests(spec: KernelSpec, lanes: int) -> list[Nest]:
    """Whole blocks, and the last one with the channels it holds; a single one fills its vector, written as a whole."""
    n, channels, pixels = spec.output.shape[0], spec.output.channels, spec.output.pixels
    full, rest = divmod(channels, lanes)
    plane, blocks = lanes * pixels, block_count(channels, lanes)
    nests = []
    for first, count, size in ((0, full, lanes), (full, 1, rest)):
        if count and size:
            # Steps of sample, block, channel and pixel; whichever lie side by side in the output come last.
            blocked = Access(first * plane, (blocks * plane, plane, 1, lanes))
            plain = Access(first * plane, (channels * pixels, plane, pixels, 1))
            extents = (n, count, size, pixels)
            if spec.output.layout == "blocked":
                if size == 1:
                    plain, extents = Access(plain.offset, (*plain.steps[:2], 0, 1)), (n, count, lanes, pixels)
                nests.append(Nest(_swapped(extents), _inner(blocked), (_inner(plain),)))
            else:
                nests.append(Nest(extents, plain, (blocked,)))
    return nests


def _inner(access: Access) -> Access:
    """Channels innermost."""
    return Access(access.offset, _swapped(access.steps))


def _swapped(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return (*numbers[:2], numbers[3], numbers[2])
