"""The deterministic cost of a kernel on the virtual clock.

Not a prediction: a stand-in for time that any machine reproduces to the digit, with the shape of
real latency (work in whole blocks of 8 lanes, a fixed price for a call, memory traffic), so that
everything above the clock can be tested without noise. Figures from it are ``simulated``.
"""

from __future__ import annotations

from edgeprune.board.element_types import SIZES
from edgeprune.compiler.layouts import block_count
from edgeprune.graph.spec import KernelSpec

CALL_NS = 500
BLOCK = 8
MACS_PER_NS = 8
BYTES_PER_NS = 16


def virtual_cost_ns(spec: KernelSpec) -> int:
    """Nanoseconds a call of this kernel adds to the virtual clock."""
    out = block_count(spec.output.channels, BLOCK) * BLOCK
    macs = spec.macs * out // spec.output.channels
    traffic = sum(SIZES[t.dtype] * t.elements for t in (*spec.inputs, spec.output))
    return CALL_NS + macs // MACS_PER_NS + traffic // BYTES_PER_NS
