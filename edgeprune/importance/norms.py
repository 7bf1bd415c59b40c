"""Network slimming: a channel is worth the scale that its batch norm gives it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch.nn.modules.batchnorm import _BatchNorm

from edgeprune.errors import BadInputError, UsageError
from edgeprune.graph.network import Network
from edgeprune.importance.criterion import Batches, LossFn, Scores, by_channel
from edgeprune.importance.magnitude import RelativeL2
from edgeprune.importance.of_weights import COMBINATIONS, combined
from edgeprune.methods import chosen


class BatchNormScale:
    """abs(gamma) of the batch norms behind a channel (Liu et al. 2017, "Learning Efficient Convolutional Networks
    through Network Slimming", section 3); of several, their mean, sum or largest.

    A group without a batch norm has none of these: its channels are worth their relative l2 norm, times the largest
    scale of the network.
    """

    name: ClassVar[str] = "bn_scale"
    needs_data: ClassVar[bool] = False

    def __init__(self, combine: str = "mean") -> None:
        self.combine = chosen(f"criterion '{self.name}'", "combine", combine, COMBINATIONS[1:])

    def score(self, network: Network, batches: Batches | None = None, loss_fn: LossFn | None = None) -> Scores:
        module = network.module
        norms = {f"{n}.weight": m for n, m in module.named_modules(remove_duplicate=False) if isinstance(m, _BatchNorm)}
        scales: Scores = {}
        for group in network.channels.prunable:
            found = [
                by_channel(norms[m.param].weight, m, group.size).abs().amax(1).numpy()
                for m in group.members
                if m.param in norms and m.role == "out"
            ]
            if found:
                scales[group.name] = combined(found, self.combine)
                if not np.isfinite(scales[group.name]).all():
                    raise BadInputError(
                        f"batch norms of width group '{group.name}' have scales that are not finite",
                        hint="train or load the network again",
                        group=group.name,
                    )
        if not scales:
            raise UsageError(
                f"criterion '{self.name}' needs batch norms, and no width group has one",
                hint="a network that was folded for export has none: load the one it came from, or take criterion l2",
            )
        if len(scales) == len(network.channels.prunable):
            return scales
        largest = max(float(s.max()) for s in scales.values())
        others = RelativeL2().score(network)
        return {name: scales.get(name, largest * values) for name, values in others.items()}
