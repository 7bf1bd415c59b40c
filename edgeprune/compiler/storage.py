"""How constants lie in a program: as they are used, or without their zeros and decoded into RAM when it is opened.

A constant that is used in place costs flash alone; one that is decoded costs less flash, and RAM on a processor. A
GPU's memory holds a copy of all weights anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.coding import coded, zeros
from edgeprune.compiler.memory import aligned
from edgeprune.compiler.program import Buffer, Code, Program
from edgeprune.errors import UsageError
from edgeprune.targets import Target

AUTO, DENSE, COMPRESSED = STORAGES = ("auto", "dense", "compressed")
SPARSE = 0.25
"""``auto`` looks at networks alone of whose parameters at least this share is zero. In others, padding of lanes is what
there is of zeros, and their programs stay as they are."""
WORTH = 0.5
"""Bytes of flash that a byte of RAM has to save, on a processor."""
LEAST_BYTES = 8192
"""That ``auto`` saves in all. Files take whole blocks, of 4 KiB on most boards, and the decoder takes up to one."""
ENTRY_BYTES = 32
"""Of a code's line in the program's table."""


def check_storage(storage: str) -> None:
    """Raises UsageError for a storage that there is none of."""
    if storage not in STORAGES:
        raise UsageError(f"there is no weight storage {storage!r}", hint=f"one of {', '.join(STORAGES)}")


def share_of_zeros(state: Mapping[str, NDArray[Any]]) -> float:
    """Of all floating-point parameters and buffers of a network, as one number."""
    arrays = [a for a in state.values() if a.dtype.kind == "f"]
    return sum(map(zeros, arrays)) / max(1, sum(a.size for a in arrays))


def stored(program: Program, target: Target, storage: str, share: float, *, ram_limited: bool = False) -> Program:
    """The program with those constants coded for which it pays; the same one if there are none.

    Args:
        program: its weights dense.
        storage: ``dense``; ``compressed``: whatever gets smaller; ``auto``: what is worth its RAM, if ``share`` is at
            least :data:`SPARSE`. On a processor whose RAM is limited by the user ``auto`` is dense.
        share: of zeros among the network's parameters.

    Raises:
        UsageError: there is no such storage.
    """
    check_storage(storage)
    free = target.kind == "cuda"
    if program.weights is None or storage == DENSE:
        return program
    if storage == AUTO and (share < SPARSE or (ram_limited and not free)):
        return program
    worth = 0.0 if storage == COMPRESSED or free else WORTH
    chosen = {c.buffer.offset: c for c in _constants(program) if c.saves > worth * c.dense_bytes}
    if storage == AUTO and sum(c.saves for c in chosen.values()) < LEAST_BYTES:
        return program
    return _laid_out(program, chosen)


@dataclass(frozen=True, slots=True)
class _Constant:
    name: str
    buffer: Buffer
    values: NDArray[np.float32]
    code: bytes

    @property
    def dense_bytes(self) -> int:
        return aligned(4 * self.buffer.elements)

    @property
    def saves(self) -> int:
        return self.dense_bytes - len(self.code) - ENTRY_BYTES


def _constants(program: Program) -> Iterator[_Constant]:
    """Those with zeros, each once, in the order of their offsets, as its first call names it."""
    assert program.weights is not None
    for offset, (name, buffer) in sorted(_named(program).items()):
        values = program.weights[offset // 4 : offset // 4 + buffer.elements]
        # What has fewer zeros than the flags have bits does not get smaller.
        if 32 * zeros(values) > values.size:
            yield _Constant(name, buffer, values, coded(values))


def _named(program: Program) -> dict[int, tuple[str, Buffer]]:
    found: dict[int, tuple[str, Buffer]] = {}
    for call in program.calls:
        for i, buffer in enumerate(_weights(call.buffers)):
            found.setdefault(buffer.offset, (f"{call.name}[{i}]", buffer))
    return found


def _weights(buffers: Iterable[Buffer]) -> list[Buffer]:
    return [b for b in buffers if b.space == "weights"]


def _laid_out(program: Program, chosen: Mapping[int, _Constant]) -> Program:
    """Constants that are used in place first, in their order; then codes, one behind the other."""
    if not chosen:
        return program
    assert program.weights is not None
    places: dict[int, Buffer] = {}
    plain: list[bytes] = []
    plain_bytes = decoded_bytes = 0
    for offset, (_, buffer) in sorted(_named(program).items()):
        size = aligned(4 * buffer.elements)
        if offset in chosen:
            places[offset] = replace(buffer, space="decoded", offset=decoded_bytes)
            decoded_bytes += size
        else:
            places[offset] = replace(buffer, offset=plain_bytes)
            plain.append(program.weights[offset // 4 : (offset + size) // 4].tobytes())
            plain_bytes += size
    at, codes = plain_bytes, []
    for offset, constant in sorted(chosen.items()):
        elements = constant.buffer.elements
        decoded = places[offset].offset
        codes.append(Code(constant.name, at, len(constant.code), decoded, elements, zeros(constant.values)))
        at += len(constant.code)
    calls = tuple(
        replace(c, buffers=tuple(places[b.offset] if b.space == "weights" else b for b in c.buffers))
        for c in program.calls
    )
    blob = b"".join((*plain, *(c.code for _, c in sorted(chosen.items()))))
    return replace(
        program,
        calls=calls,
        weight_bytes=at,
        weights=np.frombuffer(blob, np.uint8),
        codes=tuple(codes),
        decoded_bytes=decoded_bytes,
    )
