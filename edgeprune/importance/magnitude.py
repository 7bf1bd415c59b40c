"""Magnitude criteria: a channel is worth the norm of the filters that write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from torch import Tensor

from edgeprune.graph.network import Network
from edgeprune.importance.criterion import Batches, LossFn, Scores
from edgeprune.importance.of_weights import OfWeights, relative


class _Magnitude(OfWeights):
    def signals(
        self, network: Network, wanted: Mapping[str, Tensor], batches: Batches | None, loss_fn: LossFn | None
    ) -> Iterator[Mapping[str, Tensor]]:
        yield wanted


class L1(_Magnitude):
    """Sum of absolute weights over all filters of the channel (Li et al. 2017, section 3.1)."""

    name: ClassVar[str] = "l1"

    @staticmethod
    def norm(values: Tensor) -> Tensor:
        return values.abs().sum(1)


class L2(_Magnitude):
    """Root of the sum of squared weights over all filters of the channel."""

    name: ClassVar[str] = "l2"

    @staticmethod
    def norm(values: Tensor) -> Tensor:
        return values.square().sum(1).sqrt()


class RelativeL2(L2):
    """l2 over the largest of the channel's group: layers whose weights are large as a whole have no advantage."""

    name: ClassVar[str] = "relative_l2"

    def compared(self, scores: Scores) -> Scores:
        return relative(scores)
