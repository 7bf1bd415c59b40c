"""Softmax over one dimension of a plain tensor, shifted by its maximum so that nothing overflows."""

from __future__ import annotations

import math
from collections.abc import Callable

from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, exp, function, narrowing
from edgeprune.compiler.kernels.pool import LOWEST
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


class Softmax(Rule):
    """softmax: ``axis`` of a plain tensor, the dimensions around it flattened to (outer, axis, inner)."""

    name = "softmax"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "softmax" and spec.inputs[0].layout == spec.output.layout == "plain"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        axis, shape = int(spec.attr("axis")), spec.output.shape
        outer, size, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])

        def body(e: Emitter) -> None:
            if inner == 1:
                with T.parallel(0, outer) as row:
                    _along_the_row(e, row * size, size)
                return
            whole = inner // e.lanes
            if whole:
                with T.parallel(0, outer * whole) as index:
                    _across_rows(e, index // whole * size * inner + index % whole * e.lanes, size, inner, e.lanes)
            with T.parallel(0, outer) as row:
                for at, lanes in narrowing(inner - whole * e.lanes, e.lanes):
                    _across_rows(e, row * size * inner + whole * e.lanes + at, size, inner, lanes)

        return function(name, spec, schedule, target, [], body)


def _along_the_row(e: Emitter, first: Expr, size: int) -> None:
    """``size`` neighbours: whole vectors, then ever narrower ones."""
    whole, x, y = size // e.lanes, e.inputs[0], e.output
    tail = [(first + whole * e.lanes + at, lanes) for at, lanes in narrowing(size % e.lanes, e.lanes)]

    def reduce(start: float, step: Callable[[Expr, Expr, int], Expr], merge: Callable[[Expr, Expr], Expr]) -> Expr:
        """Fold ``step(total, index, lanes)`` over the row, and then the lanes of the totals with ``merge``."""
        single = e.registers(1, 1)
        single[0] = T.float32(start)
        if whole:
            wide = e.registers(1)
            wide[0] = e.const(start)
            with T.serial(0, whole) as i:
                wide[0] = step(wide[0], first + i * e.lanes, e.lanes)
            single[0] = _folded(wide[0], e.lanes, merge)
        for at, lanes in tail:
            (part,) = e.keep(step(e.const(start, lanes), at, lanes), lanes=lanes)
            single[0] = merge(single[0], _folded(part, lanes, merge))
        return single[0]

    largest = reduce(LOWEST, lambda total, at, lanes: T.max(total, e.load(x, at, lanes)), T.max)

    def add(total: Expr, at: Expr, lanes: int) -> Expr:
        (power,) = e.keep(exp(e, e.load(x, at, lanes) - e.splat(largest, lanes), lanes), lanes=lanes)
        e.store(y, power, at, lanes)
        return total + power

    (factor,) = e.keep(T.float32(1.0) / reduce(0.0, add, lambda a, b: a + b), lanes=1)

    def scale(at: Expr, lanes: int) -> None:
        e.store(y, e.load(y, at, lanes) * e.splat(factor, lanes), at, lanes)

    if whole:
        with T.serial(0, whole) as i:
            scale(first + i * e.lanes, e.lanes)
    for at, lanes in tail:
        scale(at, lanes)


def _folded(vector: Expr, lanes: int, merge: Callable[[Expr, Expr], Expr]) -> Expr:
    """All lanes of a vector in one value, by halves."""
    values = [T.Shuffle([vector], [i]) for i in range(lanes)] if lanes > 1 else [vector]
    while len(values) > 1:
        values = [merge(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def _across_rows(e: Emitter, first: Expr, size: int, inner: int, lanes: int) -> None:
    """``lanes`` neighbouring columns, each with its own softmax of ``size`` values that lie ``inner`` apart."""
    x, y = e.inputs[0], e.output
    largest, total = e.registers(1, lanes), e.registers(1, lanes)
    largest[0], total[0] = e.const(LOWEST, lanes), e.const(0.0, lanes)
    with T.serial(0, size) as i:
        largest[0] = T.max(largest[0], e.load(x, first + i * inner, lanes))
    with T.serial(0, size) as i:
        (power,) = e.keep(exp(e, e.load(x, first + i * inner, lanes) - largest[0], lanes), lanes=lanes)
        e.store(y, power, first + i * inner, lanes)
        total[0] = total[0] + power
    (factor,) = e.keep(e.const(1.0, lanes) / total[0], lanes=lanes)
    with T.serial(0, size) as i:
        e.store(y, e.load(y, first + i * inner, lanes) * factor, first + i * inner, lanes)
