"""Padding of blocked images, by a value or by what lies at the border."""

from __future__ import annotations

from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


class Pad(Rule):
    """pad: ``top`` and ``left`` rows and columns before the image; its output says how many come behind.

    ``mode`` as torch names it: ``constant`` (``value``), ``reflect``, ``replicate`` or ``circular``.
    """

    name = "pad"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "pad" and not spec.epilogue

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        (height, width), (rows, columns) = spec.inputs[0].shape[2:], spec.output.shape[2:]
        mode, fill = spec.attr("mode"), float(spec.attr("value"))

        def body(e: Emitter) -> None:
            planes = spec.output.shape[0] * block_count(spec.output.channels, e.lanes)
            with T.parallel(0, planes * rows) as index:
                plane, row = index // rows, index % rows
                ih, row_inside = _source(row, spec.attr("top"), height, mode)
                with T.serial(0, columns) as column:
                    iw, column_inside = _source(column, spec.attr("left"), width, mode)
                    value = e.load(e.inputs[0], ((plane * height + ih) * width + iw) * e.lanes)
                    if mode == "constant":
                        value = T.Select(T.And(row_inside, column_inside), value, e.const(fill))
                    e.store(e.output, value, ((plane * rows + row) * columns + column) * e.lanes)

        return function(name, spec, schedule, target, [], body)


def _source(position: Expr, before: int, size: int, mode: str) -> tuple[Expr, Expr]:
    """Where along one axis a value comes from (always inside the image), and whether it lies there itself."""
    at = position - before
    inside = T.And(at >= 0, at < size)
    if mode == "circular":
        return (at + size) % size, inside
    if mode == "reflect":
        at = T.Select(at < 0, 0 - at, at)
        at = T.Select(at > size - 1, 2 * (size - 1) - at, at)
    return T.min(T.max(at, 0), size - 1), inside
