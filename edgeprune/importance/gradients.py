"""Criteria of first order: from the gradient of the loss on calibration samples.

All run in evaluation mode: batch norms use their running statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from edgeprune.graph.network import Network
from edgeprune.graph.trace import evaluating
from edgeprune.importance.criterion import Batches, LossFn, loss_of
from edgeprune.importance.of_weights import OfWeights
from edgeprune.models.torchbugs import SafeConvolutions


@contextmanager
def differentiating(module: nn.Module, parameters: Sequence[Tensor]) -> Iterator[None]:
    """Gradients of these parameters inside the ``with`` block, even where the user froze them, in evaluation mode.

    Attention is computed in the way that can be differentiated twice.
    """
    frozen = [p for p in parameters if not p.requires_grad]
    for p in frozen:
        p.requires_grad_(True)
    try:
        with evaluating(module), torch.enable_grad(), SafeConvolutions(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for p in frozen:
            p.requires_grad_(False)


def gradients(
    module: nn.Module, wanted: Mapping[str, Tensor], batches: Batches, loss_fn: LossFn | None
) -> Iterator[dict[str, Tensor]]:
    """Gradients of the loss with respect to parameters, by name, for one batch after the other."""
    for x, y in batches:
        with differentiating(module, [*wanted.values()]):
            loss = loss_of(module, x, y, loss_fn)
            found = torch.autograd.grad(loss, [*wanted.values()], materialize_grads=True)
        yield dict(zip(wanted, found, strict=True))


class Gradient(OfWeights):
    """Norm of dL/dw over all parameters that write the channel, averaged over batches."""

    name: ClassVar[str] = "gradient"
    needs_data: ClassVar[bool] = True
    trained: ClassVar[bool] = True

    def signals(
        self, network: Network, wanted: Mapping[str, Tensor], batches: Batches | None, loss_fn: LossFn | None
    ) -> Iterator[Mapping[str, Tensor]]:
        yield from gradients(network.module, wanted, batches or (), loss_fn)

    @staticmethod
    def norm(values: Tensor) -> Tensor:
        return values.square().sum(1).sqrt()


class Taylor(OfWeights):
    """abs(sum of w * dL/dw) over all parameters that write the channel, averaged over batches.

    Summed before the absolute value is taken, so that weights of one channel may cancel (Molchanov et al. 2019,
    "Importance Estimation for Neural Network Pruning", eq. 8, group form with abs for the square).
    """

    name: ClassVar[str] = "taylor"
    needs_data: ClassVar[bool] = True
    trained: ClassVar[bool] = True

    def signals(
        self, network: Network, wanted: Mapping[str, Tensor], batches: Batches | None, loss_fn: LossFn | None
    ) -> Iterator[Mapping[str, Tensor]]:
        for found in gradients(network.module, wanted, batches or (), loss_fn):
            yield {name: wanted[name].detach() * g for name, g in found.items()}

    @staticmethod
    def norm(values: Tensor) -> Tensor:
        return values.sum(1).abs()
