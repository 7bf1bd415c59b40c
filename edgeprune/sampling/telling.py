"""Which measurements tell most of what networks take: each in turn the one that the sums are least unsure after.

An estimate's doubts do not depend on what a measurement says, only on where it is, so a batch can be chosen before any
of it is measured (active learning by expected variance; Cohn, Ghahramani and Jordan, 1996). Kernels that are alike are
not all chosen: the first settles most of what the others would say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune.graph.spec import KernelSpec
from edgeprune.profiling.estimator import WorkEstimator

NOISE = 0.01
"""Standard deviation of a measurement (of the logarithm)."""
NOTHING = 1e-9
"""What a measurement takes off relative variances, below which it is not worth its while."""


def most_telling(
    networks: Sequence[Sequence[KernelSpec]], estimator: WorkEstimator, count: int, known: set[str]
) -> list[KernelSpec]:
    """At most ``count`` kernels of these networks, the most telling first.

    Args:
        known: keys of kernels that need not be measured.
    """
    cells = list({s.key: s for network in networks for s in network}.values())
    open_ = np.array([s.key not in known for s in cells])
    if not open_.any():
        return []
    joint = estimator.joint(cells)
    shares, covariance = _shares(networks, cells, joint.latency_ns), joint.covariance.copy()
    chosen: list[KernelSpec] = []
    while len(chosen) < count and open_.any():
        gains = ((shares @ covariance) ** 2).sum(axis=0) / (np.diag(covariance) + NOISE**2)
        best = int(np.where(open_, gains, -1.0).argmax())
        if gains[best] < NOTHING:
            break
        chosen.append(cells[best])
        open_[best] = False
        column = covariance[:, best].copy()
        covariance -= np.outer(column, column) / (column[best] + NOISE**2)
    return chosen


def _shares(
    networks: Sequence[Sequence[KernelSpec]], cells: Sequence[KernelSpec], latency_ns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of each network's latency the share of each kernel, shape (networks, kernels)."""
    counts = [Counter(s.key for s in network) for network in networks]
    taken = np.array([[count[s.key] for s in cells] for count in counts], dtype=np.float64) * latency_ns
    found: NDArray[np.float64] = taken / taken.sum(axis=1, keepdims=True)
    return found
