"""Loop nests that walk through plain memory: every tensor has an offset and a step for each loop.

Loops that all tensors walk through without a gap become one. The innermost runs in vectors, written
side by side, and read side by side, repeated or gathered; the others run in parallel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.compiler.kernels.emit import Emitter, Expr, T, narrowing


@dataclass(frozen=True, slots=True)
class Access:
    """Element ``offset + sum of loop * step``; one step a loop, outermost first."""

    offset: int
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Nest:
    """Loop extents, outermost first, what is written and what is read of each input."""

    extents: tuple[int, ...]
    write: Access
    reads: tuple[Access, ...]


def contiguous(shape: Sequence[int]) -> Access:
    """The walk that visits a row-major tensor in order."""
    return Access(0, tuple(math.prod(shape[d + 1 :]) for d in range(len(shape))))


def merged(nest: Nest) -> Nest:
    """The same walk in as few loops as its tensors allow; one at least."""
    accesses = (nest.write, *nest.reads)
    loops: list[tuple[int, tuple[int, ...]]] = []  # extent, step of each tensor; innermost first
    for loop in reversed(range(len(nest.extents))):
        extent, steps = nest.extents[loop], tuple(a.steps[loop] for a in accesses)
        if extent == 1:
            continue
        if loops and steps == tuple(loops[-1][0] * s for s in loops[-1][1]):
            loops[-1] = (loops[-1][0] * extent, loops[-1][1])
        else:
            loops.append((extent, steps))
    if not loops or loops[0][1][0] != 1:
        # What is written lies apart: single values.
        loops = [(1, (1,) * len(accesses)), *loops]
    write, *reads = (Access(a.offset, tuple(steps[i] for _, steps in reversed(loops))) for i, a in enumerate(accesses))
    return Nest(tuple(extent for extent, _ in reversed(loops)), write, tuple(reads))


def write_nest(e: Emitter, nest: Nest, first: int = 0) -> None:
    """Input ``first`` through the spec's epilogue, whose operands are the other inputs.

    The innermost step of what is written must be 1. ``nest.reads[i]`` belongs to input ``first + i``.
    """
    nest = merged(nest)
    *outer, inner = nest.extents
    rows, whole = math.prod(outer), inner // e.lanes
    if rows == 1:
        if whole:
            with T.parallel(0, whole) as i:
                _vector(e, nest, first, 0, i * e.lanes, e.lanes)
        _tail(e, nest, first, 0)
        return
    with T.parallel(0, rows) as row:
        if whole:
            with T.serial(0, whole) as i:
                _vector(e, nest, first, row, i * e.lanes, e.lanes)
        _tail(e, nest, first, row)


def _tail(e: Emitter, nest: Nest, first: int, row: Expr) -> None:
    """What no whole vector covers."""
    whole, rest = nest.extents[-1] // e.lanes * e.lanes, nest.extents[-1] % e.lanes
    for start, lanes in narrowing(rest, e.lanes):
        _vector(e, nest, first, row, whole + start, lanes)


def _vector(e: Emitter, nest: Nest, first: int, row: Expr, at: Expr, lanes: int) -> None:
    """``lanes`` results from ``at`` on of iteration ``row`` of the outer loops."""

    def read(i: int) -> Expr:
        index, step = _index(nest, nest.reads[i], row, at), nest.reads[i].steps[-1]
        if lanes == 1 or step == 1:
            return e.load(e.inputs[first + i], index, lanes)
        if step == 0:
            return e.splat(e.inputs[first + i][index], lanes)
        return e.inputs[first + i][T.ramp(index, step, lanes)]

    e.store(e.output, e.steps(read(0), read, lanes), _index(nest, nest.write, row, at), lanes)


def _index(nest: Nest, access: Access, row: Expr, at: Expr) -> Expr:
    index = access.offset + at * access.steps[-1]
    for extent, step in zip(nest.extents[-2::-1], access.steps[-2::-1], strict=True):
        index = index + row % extent * step
        row = row // extent
    return index
