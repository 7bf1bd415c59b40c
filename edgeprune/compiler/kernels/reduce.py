"""Sums and extremes over some dimensions of a plain tensor, and what is normalised by them.

Where what is kept lies side by side, vectors run along it; where what is reduced does, they run along
that and their lanes are folded at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, folded, function, narrowing
from edgeprune.compiler.kernels.pool import LOWEST
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

Merge = Callable[[Expr, Expr], Expr]


@dataclass(frozen=True, slots=True)
class _Kind:
    start: float
    merge: Merge


KINDS = {
    "sum": _Kind(0.0, lambda a, b: a + b),
    "max": _Kind(LOWEST, lambda a, b: T.max(a, b)),
    "min": _Kind(-LOWEST, lambda a, b: T.min(a, b)),
}


class Reduce(Rule):
    """reduce: ``kind`` (sum, max, min) over the dimensions ``dims`` of a plain tensor; size 1 is what they leave."""

    name = "reduce"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "reduce" and spec.inputs[0].layout == "plain"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        shape, dims, kind = spec.inputs[0].shape, set(spec.attr("dims")), KINDS[spec.attr("kind")]
        steps = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
        kept = [(shape[d], steps[d]) for d in range(len(shape)) if d not in dims and shape[d] > 1]
        gone = [(shape[d], steps[d]) for d in sorted(dims) if shape[d] > 1]

        def body(e: Emitter) -> None:
            beside = kept and kept[-1][1] == 1
            *outer, (inner, _) = kept if beside else [*kept, (1, 1)]
            rows = math.prod(n for n, _ in outer)
            whole = inner // e.lanes
            if whole:
                with T.parallel(0, rows * whole) as index:
                    _reduce_beside(e, kind, gone, index // whole, outer, index % whole * e.lanes, inner, e.lanes)
            with T.parallel(0, rows) as row:
                for at, lanes in narrowing(inner - whole * e.lanes, e.lanes) if beside else []:
                    _reduce_beside(e, kind, gone, row, outer, whole * e.lanes + at, inner, lanes)
                if not beside:
                    _reduce_along(e, kind, gone, row, outer)

        return function(name, spec, schedule, target, [], body)


def _start(row: Expr, outer: list[tuple[int, int]]) -> Expr:
    """The element of the input at which iteration ``row`` of the outer loops begins."""
    at: Expr = 0
    for extent, step in reversed(outer):
        at = at + row % extent * step
        row = row // extent
    return at


def _reduce_beside(
    e: Emitter,
    kind: _Kind,
    gone: list[tuple[int, int]],
    row: Expr,
    outer: list[tuple[int, int]],
    at: Expr,
    inner: int,
    lanes: int,
) -> None:
    """``lanes`` neighbouring results."""
    start = _start(row, outer) + at
    total = e.registers(1, lanes)
    total[0] = e.const(kind.start, lanes)
    with T.serial(0, math.prod(n for n, _ in gone)) as i:
        total[0] = kind.merge(total[0], e.load(e.inputs[0], start + _start(i, gone), lanes))
    e.store(e.output, e.epilogue(total[0], row * inner + at, 0, lanes, plain=True), row * inner + at, lanes)


def _reduce_along(
    e: Emitter, kind: _Kind, gone: list[tuple[int, int]], row: Expr, outer: list[tuple[int, int]]
) -> None:
    """One result of values that lie side by side, or of scattered ones."""
    start = _start(row, outer)
    *around, (size, step) = gone or [(1, 1)]
    lanes = e.lanes if step == 1 else 1
    total = fold(e, kind, math.prod(n for n, _ in around), lambda i: start + _start(i, around), size, step, lanes)
    e.store(e.output, e.epilogue(total, row, 0, 1, plain=True), row, 1)


def fold(
    e: Emitter,
    kind: _Kind,
    rounds: int,
    first: Callable[[Expr], Expr],
    size: int,
    step: int,
    lanes: int,
    change: Callable[[Expr, int], Expr] = lambda value, lanes: value,
) -> Expr:
    """``kind`` over ``rounds`` runs of ``size`` values, each after ``change``; one value."""
    whole = size // lanes
    single, wide = e.registers(1, 1), e.registers(1, lanes)
    single[0], wide[0] = T.float32(kind.start), e.const(kind.start, lanes)
    with T.serial(0, rounds) as i:
        if whole:
            with T.serial(0, whole) as j:
                value = e.load(e.inputs[0], first(i) + j * lanes * step, lanes)
                wide[0] = kind.merge(wide[0], change(value, lanes))
        for at, width in narrowing(size - whole * lanes, lanes):
            (part,) = e.keep(change(e.load(e.inputs[0], first(i) + whole * lanes + at, width), width), lanes=width)
            single[0] = kind.merge(single[0], folded(part, width, kind.merge))
    return kind.merge(single[0], folded(wide[0], lanes, kind.merge))


class Normalize(Rule):
    """normalize: rows of ``size`` values, each less its mean and divided by its deviation (``eps`` in the root)."""

    name = "normalize"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "normalize" and spec.inputs[0].layout == "plain"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        size, eps = int(spec.attr("size")), float(spec.attr("eps"))
        rows = math.prod(spec.output.shape) // size

        def body(e: Emitter) -> None:
            with T.parallel(0, rows) as row:
                _normalize(e, row * size, size, eps)

        return function(name, spec, schedule, target, [], body)


def _normalize(e: Emitter, start: Expr, size: int, eps: float) -> None:
    def mean(change: Callable[[Expr, int], Expr]) -> Expr:
        total = fold(e, KINDS["sum"], 1, lambda i: start, size, 1, e.lanes, change)
        (kept,) = e.keep(total * T.float32(1 / size), lanes=1)
        return kept

    middle = mean(lambda value, lanes: value)

    def square(value: Expr, lanes: int) -> Expr:
        away = value - e.splat(middle, lanes)
        return away * away

    (scale,) = e.keep(T.float32(1.0) / T.sqrt(mean(square) + T.float32(eps)), lanes=1)

    def at(index: Expr, lanes: int) -> None:
        value = (e.load(e.inputs[0], index, lanes) - e.splat(middle, lanes)) * e.splat(scale, lanes)
        e.store(e.output, e.epilogue(value, index, 0, lanes, plain=True), index, lanes)

    whole = size // e.lanes
    if whole:
        with T.serial(0, whole) as i:
            at(start + i * e.lanes, e.lanes)
    for offset, lanes in narrowing(size - whole * e.lanes, e.lanes):
        at(start + whole * e.lanes + offset, lanes)
