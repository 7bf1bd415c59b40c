"""The inner loop that convolutions share: a register tile of output blocks by columns, over input channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from edgeprune.compiler.kernels.base import vector_registers
from edgeprune.compiler.kernels.emit import Emitter, Expr, Registers, T, tiles
from edgeprune.targets import Target


def multiplies_by_lane(target: Target) -> bool:
    """Whether the processor multiplies a vector by one lane of another (ARM), or reads a scalar as it multiplies."""
    return not target.architecture.memory_operands


def short_of_registers(target: Target) -> bool:
    """Whether values that LLVM shares among taps have no registers (AVX2, SSE), so that taps are better kept apart.

    With 32 of them, and by lanes, it does what it should.
    """
    return target.architecture.memory_operands and vector_registers(target) < 32


SPARE = 4
"""Registers for an input, and to spare, beside the accumulators and weights of a tile with a narrow block."""


def tile_columns(widths: Sequence[int], columns: int, width: int, target: Target) -> int:
    """Columns of the tiles of blocks with these vector widths, in rows of ``width`` results.

    A narrow block beside wider ones wants registers to spare: where there are none LLVM multiplies it in place of the
    input, which moves its accumulators about until one of the others has to go to the stack, at half the speed. So such
    tiles have fewer columns, which cost nothing as long as there are enough for the latency of an addition.
    """
    columns, blocks = min(columns, width), len(widths)
    if len(set(widths)) == 1:
        return columns
    most = max(1, (vector_registers(target) - SPARE - blocks) // blocks)
    return min(range(1, min(most, columns) + 1), key=lambda c: (row_cycles(width, blocks, c), -c))


def row_cycles(width: int, blocks: int, columns: int) -> float:
    """:func:`tile_cycles` of a row of ``width`` results."""
    return sum(tile_cycles(blocks, size) for _, size in tiles(width, columns))


def tile_cycles(blocks: int, columns: int) -> float:
    """Estimated cycles of a register tile for each channel and tap: two FMA or two loads a cycle, FMA latency 4."""
    return max(blocks * columns / 2, (blocks + columns) / 2, 4.0) + 0.15


def row_issued(width: int, blocks: int, columns: int, channels: int, target: Target) -> float:
    """:func:`tile_issued` of a row of ``width`` results."""
    return sum(tile_issued(blocks, size, channels, target) for _, size in tiles(width, columns))


def tile_issued(blocks: int, columns: int, channels: int, target: Target, *, blocked: bool = True) -> float:
    """Vector instructions of a register tile for each tap: multiply-adds, and loads of both factors.

    Args:
        blocked: channels lie together in blocks; whole ones are loaded at once where the processor multiplies by lanes.
    """
    at_once = channels // target.lanes * target.lanes if blocked and multiplies_by_lane(target) else 0
    loads = columns * (at_once / target.lanes + channels - at_once)
    return channels * blocks * (columns + 1) + loads


def accumulate(
    e: Emitter,
    acc: Sequence[Registers],
    widths: Sequence[int],
    values: tuple[Any, Mapping[int, Expr]],
    weights: tuple[Any, Callable[[int, Expr], Expr]],
    size: int,
    *,
    by_lane: bool,
) -> None:
    """``acc[block][column] += weight[block, ci] * value[column, ci]`` for ``ci`` below ``size``.

    Args:
        widths: vector width of each block.
        values: buffer, and by column the index of its channel 0; the others follow it.
        weights: buffer, and the index of a block's vector for a channel.
        by_lane: take a vector of channels at once and multiply by its lanes.
    """
    (x, at), (weight, weight_at) = values, weights

    def step(ci: Expr, value: Callable[[int], Expr]) -> None:
        vectors = [e.load(weight, weight_at(b, ci), w) for b, w in enumerate(widths)]
        for t in at:
            for b, w in enumerate(widths):
                acc[b][t] = acc[b][t] + e.splat(value(t), w) * vectors[b]

    if by_lane and size == e.lanes:
        channels = dict(zip(at, e.keep(*(e.load(x, index) for index in at.values())), strict=True))
        for ci in range(size):
            step(ci, lambda t, lane=ci: T.Shuffle([channels[t]], [lane]))  # type: ignore[misc]
    else:
        with T.serial(0, size) as ci:
            step(ci, lambda t: x[at[t] + ci])


def apart(e: Emitter, acc: Sequence[Registers], widths: Sequence[int], columns: int) -> None:
    """What was loaded before is loaded again behind this, and what was added to accumulators was added.

    Of taps that are written one after the other LLVM would share the inputs, or put the sums of one off until another
    one's, and keep vectors on the stack where registers run out: as many stores and loads as multiply-adds.
    """
    with T.attr(T.int32(0), "pragma_import_llvm", _held(e.lanes)):
        for b, width in enumerate(widths):
            if width == e.lanes:
                for t in range(columns):
                    acc[b][t] = T.call_extern(f"float32x{width}", _HELD, acc[b][t])


_HELD = "ep_held"


@cache
def _held(lanes: int) -> str:
    """LLVM IR of a function that gives what it takes, in no instruction, and of which LLVM knows nothing else."""
    vector = f"<{lanes} x float>"
    return f"""\
define internal {vector} @{_HELD}({vector} %v) alwaysinline nounwind {{
  %r = call {vector} asm sideeffect "", "=v,0,~{{memory}}"({vector} %v)
  ret {vector} %r
}}
"""
