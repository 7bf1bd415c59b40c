"""The control of every experiment: random saliency."""

from __future__ import annotations

import zlib
from typing import ClassVar

import numpy as np

from edgeprune.graph.network import Network
from edgeprune.importance.criterion import Batches, LossFn, Scores


class Random:
    """Uniform in [0, 1); a group's numbers depend on the seed and its name alone."""

    name: ClassVar[str] = "random"
    needs_data: ClassVar[bool] = False

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def score(self, network: Network, batches: Batches | None = None, loss_fn: LossFn | None = None) -> Scores:
        return {
            g.name: np.random.default_rng([self.seed, zlib.crc32(g.name.encode())]).random(g.size)
            for g in network.channels.prunable
        }
