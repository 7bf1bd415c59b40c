"""Static memory plan: one arena, every tensor at a fixed offset, none alive together overlapping.

Best fit by decreasing size (the "greedy by size" of Pisarchyk and Lee, 2020): optimal or within a
few per cent on networks of this kind, and deterministic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeprune.compiler.layouts import ALIGNMENT


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A tensor of ``bytes`` that is alive from step ``first`` to step ``last``, both included."""

    name: str
    bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class ArenaPlan:
    """Offsets in bytes, all aligned; ``bytes`` is the size of the arena."""

    offsets: Mapping[str, int]
    bytes: int


def plan_arena(lifetimes: Sequence[Lifetime]) -> ArenaPlan:
    """Place every tensor so that no two that are alive at the same step share a byte."""
    placed: list[tuple[int, int, Lifetime]] = []  # offset, end, tensor
    for tensor in sorted(lifetimes, key=lambda t: (-t.bytes, t.first, t.name)):
        size = aligned(tensor.bytes)
        busy = sorted((o, e) for o, e, t in placed if t.first <= tensor.last and tensor.first <= t.last)
        best: tuple[int, int] | None = None  # (gap, offset)
        cursor = 0
        for start, end in busy:
            gap = start - cursor
            if gap >= size and (best is None or gap < best[0]):
                best = (gap, cursor)
            cursor = max(cursor, end)
        offset = best[1] if best else cursor
        placed.append((offset, offset + size, tensor))
    return ArenaPlan({t.name: o for o, _, t in placed}, max((e for _, e, _ in placed), default=0))


def aligned(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT
