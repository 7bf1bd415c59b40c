"""Linear layers that compute the stored blocks of their weights alone: one row times those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.kernels.base import Constants, Rule, Schedule
from edgeprune.compiler.kernels.dense import store_block
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function
from edgeprune.compiler.kernels.stored_blocks import (
    BIAS,
    WEIGHTS,
    blocks_of,
    drawn_places,
    packed_blocks,
    place_at,
    row_of,
    sizes_of,
    stored_of,
)
from edgeprune.compiler.kernels.work import Work
from edgeprune.graph.ops.convolution import BLOCK, block_rows
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


class DenseBlocks(Rule):
    """dense: x (N, F) plain or (N, C, H, W) blocked, y (N, O) plain."""

    name = "dense_blocks"
    in_blocks = True

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "dense" and spec.density is not None and spec.output.layout == "plain"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        """``chains`` of partial sums hide the latency of the multiply-add, and read as many stretches of a row's
        weights side by side: one alone comes from memory at half the speed.
        """
        vectors = BLOCK // target.lanes
        return [{"rule": self.name, "chains": c} for c in (max(1, 8 // vectors), max(1, 4 // vectors))]

    def constants(self, spec: KernelSpec, schedule: Schedule, target: Target) -> list[int]:
        return sizes_of(spec, target)

    def pack(self, spec: KernelSpec, schedule: Schedule, target: Target, weight: Any, bias: Any) -> Constants:
        return packed_blocks(spec, target, weight, bias)

    def fixed(self, spec: KernelSpec, schedule: Schedule, target: Target) -> Mapping[int, NDArray[np.float32]]:
        return drawn_places(spec, target)

    def work(self, spec: KernelSpec, schedule: Schedule, target: Target) -> Work:
        plain = super().work(spec, schedule, target)
        vectors, samples = BLOCK // target.lanes, spec.output.shape[0]
        cycles = samples * stored_of(spec) * (vectors + 1) / 2
        issued = samples * stored_of(spec) * (2 * vectors + 1)
        rows = blocks_of(spec)[0]
        return replace(plain, cycles=cycles, issued=issued, loops=samples * rows, again_bytes=rows * plain.read_bytes)

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        chains, samples = int(schedule["chains"]), spec.output.shape[0]
        whole, rest = divmod(spec.output.channels, BLOCK)

        def body(e: Emitter) -> None:
            if whole:
                with T.parallel(0, samples * whole) as index:
                    _dense_row(e, index // whole, index % whole, chains, BLOCK)
            if rest:
                with T.serial(0, samples) as n:
                    _dense_row(e, n, whole, chains, rest)

        return function(name, spec, schedule, target, self.constants(spec, schedule, target), body)


def _dense_row(e: Emitter, n: Expr, row: Expr, chains: int, filters: int) -> None:
    """The results of one row of blocks for sample ``n``, the first ``filters`` of which exist."""
    lanes, x = e.lanes, e.spec.inputs[0]
    vectors, first = block_count(filters, lanes), row * (BLOCK // lanes)
    stored = (block_count(x.channels, lanes) * lanes if x.layout == "blocked" else x.channels) * x.pixels
    acc = [e.registers(chains) for _ in range(vectors)]
    for b in range(vectors):
        for c in range(chains):
            acc[b][c] = e.load(e.constants[BIAS], (first + b) * lanes) if c == 0 else e.const(0.0)
    begin, count = row_of(e, row)
    places = block_rows(e.spec.output.channels) + 1

    def step(k: Expr, chain: int) -> None:
        value = e.splat(e.inputs[0][n * stored + place_at(e, places + k)])
        for b in range(vectors):
            acc[b][chain] = acc[b][chain] + value * e.load(e.constants[WEIGHTS], k * BLOCK + b * lanes)

    with T.serial(0, count // chains) as i:
        for c in range(chains):
            step(begin + c * (count // chains) + i, c)
    with T.serial(0, count % chains) as i:
        step(begin + count // chains * chains + i, 0)
    for b in range(vectors):
        total = acc[b][0]
        for c in range(1, chains):
            total = total + acc[b][c]
        store_block(e, n, first + b, total, min(lanes, filters - b * lanes))
