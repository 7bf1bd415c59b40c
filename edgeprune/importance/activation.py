"""Activation criteria: the saliency of a channel from its values as the layers behind it read them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from edgeprune.errors import BadInputError, UsageError
from edgeprune.graph.network import Network
from edgeprune.graph.watching import Watcher
from edgeprune.importance.criterion import Batches, LossFn, Scores, by_channel
from edgeprune.models.inputs import as_inputs


class _OfActivations(ABC):
    """The mean of a statistic over samples, positions and every site at which a layer reads the channel."""

    name: ClassVar[str]
    needs_data: ClassVar[bool] = True

    @staticmethod
    @abstractmethod
    def statistic(values: Tensor) -> Tensor:
        """The contribution of each value to the mean, at least 0; same shape."""

    def score(self, network: Network, batches: Batches | None = None, loss_fn: LossFn | None = None) -> Scores:
        if batches is None:
            raise UsageError(f"criterion '{self.name}' needs data", hint="give batches of (input, target)")
        groups = network.channels.prunable
        sites = {(g.name, a): g.size for g in groups for a in g.activations}
        totals = {site: np.zeros(size) for site, size in sites.items()}
        counts = dict.fromkeys(sites, 0)

        def see(node: str, value: Tensor) -> None:
            if not value.isfinite().all():
                raise BadInputError(
                    f"'{node}' holds values that are not finite",
                    hint="look for NaN in weights and data: train or load the network again",
                    node=node,
                )
            for site, size in sites.items():
                if site[1].node == node:
                    rows = self.statistic(by_channel(value, site[1], size))
                    totals[site] += rows.sum(1).numpy()
                    counts[site] += rows.shape[1]

        watcher = Watcher(network.module, {a.node for _, a in sites})
        empty = True
        with torch.no_grad():
            for x, _ in batches:
                empty = False
                watcher.run(as_inputs(x), see)
        if empty:
            raise UsageError(f"criterion '{self.name}' got an empty data set", hint="give at least one batch")
        means = {site: total / counts[site] for site, total in totals.items()}
        return {g.name: np.mean([means[g.name, a] for a in g.activations], axis=0) for g in groups}


class APoZ(_OfActivations):
    """One less the average percentage of zeros (Hu et al. 2016, "Network Trimming", eq. 1): channels that a ReLU mostly
    silences go first. Without a ReLU hardly any value is exactly zero, and all channels are worth about the same.
    """

    name: ClassVar[str] = "apoz"

    @staticmethod
    def statistic(values: Tensor) -> Tensor:
        return (values != 0).double()


class MeanActivation(_OfActivations):
    """Mean of the absolute activation (Molchanov et al. 2017, "Pruning Convolutional Neural Networks for Resource
    Efficient Inference", section 2.2).
    """

    name: ClassVar[str] = "mean_activation"

    @staticmethod
    def statistic(values: Tensor) -> Tensor:
        return values.abs()
