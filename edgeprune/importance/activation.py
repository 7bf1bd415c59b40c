"""Activation criterion: the saliency of a channel from its values as the layers behind it read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from edgeprune.errors import BadInputError, UsageError
from edgeprune.graph.network import Network
from edgeprune.graph.watching import Watcher
from edgeprune.importance.criterion import Batches, LossFn, Scores, by_channel
from edgeprune.importance.of_weights import COMBINATIONS, Array, combined
from edgeprune.methods import chosen
from edgeprune.models.inputs import as_inputs

STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean_abs": Tensor.abs,
    "mean": lambda values: values,
    "l2": Tensor.square,
    "apoz": lambda values: (values != 0).double(),
}
"""What each value contributes to a mean."""
_OF_MEAN: dict[str, Callable[[Array], Array]] = {"mean": np.abs, "l2": np.sqrt}
"""What is made of that mean, where it is not the score itself."""


class Activation:
    """A statistic of a channel's values over samples and positions, at every site where a layer reads it; of several
    sites the mean, the sum or the largest.

    Args:
        statistic: ``mean_abs``, mean of the absolute values (Molchanov et al. 2017, "Pruning Convolutional Neural
            Networks for Resource Efficient Inference", section 2.2); ``mean``, the size of their mean; ``l2``, root of
            the mean square; ``apoz``, one less the average percentage of zeros (Hu et al. 2016, "Network Trimming",
            eq. 1): channels that a ReLU mostly silences go first. Without a ReLU hardly any value is exactly zero, and
            all channels are worth about the same.
    """

    name: ClassVar[str] = "activation"
    needs_data: ClassVar[bool] = True

    def __init__(self, statistic: str = "mean_abs", combine: str = "mean") -> None:
        self.statistic = chosen(f"criterion '{self.name}'", "statistic", statistic, tuple(STATISTICS))
        self.combine = chosen(f"criterion '{self.name}'", "combine", combine, COMBINATIONS[1:])

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
                    rows = STATISTICS[self.statistic](by_channel(value, site[1], size))
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
        of_mean = _OF_MEAN.get(self.statistic, np.asarray)
        means = {site: of_mean(total / counts[site]) for site, total in totals.items()}
        return {g.name: combined([means[g.name, a] for a in g.activations], self.combine) for g in groups}
