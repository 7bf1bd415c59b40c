"""Softmax over one dimension of a plain tensor, or its logarithm; shifted by the maximum, so that nothing overflows."""

from __future__ import annotations

import math
from collections.abc import Callable

from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, folded, function, narrowing
from edgeprune.compiler.kernels.pool import LOWEST
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


class Softmax(Rule):
    """softmax: ``axis`` of a plain tensor, the dimensions around it flattened to (outer, axis, inner); ``log``."""

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
            single[0] = folded(wide[0], e.lanes, merge)
        for at, lanes in tail:
            (part,) = e.keep(step(e.const(start, lanes), at, lanes), lanes=lanes)
            single[0] = merge(single[0], folded(part, lanes, merge))
        return single[0]

    largest = reduce(LOWEST, lambda total, at, lanes: T.max(total, e.load(x, at, lanes)), T.max)

    def add(total: Expr, at: Expr, lanes: int) -> Expr:
        (power,) = e.keep(e.algebra(lanes).exp(e.load(x, at, lanes) - e.splat(largest, lanes)), lanes=lanes)
        e.store(y, power, at, lanes)
        return total + power

    (total,) = e.keep(reduce(0.0, add, lambda a, b: a + b), lanes=1)
    (change,) = e.keep(_change(e, largest, total, 1), lanes=1)

    def scale(at: Expr, lanes: int) -> None:
        e.store(y, _changed(e, e.splat(change, lanes), at, lanes), at, lanes)

    if whole:
        with T.serial(0, whole) as i:
            scale(first + i * e.lanes, e.lanes)
    for at, lanes in tail:
        scale(at, lanes)


def _across_rows(e: Emitter, first: Expr, size: int, inner: int, lanes: int) -> None:
    """``lanes`` neighbouring columns, each with its own softmax of ``size`` values that lie ``inner`` apart."""
    x, y = e.inputs[0], e.output
    largest, total = e.registers(1, lanes), e.registers(1, lanes)
    largest[0], total[0] = e.const(LOWEST, lanes), e.const(0.0, lanes)
    with T.serial(0, size) as i:
        largest[0] = T.max(largest[0], e.load(x, first + i * inner, lanes))
    with T.serial(0, size) as i:
        (power,) = e.keep(e.algebra(lanes).exp(e.load(x, first + i * inner, lanes) - largest[0]), lanes=lanes)
        e.store(y, power, first + i * inner, lanes)
        total[0] = total[0] + power
    (change,) = e.keep(_change(e, largest[0], total[0], lanes), lanes=lanes)
    with T.serial(0, size) as i:
        e.store(y, _changed(e, change, first + i * inner, lanes), first + i * inner, lanes)


def _change(e: Emitter, largest: Expr, total: Expr, lanes: int) -> Expr:
    """What makes powers shares: the factor, or for logarithms what goes off the input."""
    return largest + e.algebra(lanes).log(total) if e.spec.attr("log") else e.const(1.0, lanes) / total


def _changed(e: Emitter, change: Expr, at: Expr, lanes: int) -> Expr:
    if e.spec.attr("log"):
        return e.load(e.inputs[0], at, lanes) - change
    return e.load(e.output, at, lanes) * change
