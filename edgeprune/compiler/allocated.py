"""What a program allocates when it is opened, in bytes: the sums of ``ep_open`` in board/runtime.c and board/cuda.c."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

from edgeprune.compiler.memory import aligned
from edgeprune.targets import Target


class _Port(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str: ...


def staged_bytes(ports: Iterable[_Port]) -> int:
    """Room on a GPU for the largest tensor that the caller has in another type than the GPU."""
    return max((4 * math.prod(p.shape) for p in ports if p.dtype != "float32"), default=0)


def allocated_bytes(
    target: Target,
    arena_bytes: int,
    buffers: int,
    weight_bytes: int,
    staging_bytes: int,
    *,
    synthetic: bool = False,
    decoded_bytes: int = 0,
) -> int:
    """The arena, and one descriptor a buffer of a call; weights that are decoded; on a GPU all others, too.

    Args:
        buffers: over all calls.
        staging_bytes: see :func:`staged_bytes`; of no concern to a CPU.
        weight_bytes: of weights that are used as they lie in the program.
        synthetic: weights are made on the board, for timing only.
        decoded_bytes: of those that are stored without their zeros (compiler/storage.py), decoded.
    """
    if target.kind == "cuda":
        weight_bytes, decoded_bytes = weight_bytes + decoded_bytes, 0
        # Nothing is too little to be asked for there.
        arena_bytes, weight_bytes = (aligned(max(n, 1)) for n in (arena_bytes, weight_bytes))
    made = aligned(weight_bytes) * (synthetic and target.kind != "cuda")
    held = arena_bytes + decoded_bytes + made
    return fixed_bytes(target, staging_bytes) + held + call_bytes(target, buffers, weight_bytes)


def fixed_bytes(target: Target, staging_bytes: int) -> int:
    """What is neither arena nor weights nor of a call."""
    if target.kind == "cuda":
        return aligned(staging_bytes) + aligned(8 * 8)
    return aligned(4 * target.architecture.bits // 8)


def call_bytes(target: Target, buffers: int, weight_bytes: int) -> int:
    """What a call adds with so many buffers, and weights whose bytes are aligned; it adds up over calls."""
    if target.kind == "cuda":
        return buffers * (48 + 8) + weight_bytes
    return buffers * ((48 if target.architecture.bits == 64 else 40) + 8)
