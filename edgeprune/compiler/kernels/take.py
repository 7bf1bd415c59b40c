"""Entries of a plain tensor along one axis, in an order that a constant tells."""

from __future__ import annotations

import math
from collections.abc import Callable

from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, function, narrowing
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


class Take(Rule):
    """take: entry i along ``axis`` is entry ``places[i]`` of the values; places are whole numbers kept as floats.

    Both are plain. Where what belongs to an entry lies side by side it moves in vectors; along the last axis the
    entries themselves are gathered.
    """

    name = "take"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "take" and all(t.layout == "plain" for t in (*spec.inputs, spec.output))

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        axis = int(spec.attr("axis"))
        size, taken = spec.inputs[0].shape[axis], spec.output.shape[axis]
        outer, inner = math.prod(spec.output.shape[:axis]), math.prod(spec.output.shape[axis + 1 :])

        def body(e: Emitter) -> None:
            def place(i: Expr, lanes: int) -> Expr:
                many = "" if lanes == 1 else f"x{lanes}"
                # While a kernel is timed alone its places may be anything.
                value = T.max(
                    T.min(e.load(e.inputs[1], i, lanes), e.const(float(size - 1), lanes)), e.const(0.0, lanes)
                )
                return T.Cast(f"int32{many}", value)

            def write(at: Expr, value: Expr, lanes: int) -> None:
                e.store(e.output, e.epilogue(value, at, 0, lanes, plain=True), at, lanes)

            def gathered(row: Expr, i: Expr, lanes: int) -> None:
                index = e.splat(row * size, lanes) + place(i, lanes)
                write(row * taken + i, e.inputs[0][index], lanes)

            def moved(row: Expr, i: Expr, lanes: int) -> None:
                start = (row // taken * size + place(row % taken, 1)) * inner
                write(row * inner + i, e.load(e.inputs[0], start + i, lanes), lanes)

            if inner == 1:
                _rows(e, outer, taken, gathered)
            else:
                _rows(e, outer * taken, inner, moved)

        return function(name, spec, schedule, target, [], body)


def _rows(e: Emitter, rows: int, size: int, write: Callable[[Expr, Expr, int], None]) -> None:
    """``write(row, start, lanes)`` for the whole of every row, in parallel."""
    whole = size // e.lanes
    if whole:
        with T.parallel(0, rows * whole) as index:
            write(index // whole, index % whole * e.lanes, e.lanes)
    if tail := narrowing(size - whole * e.lanes, e.lanes):
        with T.parallel(0, rows) as row:
            for start, lanes in tail:
                write(row, whole * e.lanes + start, lanes)
