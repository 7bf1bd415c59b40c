"""Products of plain matrices, a batch of them, as attention makes them of activations."""

from __future__ import annotations

import math

from edgeprune.compiler.kernels.base import Rule, Schedule, most_columns
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, function, narrowing, tiles
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


class MatMul(Rule):
    """matmul: (…, M, K) by (…, K, N), read through walks over the loops (…, m, n, k); N without a gap."""

    name = "matmul"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "matmul" and all(t.layout == "plain" for t in spec.inputs)

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        rows, columns = spec.output.shape[-2:]
        vectors = -(-columns // target.lanes)
        points = [(min(v, vectors), min(most_columns(v, target), rows, 12)) for v in (2, 1, 4) if v <= max(vectors, 2)]
        return [{"rule": self.name, "vectors": v, "rows": r} for v, r in dict.fromkeys(points)]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        *batch, rows, columns = spec.output.shape
        vectors, step = int(schedule["vectors"]), int(schedule["rows"])

        def body(e: Emitter) -> None:
            count = math.prod(batch)
            wide = vectors * e.lanes
            cuts = [(at, [e.lanes] * (size // e.lanes)) for at, size in tiles(columns // e.lanes * e.lanes, wide)]
            done = columns // e.lanes * e.lanes
            cuts += [(done + at, [lanes]) for at, lanes in narrowing(columns - done, e.lanes)]
            for first, size, share in _row_tiles(rows, step):
                with T.parallel(0, count * share) as index:
                    for column, widths in cuts:
                        _tile(e, index // share, first + index % share * size, size, column, widths)

        return function(name, spec, schedule, target, [], body)


def _row_tiles(rows: int, step: int) -> list[tuple[int, int, int]]:
    """(first row, rows of a tile, tiles): the whole ones, and what is left."""
    whole, rest = divmod(rows, step)
    return [t for t in ((0, step, whole), (whole * step, rest, 1)) if t[1] and t[2]]


def _tile(e: Emitter, batch: Expr, row: Expr, rows: int, column: int, widths: list[int]) -> None:
    *outer, _, columns = e.spec.output.shape
    depth, m, n, k = int(e.spec.attr("depth")), len(outer), len(outer) + 1, len(outer) + 2
    (left, right), loops = [e.spec.walk(i) for i in (0, 1)], len(outer) + 3
    shapes = [t.shape for t in e.spec.inputs[:2]]
    a, b = left.steps(shapes[0], loops), right.steps(shapes[1], loops)
    starts = []
    for walk, shape, steps in ((left, shapes[0], a), (right, shapes[1], b)):
        at, rest = walk.offset(shape), batch
        for loop in reversed(range(len(outer))):
            at = at + rest % outer[loop] * steps[loop]
            rest = rest // outer[loop]
        starts.append(at)
    acc = [e.registers(rows, w) for w in widths]
    offsets = [column + sum(widths[:i]) for i in range(len(widths))]
    for i, w in enumerate(widths):
        for r in range(rows):
            acc[i][r] = e.const(0.0, w)
    with T.serial(0, depth) as d:
        vectors = [
            e.load(e.inputs[1], starts[1] + d * b[k] + at * b[n], w) for at, w in zip(offsets, widths, strict=True)
        ]
        for r in range(rows):
            value = e.inputs[0][starts[0] + (row + r) * a[m] + d * a[k]]
            for i, w in enumerate(widths):
                acc[i][r] = acc[i][r] + e.splat(value, w) * vectors[i]
    for i, w in enumerate(widths):
        for r in range(rows):
            at = (batch * e.spec.output.shape[-2] + row + r) * columns + offsets[i]
            e.store(e.output, e.epilogue(acc[i][r], at, 0, w, plain=True), at, w)
