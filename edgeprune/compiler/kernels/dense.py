"""Fully connected layers: one row times a packed matrix.

Weights are packed in the order in which the input lies on the board, so a dense layer after a
flatten reads the blocked image directly and no transposition kernel exists. ``chains`` partial
sums per output block hide the latency of the multiply-add where there are few output blocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeprune.compiler.kernels.base import Constants, Rule, Schedule, padded
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function, narrowing, tiles
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.targets import Target


class Dense(Rule):
    """dense: x (N, F) plain or (N, C, H, W) blocked, y (N, O) plain."""

    name = "dense"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "dense" and spec.output.layout == "plain"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        blocks = block_count(spec.output.channels, target.lanes)
        best = min(blocks, 8)
        points = [(b, max(1, 8 // b)) for b in (8, 4, 2, 1) if b <= blocks]
        points.sort(key=lambda p: abs(p[0] - best))
        return [{"rule": self.name, "blocks": b, "chains": c} for b, c in points]

    def constants(self, spec: KernelSpec, schedule: Schedule, target: Target) -> list[int]:
        width = block_count(spec.output.channels, target.lanes) * target.lanes
        return [width * spec.inputs[0].channels * spec.inputs[0].pixels, width]

    def pack(self, spec: KernelSpec, schedule: Schedule, target: Target, weight: Any, bias: Any) -> Constants:
        """(O, C*P) -> [out block][in block][pixel][channel in block][lane]."""
        x, o = spec.inputs[0], spec.output.channels
        lanes, blocks = target.lanes, block_count(spec.output.channels, target.lanes)
        whole = np.zeros((blocks * lanes, x.channels, x.pixels), np.float32)
        whole[:o] = np.asarray(weight).reshape(o, x.channels, x.pixels)
        by_block = whole.reshape(blocks, lanes, x.channels, x.pixels)
        parts = [
            by_block[:, :, start : start + size].transpose(0, 3, 2, 1).reshape(blocks, -1)
            for start, size in tiles(x.channels, _depth(x, lanes))
        ]
        return [np.concatenate(parts, axis=1).reshape(-1), padded(bias, blocks * lanes)]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        blocks = block_count(spec.output.channels, target.lanes)
        step = int(schedule["blocks"])

        def body(e: Emitter) -> None:
            full = blocks // step
            # The last block may be partial; it is always in the group written last.
            groups = [(0, full, step)] if full else []
            if rest := blocks - full * step:
                groups.append((full * step, 1, rest))
            for first, count, size in groups:
                partial = spec.output.channels % e.lanes and first + count * size == blocks
                whole = count - 1 if partial else count
                if whole:
                    with T.parallel(0, spec.output.shape[0] * whole) as index:
                        _rows(e, index // whole, first + index % whole * size, size, int(schedule["chains"]), e.lanes)
                if partial:
                    lanes = spec.output.channels % e.lanes
                    with T.serial(0, spec.output.shape[0]) as n:
                        _rows(e, n, first + (count - 1) * size, size, int(schedule["chains"]), lanes)

        return function(name, spec, schedule, target, self.constants(spec, schedule, target), body)


def _depth(x: TensorSpec, lanes: int) -> int:
    """Channels that lie side by side in the input: a block, or all features of a plain vector."""
    return lanes if x.layout == "blocked" else x.channels


def _rows(e: Emitter, n: Expr, block: Expr, blocks: int, chains: int, last_lanes: int) -> None:
    """``blocks`` output blocks of sample ``n``; the last one stores only ``last_lanes`` lanes."""
    x, lanes = e.spec.inputs[0], e.lanes
    weight, bias = e.constants
    features = x.channels * x.pixels
    depth = _depth(x, lanes)
    acc = e.registers(blocks * chains)
    for b in range(blocks):
        for c in range(chains):
            start = e.load(bias, (block + b) * lanes) if c == 0 else e.const(0.0)
            acc[b * chains + c] = start

    def step(read: Expr, feature: Expr, chain: int) -> None:
        value = e.splat(e.inputs[0][read])
        for b in range(blocks):
            vector = e.load(weight, ((block + b) * features + feature) * lanes)
            i = b * chains + chain
            acc[i] = acc[i] + value * vector

    def run(read: Expr, feature: Expr, count: int) -> None:
        """``count`` features that lie together, ``chains`` at a time."""
        if count >= chains:
            with T.serial(0, count // chains) as i:
                for c in range(chains):
                    step(read + i * chains + c, feature + i * chains + c, c)
        for c in range(count % chains):
            offset = count // chains * chains + c
            step(read + offset, feature + offset, c)

    stored = block_count(x.channels, depth) * depth * x.pixels
    full, rest = divmod(x.channels, depth)
    run(n * stored, 0, full * depth * x.pixels)
    if rest:
        done = full * depth * x.pixels
        with T.serial(0, x.pixels) as pixel:
            run(n * stored + done + pixel * depth, done + pixel * rest, rest)
    for b in range(blocks):
        total = acc[b * chains]
        for c in range(1, chains):
            total = total + acc[b * chains + c]
        store_block(e, n, block + b, total, last_lanes if b == blocks - 1 else lanes)


def store_block(e: Emitter, n: Expr, block: Expr, value: Expr, lanes: int) -> None:
    """Epilogue and store of one block of a plain row; a partial block goes in ever narrower vectors."""
    at = n * e.spec.output.channels + block * e.lanes
    if lanes == e.lanes:
        e.store(e.output, _plain_epilogue(e, value, at, lanes), at)
        return
    (kept,) = e.keep(value)
    for start, width in narrowing(lanes, e.lanes):
        part = T.Shuffle([kept], list(range(start, start + width)))
        e.store(e.output, _plain_epilogue(e, part, at + start, width), at + start, width)


def _plain_epilogue(e: Emitter, value: Expr, at: Expr, lanes: int) -> Expr:
    return e.epilogue(value, at, 0, lanes, plain=True)
