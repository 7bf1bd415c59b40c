"""The latency tables that a report shows: of the kernels that weigh most, over the widths that plans choose from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from edgeprune.errors import ProfileError
from edgeprune.graph.network import Network
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.grids import grid_for
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.problem import bindings_of
from edgeprune.latency.tables import LatencyTable
from edgeprune.profiling.estimated import with_timed

MOST, MOST_WIDTHS = 4, 16
"""Kernels, and widths of each axis."""


def heaviest_tables(
    network: Network, levels: Mapping[str, tuple[int, ...]], model: LatencyModel, timed: Iterable[KernelSpec]
) -> dict[str, LatencyTable]:
    """By the node of each, tables of the kernels that take longest of those with two widths to choose; one a family.

    Args:
        levels: group -> widths that are offered.
        timed: kernels whose latencies are no estimates.
    """
    nodes, found, known = network.kernels.nodes, dict[str, LatencyTable](), list(timed)
    latencies = [model.predict_kernel(n.spec).latency_ms for n in nodes]
    for i in sorted(range(len(nodes)), key=lambda i: (-latencies[i], i)):
        node = nodes[i]
        grids = [grid_for(b, levels) for b in bindings_of(node, network.channels).values()]
        grids = [g[g > 0] for g in grids]
        if len(grids) != 2 or min(map(len, grids)) < 2 or node.spec.family in {t.family for t in found.values()}:
            continue
        shown = tuple(g[np.unique(np.linspace(0, len(g) - 1, MOST_WIDTHS).round().astype(int))] for g in grids)
        try:
            found[node.name] = with_timed(model.table(node.spec, grids=shown, estimate=True), known)
        except ProfileError:
            continue  # some widths failed, and the report says which
        if len(found) == MOST:
            break
    return found
