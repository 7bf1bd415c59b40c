"""Loss change: what the loss becomes without a channel, measured ("perceptual loss" where it is one of outputs)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from edgeprune.errors import BadInputError, UsageError
from edgeprune.graph.channels import WidthGroup
from edgeprune.graph.network import Network
from edgeprune.graph.trace import evaluating
from edgeprune.importance.criterion import Batches, LossFn, Scores, loss_of
from edgeprune.importance.magnitude import L2
from edgeprune.models.inputs import as_inputs
from edgeprune.pruning.mask import masking
from edgeprune.pruning.plan import Plan

SAMPLES = 128
"""Calibration samples that are enough: each is run once for each evaluation."""
TIES = 1e-6
"""Where losses tell no difference, channels are worth this share of the largest change, by their l2 norm."""


class LossChange:
    """abs(L(without the channel) - L) on calibration samples (Mozer and Smolensky 1989, "Skeletonization", eq. 4).

    Needs forward passes only: one over all samples for each channel. Where there are more channels than evaluations,
    neighbours in the order of their l2 norms go together, and share the change by these norms.

    Args:
        evaluations: forward passes over all samples, about as many; at least two for each group.
    """

    name: ClassVar[str] = "loss_change"
    needs_data: ClassVar[bool] = True

    def __init__(self, evaluations: int = 256) -> None:
        if evaluations < 1:
            raise UsageError(f"criterion '{self.name}' cannot measure by {evaluations} evaluations")
        self.evaluations = evaluations

    def score(self, network: Network, batches: Batches | None = None, loss_fn: LossFn | None = None) -> Scores:
        if batches is None:
            raise UsageError(f"criterion '{self.name}' needs data", hint="give batches of (input, target)")
        batches, groups = first_samples(batches), network.channels.prunable
        if not batches:
            raise UsageError(f"criterion '{self.name}' got an empty data set", hint="give at least one batch")
        norms, channels = L2().score(network), sum(g.size for g in groups)
        dense = loss_without(network, {}, batches, loss_fn)
        scores: Scores = {}
        for group in groups:
            scores[group.name] = np.zeros(group.size)
            if group.size == 1:  # it cannot go
                continue
            parts = max(2, min(group.size, group.size * self.evaluations // channels))
            for together in np.array_split(np.argsort(norms[group.name], kind="stable"), parts):
                keep = tuple(i for i in range(group.size) if i not in set(together.tolist()))
                change = abs(loss_without(network, {group: keep}, batches, loss_fn) - dense)
                scores[group.name][together] = change * _shares(norms[group.name][together])
        largest = max(float(s.max()) for s in scores.values())
        return {name: s + TIES * largest * _shares(norms[name]) for name, s in scores.items()}


def first_samples(batches: Batches) -> list[tuple[Any, Any]]:
    """As many of the batches as hold :data:`SAMPLES`."""
    found: list[tuple[Any, Any]] = []
    count = 0
    for x, y in batches:
        found.append((x, y))
        count += len(as_inputs(x)[0])
        if count >= SAMPLES:
            break
    return found


def _shares(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = norms / max(norms.sum(), np.finfo(np.float64).tiny)
    return found


def loss_without(
    network: Network,
    keep: dict[WidthGroup, tuple[int, ...]],
    batches: Sequence[tuple[Any, Any]],
    loss_fn: LossFn | None,
) -> float:
    """The mean loss with groups cut to the channels they keep, by running statistics."""
    graph, total, count = network.channels, 0.0, 0
    plan = Plan({g.name: kept for g, kept in keep.items()}, {g.name: g.size for g in graph.groups}, {}, {}, {})
    with masking(network.module, graph, plan), evaluating(network.module), torch.no_grad():
        for x, y in batches:
            size = len(as_inputs(x)[0])
            total += float(loss_of(network.module, x, y, loss_fn)) * size
            count += size
    if not np.isfinite(total):
        raise BadInputError(
            "the loss on calibration samples is not finite"
            + "".join(f" without channels of width group '{g.name}'" for g in keep),
            hint="look for NaN in weights and data, and for a loss that diverges on them",
        )
    return total / count
