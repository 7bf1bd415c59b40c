"""Static memory plan: one arena, every tensor at a fixed offset, none alive together overlapping.

Best fit by decreasing size (the "greedy by size" of Pisarchyk and Lee, 2020); where that is larger than what is alive
at the busiest step, tensors that stick out go first, one after the other, and all are placed again ("squeaky wheel"
optimisation, Joslin and Clements, 1999). Deterministic.
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


ROUNDS = 64
"""Times that one order is mended at most."""


def plan_arena(lifetimes: Sequence[Lifetime]) -> ArenaPlan:
    """Place every tensor so that no two that are alive at the same step share a byte."""
    least = busiest_bytes(lifetimes)
    best: ArenaPlan | None = None
    for size in (_bytes, _bytes_and_steps):
        order = sorted(lifetimes, key=lambda t: (-size(t), t.first, t.name))
        for _ in range(ROUNDS):
            plan = _placed(order)
            if best is None or plan.bytes < best.bytes:
                best = plan
            if plan.bytes == least:
                return plan
            # The first that sticks out found its places taken. One at a time: where all of them go first, those that
            # were pushed up by one of them take the places of others again.
            out = next(i for i, t in enumerate(order) if plan.offsets[t.name] + aligned(t.bytes) > least)
            if out == 0:
                break
            order.insert(0, order.pop(out))
    assert best is not None
    return best


def _bytes(tensor: Lifetime) -> int:
    return tensor.bytes


def _bytes_and_steps(tensor: Lifetime) -> int:
    return tensor.bytes * (tensor.last - tensor.first + 1)


def _placed(order: Sequence[Lifetime]) -> ArenaPlan:
    """One tensor after the other in the tightest gap that holds it."""
    placed: list[tuple[int, int, Lifetime]] = []  # offset, end, tensor
    for tensor in order:
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


def busiest_bytes(lifetimes: Sequence[Lifetime]) -> int:
    """The most that is alive at one step: no arena is smaller."""
    # Only where something begins can more be alive than just before.
    return max((alive_at(step, lifetimes) for step in {t.first for t in lifetimes}), default=0)


def alive_at(step: int, lifetimes: Sequence[Lifetime]) -> int:
    """Bytes in use at a step."""
    return sum(aligned(t.bytes) for t in lifetimes if t.first <= step <= t.last)


def aligned(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT
