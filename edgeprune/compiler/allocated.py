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
    target: Target, arena_bytes: int, buffers: int, weight_bytes: int, staging_bytes: int, *, synthetic: bool = False
) -> int:
    """The arena, and one descriptor a buffer of a call; on a GPU the weights as well, which are copied there.

    Args:
        buffers: over all calls.
        staging_bytes: see :func:`staged_bytes`; of no concern to a CPU.
        synthetic: weights are made on the board, for timing only.
    """
    if target.kind == "cuda":
        held = sum(aligned(max(n, 1)) for n in (arena_bytes, weight_bytes))
        return aligned(staging_bytes) + held + aligned(8 * 8) + buffers * (48 + 8)
    pointer = target.architecture.bits // 8
    descriptor = 48 if pointer == 8 else 40
    return arena_bytes + aligned(4 * pointer) + buffers * (descriptor + 8) + aligned(weight_bytes) * synthetic
