"""Weights of which only the blocks are stored that are not zero: what is stored, and how a kernel finds it.

A block is one value that is read by 16 filters side by side. Blocks of the same 16 filters are a row; of each row are
stored the places of the values that it reads, ascending, and a vector of 16 weights for each. Which blocks these are is
data and not code, so a kernel is the same for all patterns of as many blocks. Of the rows the beginnings are stored, so
they need not be of one length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.kernels.base import Constants
from edgeprune.compiler.kernels.conv import padded_bias
from edgeprune.compiler.kernels.emit import Emitter, Expr, T, block_count
from edgeprune.graph.ops.convolution import BLOCK, block_rows, stored_blocks
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

Pattern = NDArray[np.bool_]
"""(rows of blocks, values that a filter reads): True where a block is stored."""

WEIGHTS, PLACES, BIAS = range(3)
"""Constants of these kernels, in call order. Places are whole numbers of 32 bits in a buffer of floats: where each row
begins among the blocks and where the last one ends, then where each block's value lies in the input."""


def pattern_of(weight: NDArray[np.float32]) -> Pattern:
    """The blocks of (O, …) filters that are not zero throughout."""
    flat = weight.reshape(len(weight), -1) != 0
    return np.logical_or.reduceat(flat, np.arange(0, len(flat), BLOCK), axis=0)


def blocks_of(spec: KernelSpec) -> tuple[int, int]:
    """Rows of blocks, and the values that a filter reads: blocks of a row."""
    read = spec.inputs[0].channels * (spec.inputs[0].pixels if spec.op == "dense" else 1)
    return block_rows(spec.output.channels), read


def stored_of(spec: KernelSpec) -> int:
    """Blocks that a kernel has room for."""
    rows, read = blocks_of(spec)
    return stored_blocks(rows * read, spec.density or 100)


def drawn_pattern(spec: KernelSpec, seed: int = 0) -> Pattern:
    """As many blocks as there is room for, at random places: what a kernel is timed with."""
    rows, read = blocks_of(spec)
    pattern: Pattern = np.zeros(rows * read, bool)
    pattern[np.random.default_rng(seed).permutation(rows * read)[: stored_of(spec)]] = True
    return pattern.reshape(rows, read)


def sizes_of(spec: KernelSpec, target: Target) -> list[int]:
    """Elements of each constant."""
    stored, (rows, _) = stored_of(spec), blocks_of(spec)
    return [stored * BLOCK, rows + 1 + stored, block_count(spec.output.channels, target.lanes) * target.lanes]


def packed_blocks(spec: KernelSpec, target: Target, weight: Any, bias: Any) -> Constants:
    """(O, …) -> [block][filter], places, bias. Blocks that there is room for beyond those of the rows are never read.

    Raises:
        ValueError: more blocks are not zero than there is room for.
    """
    filters = np.asarray(weight, np.float32).reshape(spec.output.channels, -1)
    pattern = pattern_of(filters)
    row, value = np.nonzero(pattern)
    values = np.zeros((stored_of(spec), BLOCK), np.float32)
    if len(row) > len(values):
        raise ValueError(f"{len(row)} blocks of {spec} are not zero; there is room for {len(values)}")
    whole = np.zeros((len(pattern) * BLOCK, filters.shape[1]), np.float32)
    whole[: len(filters)] = filters
    values[: len(row)] = whole.reshape(len(pattern), BLOCK, -1)[row, :, value]
    return [values.reshape(-1), places_of(spec, target, pattern), padded_bias(spec, target, bias)]


def drawn_places(spec: KernelSpec, target: Target) -> dict[int, NDArray[np.float32]]:
    """The places of a drawn pattern, as :meth:`Rule.fixed` gives them."""
    return {PLACES: places_of(spec, target, drawn_pattern(spec))}


def places_of(spec: KernelSpec, target: Target, pattern: Pattern) -> NDArray[np.float32]:
    """The places of a pattern's blocks, as a kernel reads them."""
    ends = np.cumsum(pattern.sum(axis=1))
    places = np.zeros(len(pattern) + 1 + stored_of(spec), np.int32)
    places[1 : len(ends) + 1] = ends
    places[len(ends) + 1 :][: ends[-1]] = _read_at(spec, target)[np.nonzero(pattern)[1]]
    return places.view(np.float32)


def _read_at(spec: KernelSpec, target: Target) -> NDArray[np.int32]:
    """Where each value that a filter reads lies in its sample of the input; of a channel the first pixel."""
    x = spec.inputs[0]
    if x.layout == "plain":
        return np.arange(x.channels, dtype=np.int32)
    channel, pixel = np.divmod(np.arange(x.channels * x.pixels), x.pixels)
    at = ((channel // target.lanes) * x.pixels + pixel) * target.lanes + channel % target.lanes
    found: NDArray[np.int32] = (at if spec.op == "dense" else at[pixel == 0]).astype(np.int32)
    return found


def place_at(e: Emitter, index: Expr) -> Expr:
    """One of the places, as a whole number."""
    return T.reinterpret("int32", e.constants[PLACES][index])


def row_of(e: Emitter, row: Expr) -> tuple[Expr, Expr]:
    """Where the blocks of a row begin, and how many there are."""
    begin = place_at(e, row)
    return begin, place_at(e, row + 1) - begin
