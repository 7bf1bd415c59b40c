"""What a kernel rule is: match, space of parameters, packing of constants, code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.kernels.emit import Function
from edgeprune.compiler.kernels.work import Work, plain_work
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

Schedule = Mapping[str, Any]
"""``{"rule": name, parameter: value, …}``: JSON, stored beside the latency it gave."""

Constants = list[NDArray[np.float32]]


class Rule(ABC):
    """A kernel rule builds one kind of kernel. A new one is one class, in a file that the registry names."""

    name: str
    in_blocks: ClassVar[bool] = False
    """Whether its kernels store blocks of their weights, as many as the spec's density says, and no others."""

    @abstractmethod
    def matches(self, spec: KernelSpec) -> bool: ...

    @abstractmethod
    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        """Schedules worth measuring, the one to use unmeasured first. Empty only beside another rule that matches."""

    def constants(self, spec: KernelSpec, schedule: Schedule, target: Target) -> list[int]:
        """Elements of each constant buffer (packed weights, bias), in call order."""
        return []

    def pack(self, spec: KernelSpec, schedule: Schedule, target: Target, weight: Any, bias: Any) -> Constants:
        """The constant buffers from logical fp32 ``weight`` and ``bias`` (or None)."""
        return []

    def fixed(self, spec: KernelSpec, schedule: Schedule, target: Target) -> Mapping[int, NDArray[np.float32]]:
        """Constants, by position, whose values decide what a kernel does, such as places that it reads at: where
        weights are noise, to time a kernel, these are there instead.
        """
        return {}

    def scratch(self, spec: KernelSpec, schedule: Schedule, target: Target) -> int:
        """Elements of the arena that the kernel uses while it runs; with 0 it gets no such buffer."""
        return 0

    def work(self, spec: KernelSpec, schedule: Schedule, target: Target) -> Work:
        """What a call does, counted; rules whose loops do more than go once through their outputs count for
        themselves.
        """
        return plain_work(spec, sum(self.constants(spec, schedule, target)), target)

    @abstractmethod
    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function: ...


def vector_registers(target: Target) -> int:
    """Architectural vector registers: 32 on AVX-512 and AArch64, 16 on SSE, AVX2 and 32-bit NEON."""
    return 32 if target.vector_bits == 512 else target.architecture.vector_registers


def most_columns(blocks: int, target: Target) -> int:
    """Columns of the widest register tile beside one weight vector a block and the inputs.

    x86 reads an input as it multiplies, so one register serves all columns; ARM multiplies by a lane of a vector
    that holds one input channel a lane, and keeps one for each column.
    """
    free = vector_registers(target) - blocks
    return (free - 1) // blocks if target.architecture.memory_operands else free // (blocks + 1)


def padded(vector: Any, size: int) -> NDArray[np.float32]:
    """``vector`` (or None) followed by zeros up to ``size``."""
    out = np.zeros(size, np.float32)
    if vector is not None:
        out[: len(vector)] = vector
    return out
