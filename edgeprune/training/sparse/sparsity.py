"""What all sparsities share: which weights they are of, and what weights are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from edgeprune.errors import UsageError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.training.companion import Silent

MAGNITUDE = "magnitude"
Scorer = Callable[[str, nn.Module, Mapping[str, Tensor]], Mapping[str, Tensor]]
"""(criterion, module, parameters by name) -> what each of their weights is worth, at least 0, in their shapes."""


def weights_of(module: nn.Module) -> dict[str, nn.Parameter]:
    """Trained parameters of two dimensions and more, by name, one that is shared under its first: not biases and norms,
    which are few.
    """
    return {name: p for name, p in module.named_parameters() if p.requires_grad and p.dim() > 1}


def zeros_in(module: nn.Module) -> tuple[int, int]:
    """How many weights (:func:`weights_of`) are exactly 0, and how many there are."""
    weights = weights_of(module).values()
    return sum(int((w == 0).sum()) for w in weights), sum(w.numel() for w in weights)


def weights_by(by: str, module: nn.Module, wanted: Mapping[str, Tensor], scorer: Scorer | None) -> Mapping[str, Tensor]:
    """What parameters' single weights are worth by :data:`MAGNITUDE`, or by a criterion that ``scorer`` knows.

    Raises:
        UsageError: a criterion, and no scorer.
    """
    if by == MAGNITUDE:
        return {name: w.detach().abs() for name, w in wanted.items()}
    if scorer is None:
        raise UsageError(f"nothing scores weights by '{by}' here", hint=f"take by={MAGNITUDE}")
    return scorer(by, module, wanted)


class Sparsity(Silent):
    """A companion of a training that makes weights exactly 0, and keeps those that are.

    Attributes:
        name: the key in the registry.
        of: what goes: ``channels`` are taken out by the plan afterwards, so such a training comes before it; single
            ``weights`` stay in place as zeros, in the network of the plan.
        trains: False where it works without a training as well, at once (:meth:`at_once`).
    """

    name: ClassVar[str]
    of: Literal["channels", "weights"] = "weights"
    trains: ClassVar[bool] = True

    by: str = MAGNITUDE
    """The criterion that weights are scored by."""

    def prepare(self, graph: ChannelGraph | None = None, scorer: Scorer | None = None) -> None:
        """Told before a training: what channels the network has, and how its weights are scored by a criterion."""

    def stand_in(self) -> Sparsity | None:
        """What makes as many zeros at once, about where they will be: for what is planned before a training. None where
        nobody knows how many there will be, or where they are no single weights.
        """
        return None

    def at_once(self, module: nn.Module) -> None:
        """Make zeros without training; for those that :attr:`trains` does not hold of."""
        raise NotImplementedError


def silence(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    """Set to 0, in place, what masks do not keep."""
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].masked_fill_(~mask, 0)
