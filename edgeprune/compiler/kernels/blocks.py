"""Cutting output channels into vectors, and vectors into groups that share one register tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Groups:
    """``count`` groups, one behind the other from block ``first``, each of blocks with these vector widths."""

    first: int
    count: int
    widths: tuple[int, ...]


def block_widths(channels: int, lanes: int) -> tuple[int, ...]:
    """Vector width of each output block: ``lanes``, and for a partial last one the narrowest of lanes/2, lanes/4 …
    (at least 4) that covers it."""
    full, rest = divmod(channels, lanes)
    if not rest:
        return (lanes,) * full
    narrow = lanes
    while narrow // 2 >= max(rest, 4):
        narrow //= 2
    return (*(lanes,) * full, narrow)


def groups_of(widths: Sequence[int], size: int) -> list[Groups]:
    """Groups of ``size`` full blocks, then what is left over; a narrow last block is always in the latter."""
    full = sum(w == widths[0] for w in widths) // size
    whole = [Groups(0, full, tuple(widths[:size]))] if full else []
    rest = tuple(widths[full * size :])
    return [*whole, Groups(full * size, 1, rest)] if rest else whole
