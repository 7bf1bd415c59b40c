"""Vectors of fp32 values in TensorIR: constants, and the registers that hold them."""

from __future__ import annotations

from typing import Any

from edgeprune.compiler.tvm_modules import T

Expr = Any  # a TensorIR expression; TVM's stubs do not type the builder


class Registers:
    """Vector values that LLVM keeps in registers: they are indexed by Python ints only.

    TVM leaves an allocation on the stack, where LLVM finds registers for it, if it is of "global" scope and
    below 1 KiB; any other comes from the heap, at run time and for every tile. So many accumulators are
    several small buffers.
    """

    _MOST_BYTES = 512

    def __init__(self, count: int, lanes: int) -> None:
        dtype = "float32" if lanes == 1 else f"float32x{lanes}"
        self._size = self._MOST_BYTES // (4 * lanes)
        self._buffers = [T.alloc_buffer((n,), dtype, scope="global") for _, n in tiles(count, self._size)]

    def __getitem__(self, index: int) -> Expr:
        return self._buffers[index // self._size][index % self._size]

    def __setitem__(self, index: int, value: Expr) -> None:
        T.buffer_store(self._buffers[index // self._size], value, [index % self._size])

    def address(self) -> Expr:
        """Of the first value; the others follow it if they are few enough to be one buffer."""
        (buffer,) = self._buffers
        return T.address_of(buffer[0])


def splat(scalar: Expr, lanes: int) -> Expr:
    """``scalar`` in every lane of a vector; one lane is a scalar."""
    return scalar if lanes == 1 else T.Broadcast(scalar, lanes)


def kept(values: tuple[Expr, ...], lanes: int) -> list[Expr]:
    """The values, computed where the builder stands, to be used more than once."""
    registers = Registers(len(values), lanes)
    for i, value in enumerate(values):
        registers[i] = value
    return [registers[i] for i in range(len(values))]


def tiles(total: int, width: int) -> list[tuple[int, int]]:
    """Cut ``range(total)`` into (start, size) tiles of ``width`` and one smaller tail."""
    return [(start, min(width, total - start)) for start in range(0, total, width)]
