"""Cutting a traced network into kernels. Fusion is decided here, once, and nowhere else.

What the cut yields is what latency tables are keyed by and what the compiler builds.
"""

from __future__ import annotations

from torch.export import ExportedProgram

from edgeprune.graph.channels import KernelGraph
from edgeprune.graph.cutter import HANDLERS, Cutter
from edgeprune.graph.groups import Analysis
from edgeprune.graph.operators import (
    convolution,
    elementwise,
    norms,
    places,
    products,
    recurrent,
    reductions,
    shapes,
    windows,
)

__all__ = ["HANDLERS", "cut"]

OPERATORS = (convolution, elementwise, norms, places, products, recurrent, reductions, shapes, windows)
"""Modules whose handlers are registered by being imported."""


def cut(program: ExportedProgram, analysis: Analysis) -> KernelGraph:
    """Kernels of a traced network, with their width axes bound to the groups of ``analysis``.

    Raises:
        UnsupportedOperatorError: an operator that no kernel computes; names node, module and line.
    """
    return Cutter(program, analysis).run()
