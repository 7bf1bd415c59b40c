"""The protocol of importance criteria, and how they read the weights of a channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune.errors import BadInputError
from edgeprune.graph.channels import Activation, Member, WidthGroup
from edgeprune.graph.network import Network
from edgeprune.models.inputs import Inputs, call, training_outputs
from edgeprune.models.outputs import as_logits

Batches = Iterable[tuple[Inputs, Any]]
"""Inputs of a batch, a tensor or a tuple of them, and its targets."""


@dataclass(frozen=True, slots=True)
class OfModule:
    """A loss that runs the module itself: (module, inputs, targets) -> scalar. The module is in training mode
    meanwhile, with batch norms and dropout in evaluation mode.
    """

    function: Callable[[nn.Module, Inputs, Any], Tensor]


LossFn = Callable[[Any, Any], Tensor] | OfModule
Scores = dict[str, NDArray[np.float64]]


class Criterion(Protocol):
    """Scores every channel of every prunable width group.

    Attributes:
        name: the key in the registry.
        needs_data: whether ``score`` needs ``batches``.
    """

    name: ClassVar[str]
    needs_data: ClassVar[bool]

    def score(self, network: Network, batches: Batches | None = None, loss_fn: LossFn | None = None) -> Scores:
        """Group name -> saliency, shape (size,), finite, at least 0; higher is worth more.

        The network's module comes back as it was: weights, buffers, gradients, training flags. Equal
        arguments give equal scores.

        Args:
            batches: (input, target) pairs; consumed once.
            loss_fn: (output, target) -> scalar, or an :class:`OfModule`; cross-entropy if left out.

        Raises:
            UsageError: the criterion needs data and got none.
            BadInputError: weights, activations or gradients that are not finite.
        """
        ...


def loss_of(module: nn.Module, x: Inputs, y: Any, loss_fn: LossFn | None) -> Tensor:
    """The loss of a module in evaluation mode on one batch, a scalar; cross-entropy if ``loss_fn`` is None."""
    if isinstance(loss_fn, OfModule):
        with training_outputs(module):
            return loss_fn.function(module, x, y)
    outputs = call(module, x)
    return loss_fn(outputs, y) if loss_fn else F.cross_entropy(as_logits(outputs), y)


def written_parameters(group: WidthGroup, parameters: Mapping[str, Tensor]) -> list[Member]:
    """Members of ``group`` that write its channels and are trained (filters, biases, norms; no buffers)."""
    return [m for m in group.members if m.role == "out" and m.param in parameters]


def filters(group: WidthGroup, parameters: Mapping[str, Tensor]) -> list[Member]:
    """Of those, the weights of convolutions and linear layers; all of them where there are none."""
    written = written_parameters(group, parameters)
    return [m for m in written if parameters[m.param].dim() > 1] or written


def by_channel(tensor: Tensor, member: Member | Activation, size: int) -> Tensor:
    """The slice of a parameter or activation that ``member`` speaks of as float64, shape (size, values per channel)."""
    rows = tensor.detach().movedim(member.dim, 0)[member.start : member.start + size * member.repeat]
    return rows.reshape(size, -1).double().cpu()


def weights_by_channel(network: Network) -> dict[str, Tensor]:
    """Group name -> the weights of all its filters side by side, shape (size, weights per channel).

    Raises:
        BadInputError: weights that are not finite.
    """
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
