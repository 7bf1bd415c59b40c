"""Filters near the geometric median of their layer can be replaced by the others."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from edgeprune.graph.network import Network
from edgeprune.importance.criterion import Batches, LossFn, Scores, weights_by_channel


class GeometricMedian:
    """Sum of the distances of a channel's filters to those of all other channels of its group, over their number (He et
    al. 2019, "Filter Pruning via Geometric Median", eq. 6). Small filters are not worth less than others by this.
    """

    name: ClassVar[str] = "geometric_median"
    needs_data: ClassVar[bool] = False

    def score(self, network: Network, batches: Batches | None = None, loss_fn: LossFn | None = None) -> Scores:
        found: Scores = {}
        for name, weights in weights_by_channel(network).items():
            exact = torch.cdist(weights, weights, compute_mode="donot_use_mm_for_euclid_dist")
            found[name] = np.asarray(exact.sum(1) / max(1, len(weights) - 1))
        return found
