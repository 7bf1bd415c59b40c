"""Criteria whose signal is one number for each weight: what a channel is worth is a norm of the numbers it owns.

Channels of a width group are written by several layers (a residual sum, a depthwise convolution after another), and go
together. So their numbers are taken together: as one vector, or layer by layer with the norms combined (Fang et al.
2023, "DepGraph: Towards Any Structural Pruning", section 3.3, for sums).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeprune.errors import BadInputError, UsageError
from edgeprune.graph.channels import Member, WidthGroup
from edgeprune.graph.network import Network
from edgeprune.importance.criterion import Batches, LossFn, Scores, by_channel, filters, written_parameters
from edgeprune.methods import chosen

JOINT = "joint"
COMBINATIONS = (JOINT, "sum", "mean", "max")
"""How layers of a group are taken together: as if their weights were those of one layer, or by their norms."""

Array = NDArray[np.float64]


def combined(scores: Sequence[Array], how: str) -> Array:
    """Scores of several layers or sites, shape (channels,) each, as one; a single one for :data:`JOINT`."""
    stacked = np.stack(scores)
    found: Array = stacked.mean(0) if how == "mean" else stacked.max(0) if how == "max" else stacked.sum(0)
    return found


class OfWeights(ABC):
    """Saliency by a signal for each weight.

    Attributes:
        trained: whether biases and norms count as well as the filters.
    """

    name: ClassVar[str]
    needs_data: ClassVar[bool] = False
    trained: ClassVar[bool] = False

    def __init__(self, combine: str = JOINT) -> None:
        self.combine = chosen(f"criterion '{self.name}'", "combine", combine, COMBINATIONS)

    @abstractmethod
    def signals(
        self, network: Network, wanted: Mapping[str, Tensor], batches: Batches | None, loss_fn: LossFn | None
    ) -> Iterator[Mapping[str, Tensor]]:
        """One number for each weight of the parameters ``wanted``, by their names; several times where data have a say
        batch by batch: scores are means over these.
        """

    @staticmethod
    @abstractmethod
    def norm(values: Tensor) -> Tensor:
        """What numbers are worth together; shape (channels, values) to (channels,), at least 0."""

    def score(self, network: Network, batches: Batches | None = None, loss_fn: LossFn | None = None) -> Scores:
        if self.needs_data and batches is None:
            raise UsageError(f"criterion '{self.name}' needs data", hint="give batches of (input, target)")
        parameters, groups = dict(network.module.named_parameters(remove_duplicate=False)), network.channels.prunable
        members = {g.name: (written_parameters if self.trained else filters)(g, parameters) for g in groups}
        wanted = {m.param: parameters[m.param] for found in members.values() for m in found}
        totals, count = {g.name: torch.zeros(g.size, dtype=torch.double) for g in groups}, 0
        for signal in self.signals(network, wanted, batches, loss_fn):
            count += 1
            for group in groups:
                totals[group.name] += self._of_group(group, members[group.name], signal)
        if not count:
            raise UsageError(f"criterion '{self.name}' got an empty data set", hint="give at least one batch")
        return self.compared({name: total.numpy() / count for name, total in totals.items()})

    def compared(self, scores: Scores) -> Scores:
        """Scores of all groups, brought to one scale where a criterion has one."""
        return scores

    def _of_group(self, group: WidthGroup, members: Sequence[Member], signal: Mapping[str, Tensor]) -> Tensor:
        layers: dict[str, list[Tensor]] = {}
        for m in members:
            layer = "" if self.combine == JOINT else m.param.rpartition(".")[0]
            layers.setdefault(layer, []).append(by_channel(signal[m.param], m, group.size))
        rows = [torch.cat(parts, 1) for parts in layers.values()] or [torch.zeros(group.size, 1, dtype=torch.double)]
        if not all(r.isfinite().all() for r in rows):
            what = "gradients" if self.needs_data else "weights"
            names = ", ".join(sorted({m.param for m in members}))
            raise BadInputError(
                f"{what} of width group '{group.name}' are not finite (one of {names})",
                hint="train or load the network again; look for NaN in the data, and for a loss that diverges on it"
                if self.needs_data
                else "train or load the network again",
                group=group.name,
            )
        return torch.from_numpy(combined([self.norm(r).numpy() for r in rows], self.combine))


def relative(scores: Scores) -> Scores:
    """Each score over the largest of its group."""
    return {name: values / max(values.max(), np.finfo(np.float64).tiny) for name, values in scores.items()}
