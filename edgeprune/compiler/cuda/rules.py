"""How kernels are scheduled on a GPU: rules like those of the cores, chosen and measured in the same way.

Tensors are plain and row-major there, so constants are stored as they are. What a kernel computes is
written in ``compute.py``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeprune.compiler.cuda.compute import ANCHORS, prim_func
from edgeprune.compiler.cuda.constants import constant_shapes
from edgeprune.compiler.cuda.threads import scheduled
from edgeprune.compiler.kernels.base import Constants, Rule, Schedule
from edgeprune.compiler.kernels.emit import Function
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

THREADS = 256
_TILES = (4, 8, 2)


class _GpuRule(Rule):
    """Threads of a block are along one axis, sums stay in registers, nothing is shared between threads."""

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op in ANCHORS

    def constants(self, spec: KernelSpec, schedule: Schedule, target: Target) -> list[int]:
        return [math.prod(shape) for shape in constant_shapes(spec).values()]

    def pack(self, spec: KernelSpec, schedule: Schedule, target: Target, weight: Any, bias: Any) -> Constants:
        return [np.asarray(values, np.float32).reshape(-1) for values in (weight, bias)[: len(constant_shapes(spec))]]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        return scheduled(name, prim_func(name, spec), int(schedule.get("channels", 1)), int(schedule["threads"]))


class ResultPerThread(_GpuRule):
    """One thread computes one result: right for everything, quick for what reads each input once."""

    name = "cuda_result_per_thread"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name, "threads": threads} for threads in (THREADS, 128)]


class ChannelsPerThread(_GpuRule):
    """One thread computes a pixel in several output channels: an input that was read serves all of them.

    ``channels`` of them, which has to divide the output's channels (so no thread has less to do).
    """

    name = "cuda_channels_per_thread"

    def matches(self, spec: KernelSpec) -> bool:
        dense = spec.op == "dense" or (spec.op == "conv2d" and spec.attr("groups") == 1)
        return dense and super().matches(spec)

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        fits = [channels for channels in _TILES if spec.output.channels % channels == 0]
        return [{"rule": self.name, "threads": t, "channels": c} for c in fits for t in (128, 64)]
