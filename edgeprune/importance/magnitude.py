"""Magnitude criteria: a channel is worth the norm of the filters that write it."""

from __future__ import annotations

from typing import ClassVar

from edgeprune.graph.network import Network
from edgeprune.importance.criterion import Batches, LossFn, Scores, weights_by_channel


class L1:
    """Sum of absolute weights over all filters of the channel (Li et al. 2017, section 3.1)."""

    name: ClassVar[str] = "l1"
    needs_data: ClassVar[bool] = False

    def score(self, network: Network, batches: Batches | None = None, loss_fn: LossFn | None = None) -> Scores:
        return {name: w.abs().sum(1).numpy() for name, w in weights_by_channel(network).items()}


class L2:
    """Root of the sum of squared weights over all filters of the channel."""

    name: ClassVar[str] = "l2"
    needs_data: ClassVar[bool] = False

    def score(self, network: Network, batches: Batches | None = None, loss_fn: LossFn | None = None) -> Scores:
        return {name: w.square().sum(1).sqrt().numpy() for name, w in weights_by_channel(network).items()}
