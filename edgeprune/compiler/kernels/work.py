"""What a kernel does, counted: what a latency model needs to know of a kernel that nobody has timed."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

from edgeprune.compiler.kernels.emit import block_count
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.targets import Target

FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Work:
    """Counts of one call of a kernel; a latency is about a sum of them, each times what one of its kind takes.

    Attributes:
        cycles: that its vector units are busy, by the rule's own estimate.
        issued: vector instructions of its innermost loops: what the busy units leave unsaid where a tile is small, and
            they wait for each other's results.
        loops: innermost loops that are entered.
        stores: vectors that are written.
        weight_bytes: of packed weights and biases, read once.
        read_bytes: of inputs, read once.
        again_bytes: of inputs, as often as the outer loops go through them.
        written_bytes: of the output.
        calls: 1.
    """

    cycles: float
    issued: float
    loops: float
    stores: float
    weight_bytes: float
    read_bytes: float
    again_bytes: float
    written_bytes: float
    calls: float = 1.0

    def counts(self) -> tuple[float, ...]:
        found: tuple[float, ...] = astuple(self)
        return found


def vectors(tensor: TensorSpec, target: Target) -> int:
    """Vectors that a tensor fills, padding included."""
    if tensor.layout == "blocked":
        return tensor.shape[0] * block_count(tensor.channels, target.lanes) * tensor.pixels
    return math.ceil(tensor.elements / target.lanes)


def plain_work(spec: KernelSpec, constants: int, target: Target) -> Work:
    """Of a kernel that goes once through its outputs and does what there is to do for each, vector by vector.

    Args:
        constants: elements of its packed weights and biases.
    """
    size = target.lanes * FLOAT_BYTES
    out = vectors(spec.output, target)
    read = sum(vectors(tensor, target) for tensor in spec.inputs)
    each = max(1.0, spec.macs / max(1, spec.output.elements))
    return Work(
        cycles=out * each / 2,
        issued=out * each,
        loops=out,
        stores=out,
        weight_bytes=constants * FLOAT_BYTES,
        read_bytes=read * size,
        again_bytes=read * size,
        written_bytes=out * size,
    )
