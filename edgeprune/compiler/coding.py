"""Constants without their zeros: a lossless code for arrays of float32, which ``board/decode.c`` reads.

Where values lie is told by flags, one for each word or for each unit of up to 64 words; the flags themselves are coded
as a tree of bitmaps, in which whole bytes of zeros are left out. So single zeros, N:M patterns, blocks and rows cost
little by one method; unit and depth are those of the smallest result. docs/STORAGE.md has the format.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
MOST_LEVELS, MOST_UNIT = 4, 6
"""Of a tree; of the logarithm of words in a unit. As in ``board/decode.c``."""
_MINUS_ZERO = np.uint32(0x80000000)


@dataclass(frozen=True, slots=True)
class _Tree:
    """Bytes of each level, the coarsest first."""

    levels: tuple[bytes, ...]

    @property
    def bytes(self) -> int:
        return sum(4 + len(level) for level in self.levels)


def coded(values: NDArray[np.float32]) -> bytes:
    """The code of an array, flattened: every bit of it comes back, also of -0.0 and NaN. Deterministic."""
    words = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32)
    minus, stored = words == _MINUS_ZERO, (words & ~_MINUS_ZERO) != 0
    best: tuple[int, int, _Tree, _Tree, Flags] | None = None
    flags = stored
    for unit in range(MOST_UNIT + 1):
        if unit:
            flags = _joined(flags)
        kept = np.repeat(flags, 1 << unit)[: words.size]
        places, negative = _tree(flags), minus & ~kept
        signs = _tree(negative) if negative.any() else _Tree(())
        size = places.bytes + signs.bytes + 4 * int(kept.sum())
        if best is None or size < best[0]:
            best = size, unit, places, signs, kept
    assert best is not None
    _, unit, places, signs, kept = best
    head = struct.pack("<4BI", unit, len(places.levels), len(signs.levels), 0, int((minus & ~kept).sum()))
    levels = (*places.levels, *signs.levels)
    sizes = struct.pack(f"<{len(levels)}I", *map(len, levels))
    return b"".join((head, sizes, *levels, words[kept].astype("<u4").tobytes()))


def zeros(values: NDArray[Any]) -> int:
    """Elements that are zero, of either sign."""
    return int(values.size - np.count_nonzero(values))


def _joined(flags: Flags) -> Flags:
    """A flag for each two."""
    pairs = np.pad(flags, (0, flags.size % 2)).reshape(-1, 2)
    return pairs[:, 0] | pairs[:, 1]


def _tree(flags: Flags) -> _Tree:
    """Of the depth that takes the fewest bytes."""
    below: tuple[bytes, ...] = ()
    level = np.packbits(flags, bitorder="little")
    best = _Tree((level.tobytes(),))
    for _ in range(MOST_LEVELS - 1):
        used = level != 0
        below = (level[used].tobytes(), *below)
        level = np.packbits(used, bitorder="little")
        found = _Tree((level.tobytes(), *below))
        if found.bytes < best.bytes:
            best = found
    return best
