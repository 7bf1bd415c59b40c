"""Threads for a kernel of ``compute.py``: which results are whose, by TVM's schedule primitives."""

from __future__ import annotations

from typing import Any

from edgeprune.compiler.tvm_modules import s_tir, tvm

EXTENTS = "edgeprune.extents"
"""Attribute of a scheduled function: blocks, and threads of a block."""


def scheduled(symbol: str, function: Any, channels: int, threads: int) -> Any:
    """``channels`` results a thread, one below the other; ``threads`` of them a block, along pixels first.

    ``function`` writes ``out`` (rows, pixels), rows being samples times channels, from the sums ``acc`` of the same
    shape if it has any.
    """
    schedule = s_tir.Schedule(tvm.IRModule({symbol: function}))
    schedule.work_on(symbol)
    out = schedule.get_sblock("out")
    rows, pixels = schedule.get_loops(out)
    if channels > 1:
        rows, own = schedule.split(rows, [None, channels])
        schedule.reorder(rows, pixels, own)
        schedule.unroll(own)  # indices of registers have to be constants
    block, thread = schedule.split(schedule.fuse(rows, pixels), [None, threads])
    schedule.bind(block, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    if 'T.sblock("acc")' in function.script():
        acc = schedule.get_sblock("acc")
        schedule.compute_at(acc, thread)
        schedule.set_scope(acc, 0, "local")
        _, _, *loops = schedule.get_loops(acc)
        if channels > 1:
            # Innermost, so that it is the input that is read once, not the sum.
            schedule.reorder(*loops[1:], loops[0])
            schedule.unroll(loops[0])
            loops = loops[1:]
        if loops:  # none where a single value is summed
            schedule.decompose_reduction(acc, loops[0])
    extents = [schedule.get(loop).extent for loop in (block, thread)]
    return schedule.mod[symbol].with_attr(EXTENTS, extents)
