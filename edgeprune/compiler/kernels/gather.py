"""Blocked images put together from the channels of others: concatenation, slices, channel shuffle.

Parts rarely end where a block of the output does once a network is pruned. Which lane of which block
goes where is known when the kernel is written, so every output vector is one shuffle of the input
vectors it is made of; blocks that are put together alike share a loop.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


@dataclass(frozen=True, slots=True)
class Run:
    """Output blocks ``first`` … ``first + count - 1``, whose lanes come from the same places.

    ``lanes``: (input, its block less the output's block, its lane) of each lane that holds a channel.
    """

    first: int
    count: int
    lanes: tuple[tuple[int, int, int], ...]


class ChannelGather(Rule):
    """concat, channel_slice and channel_shuffle, of blocked images."""

    name = "channel_gather"

    def matches(self, spec: KernelSpec) -> bool:
        gathers = spec.op in ("concat", "channel_slice", "channel_shuffle")
        return gathers and not spec.epilogue and spec.output.layout == "blocked"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        height = spec.output.shape[2]
        width = spec.output.pixels // height

        def body(e: Emitter) -> None:
            with T.parallel(0, spec.output.shape[0] * height) as row:
                for run in runs(spec, e.lanes):
                    with T.serial(0, run.count) as i, T.serial(0, width) as column:
                        _block(e, run, row // height, run.first + i, row % height * width + column)

        return function(name, spec, schedule, target, [], body)


def runs(spec: KernelSpec, lanes: int) -> list[Run]:
    """What each block of the output is made of."""
    channels = sources(spec)
    found: list[Run] = []
    for block in range(block_count(len(channels), lanes)):
        here = channels[block * lanes : (block + 1) * lanes]
        places = tuple((part, c // lanes - block, c % lanes) for part, c in here)
        if found and found[-1].lanes == places:
            found[-1] = Run(found[-1].first, found[-1].count + 1, places)
        else:
            found.append(Run(block, 1, places))
    return found


def sources(spec: KernelSpec) -> list[tuple[int, int]]:
    """(input, its channel) of every channel of the output."""
    if spec.op == "channel_slice":
        return [(0, spec.attr("start") + c) for c in range(spec.output.channels)]
    if spec.op == "channel_shuffle":
        total, by_rows = spec.output.channels, "rows" in dict(spec.attrs)
        rows: int = spec.attr("rows") if by_rows else total // spec.attr("columns")
        return [(0, row * (total // rows) + column) for column in range(total // rows) for row in range(rows)]
    return [(part, c) for part, tensor in enumerate(spec.inputs) for c in range(tensor.channels)]


def _block(e: Emitter, run: Run, n: Expr, block: Expr, pixel: Expr) -> None:
    """One vector of the output; lanes that hold no channel repeat the first."""
    pixels = e.spec.output.pixels
    sources = list(dict.fromkeys((part, ahead) for part, ahead, _ in run.lanes))
    vectors = [
        e.load(
            e.inputs[part],
            ((n * block_count(e.spec.inputs[part].channels, e.lanes) + block + ahead) * pixels + pixel) * e.lanes,
        )
        for part, ahead in sources
    ]
    picked = [sources.index((part, ahead)) * e.lanes + lane for part, ahead, lane in run.lanes]
    picked += picked[:1] * (e.lanes - len(picked))
    value = vectors[0] if picked == list(range(e.lanes)) else T.Shuffle(vectors, picked)
    plane = n * block_count(e.spec.output.channels, e.lanes) + block
    e.store(e.output, value, (plane * pixels + pixel) * e.lanes)
