"""The inner loop that convolutions share: a register tile of output blocks by columns, over input channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgeprune.compiler.kernels.emit import Emitter, Expr, Registers, T
from edgeprune.targets import Target


def multiplies_by_lane(target: Target) -> bool:
    """Whether the processor multiplies a vector by one lane of another (ARM), or reads a scalar as it multiplies."""
    return not target.architecture.memory_operands


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
