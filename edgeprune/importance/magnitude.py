"""Magnitude criteria: a channel is worth the norm of the filters that write it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from edgeprune.errors import BadInputError
from edgeprune.graph.network import Network
from edgeprune.importance.criterion import Batches, LossFn, Scores, by_channel, filters


class L1:
    """Sum of absolute weights over all filters of the channel (Li et al. 2017, section 3.1)."""

    name: ClassVar[str] = "l1"
    needs_data: ClassVar[bool] = False

    def score(self, network: Network, batches: Batches | None = None, loss_fn: LossFn | None = None) -> Scores:
        return {name: w.abs().sum(1).numpy() for name, w in _weights(network).items()}


class L2:
    """Root of the sum of squared weights over all filters of the channel."""

    name: ClassVar[str] = "l2"
    needs_data: ClassVar[bool] = False

    def score(self, network: Network, batches: Batches | None = None, loss_fn: LossFn | None = None) -> Scores:
        return {name: w.square().sum(1).sqrt().numpy() for name, w in _weights(network).items()}


def _weights(network: Network) -> dict[str, Tensor]:
    """Group name -> the weights of all its filters side by side, shape (size, weights per channel)."""
    parameters = dict(network.module.named_parameters(remove_duplicate=False))
    found: dict[str, Tensor] = {}
    for group in network.channels.prunable:
        rows = [by_channel(parameters[m.param], m, group.size) for m in filters(group, parameters)]
        found[group.name] = torch.cat(rows, 1) if rows else torch.zeros(group.size, 1, dtype=torch.double)
        if not found[group.name].isfinite().all():
            names = sorted({m.param for m in group.members})
            raise BadInputError(
                f"weights of width group '{group.name}' are not finite (one of {', '.join(names)})",
                hint="train or load the network again",
                group=group.name,
            )
    return found
