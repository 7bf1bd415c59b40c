"""The first kernel of a network that takes a camera frame: bytes of pixels to normalised channels, in one pass."""

from __future__ import annotations

from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function, narrowing
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


class Image(Rule):
    """image: a frame (N, H, W, C) of uint8 as a plain or blocked image."""

    name = "image"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "image"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        write = _blocked_row if spec.output.layout == "blocked" else _plain_row
        n, _, height, _ = spec.output.shape

        def body(e: Emitter) -> None:
            with T.parallel(0, n * height) as row:
                write(e, row)

        return function(name, spec, schedule, target, [], body)


def _blocked_row(e: Emitter, row: Expr) -> None:
    """Row ``row`` of all samples: the channels of a pixel lie side by side on both sides."""
    _, channels, height, width = e.spec.output.shape
    blocks = block_count(channels, e.lanes)
    with T.serial(0, width) as x:
        for channel in range(channels):
            block, lane = divmod(channel, e.lanes)
            pixel = ((row // height * blocks + block) * height + row % height) * width + x
            e.store(e.output, _values(e, row * width + x, channel, 1), pixel * e.lanes + lane, 1)


def _plain_row(e: Emitter, row: Expr) -> None:
    """Row ``row`` of all samples, a vector of pixels of each channel in turn."""
    _, channels, height, width = e.spec.output.shape

    def write(x: Expr, lanes: int) -> None:
        for channel in range(channels):
            at = ((row // height * channels + channel) * height + row % height) * width + x
            e.store(e.output, _values(e, row * width + x, channel, lanes), at, lanes)

    whole = width // e.lanes
    if whole:
        with T.serial(0, whole) as i:
            write(i * e.lanes, e.lanes)
    for start, lanes in narrowing(width % e.lanes, e.lanes):
        write(whole * e.lanes + start, lanes)


def _values(e: Emitter, pixel: Expr, channel: int, lanes: int) -> Expr:
    """A channel of ``lanes`` pixels from ``pixel`` of the frame on, normalised."""
    size = e.spec.output.channels
    order, scale, shift = (e.spec.attr(name)[channel] for name in ("order", "scale", "shift"))
    index = pixel * size + order
    grey = e.inputs[0][index if lanes == 1 else T.ramp(index, size, lanes)]
    number = T.cast(grey, "float32" if lanes == 1 else f"float32x{lanes}")
    return number * e.const(scale, lanes) + e.const(shift, lanes)
