"""First-order Taylor criterion: the change of the loss that removing a channel would cause."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeprune.errors import BadInputError, UsageError
from edgeprune.graph.network import Network
from edgeprune.graph.trace import evaluating
from edgeprune.importance.criterion import Batches, LossFn, Scores, by_channel, loss_of, written_parameters
from edgeprune.models.torchbugs import SafeConvolutions


class Taylor:
    """abs(sum of w * dL/dw) over all parameters that write the channel, averaged over batches.

    Summed before the absolute value is taken, so that weights of one channel may cancel
    (Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", eq. 8, group form
    with abs for the square). Runs in evaluation mode: batch norms use their running statistics.
    """

    name: ClassVar[str] = "taylor"
    needs_data: ClassVar[bool] = True

    def score(self, network: Network, batches: Batches | None = None, loss_fn: LossFn | None = None) -> Scores:
        if batches is None:
            raise UsageError("criterion 'taylor' needs data", hint="give batches of (input, target)")
        module, groups = network.module, network.channels.prunable
        parameters = dict(module.named_parameters(remove_duplicate=False))
        members = {g.name: written_parameters(g, parameters) for g in groups}
        wanted = sorted({m.param for found in members.values() for m in found})
        totals: Scores = {g.name: np.zeros(g.size) for g in groups}
        count = 0
        with (
            evaluating(module),
            _requiring_grad([parameters[n] for n in wanted]),
            torch.enable_grad(),
            SafeConvolutions(),
        ):
            for x, y in batches:
                count += 1
                loss = loss_of(module, x, y, loss_fn)
                gradients = torch.autograd.grad(loss, [parameters[n] for n in wanted], materialize_grads=True)
                products = {n: parameters[n].detach() * g for n, g in zip(wanted, gradients, strict=True)}
                for group in groups:
                    change = torch.zeros(group.size, dtype=torch.double)
                    for m in members[group.name]:
                        change += by_channel(products[m.param], m, group.size).sum(1)
                    totals[group.name] += change.abs().numpy()
        if not count:
            raise UsageError("criterion 'taylor' got an empty data set", hint="give at least one batch")
        return {name: _finite(name, total / count) for name, total in totals.items()}


class _requiring_grad:
    """Gradients for these parameters inside the ``with`` block, even where the user froze them."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self._frozen = [p for p in parameters if not p.requires_grad]

    def __enter__(self) -> None:
        for p in self._frozen:
            p.requires_grad_(True)

    def __exit__(self, *_: object) -> None:
        for p in self._frozen:
            p.requires_grad_(False)


def _finite(name: str, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(scores).all():
        raise BadInputError(
            f"the gradients of width group '{name}' are not finite",
            hint="look for NaN in the data, and for a loss that diverges on it",
            group=name,
        )
    return scores
