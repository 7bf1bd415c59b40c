"""What single weights are worth: the signals of criteria that have one for each weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from edgeprune.errors import BadInputError, UsageError
from edgeprune.graph.network import Network
from edgeprune.importance.criterion import Batches, LossFn
from edgeprune.importance.of_weights import OfWeights
from edgeprune.importance.registry import criterion


def of_weights(asked: str) -> OfWeights:
    """A criterion that scores single weights.

    Raises:
        UsageError: an unknown one, or one that scores whole channels alone.
    """
    found = criterion(asked)
    if not isinstance(found, OfWeights):
        raise UsageError(
            f"criterion '{found.name}' scores channels, not single weights", hint="take l1, taylor or hessian_diagonal"
        )
    return found


def weight_signals(
    network: Network,
    asked: str,
    wanted: Mapping[str, Tensor],
    batches: Batches | None = None,
    loss_fn: LossFn | None = None,
) -> dict[str, Tensor]:
    """What each weight of parameters is worth: at least 0, in the parameter's shape, float64; a mean over batches.

    Args:
        asked: a criterion of :func:`of_weights`.
        wanted: parameters of the network's module, by name.

    Raises:
        UsageError: the criterion does not score weights, or needs data and got none.
        BadInputError: signals that are not finite.
    """
    found = of_weights(asked)
    if found.needs_data and batches is None:
        raise UsageError(f"criterion '{found.name}' needs data", hint="give batches of (input, target)")
    totals = {name: torch.zeros(w.shape, dtype=torch.double) for name, w in wanted.items()}
    count = 0
    for signal in found.signals(network, wanted, batches, loss_fn):
        count += 1
        for name, total in totals.items():
            values = signal[name].detach().double().cpu()
            total += found.norm(values.reshape(-1, 1)).view(values.shape)
    for name, total in totals.items():
        if not total.isfinite().all():
            raise BadInputError(
                f"signals of '{name}' by criterion '{found.name}' are not finite",
                hint="train or load the network again; look for NaN in the data",
            )
        total /= max(1, count)
    return totals
