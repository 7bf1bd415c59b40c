"""Reconstruction error: what the layers that read a channel lose, after their other weights made up for it.

No labels and no gradients: the inputs of these layers on calibration samples decide, by how far a channel can be told
from the others. Two channels that always say the same are worth half as much as they seem.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.errors import BadInputError, UsageError
from edgeprune.graph.channels import Member
from edgeprune.graph.network import Network
from edgeprune.graph.trace import evaluating
from edgeprune.importance.criterion import Batches, LossFn, Scores
from edgeprune.models.inputs import call
from edgeprune.models.linear_layers import Layer, drawn_positions, given, linear_layers, matrix, outputs, rows

MOST_INPUTS = 16_384
"""Inputs of a layer, kernel included, up to which its second moments are kept (2 GiB)."""

POSITIONS = 8192
"""Positions of a layer's output in one batch that are looked at, at most."""


class Reconstruction:
    """Rise of the squared error of the outputs of the layers that read a channel, relative to their strength, where the
    channel goes and least squares re-solve the layers' other weights (Hassibi and Stork 1993, "Optimal Brain Surgeon",
    eq. 5, with a channel's weights for one; as in Frantar and Alistarh 2022, "Optimal Brain Compression", section 4).

    Args:
        damping: added to the second moments of a layer's inputs, relative to their mean.
    """

    name: ClassVar[str] = "reconstruction"
    needs_data: ClassVar[bool] = True

    def __init__(self, damping: float = 0.01) -> None:
        if not damping > 0:
            raise UsageError(f"criterion '{self.name}' needs a damping over 0, not {damping}")
        self.damping = damping

    def score(self, network: Network, batches: Batches | None = None, loss_fn: LossFn | None = None) -> Scores:
        if batches is None:
            raise UsageError(f"criterion '{self.name}' needs data", hint="give batches of (input, target)")
        readers = _readers(network)
        moments = _moments(network.module, {name: layer for name, (layer, _) in readers.items()}, batches, self.name)
        scores: Scores = {g.name: np.zeros(g.size) for g in network.channels.prunable}
        seen = {group for name, (_, members) in readers.items() if name in moments for group, _ in members}
        if unread := [g.name for g in network.channels.prunable if g.name not in seen]:
            raise _unread(unread[0])
        for name, (layer, members) in readers.items():
            if name not in moments:  # its weights are used without it
                continue
            weights = matrix(layer)[0].double().cpu()
            square = moments[name]
            strength = float((weights * (square @ weights)).sum())
            if not np.isfinite(strength):
                raise BadInputError(
                    f"inputs or weights of layer '{name}' are not finite",
                    hint="look for NaN in weights and data: train or load the network again",
                    node=name,
                )
            own = square.diagonal().clone()
            damping = self.damping * float(own.mean()) + torch.finfo(torch.double).tiny
            square.diagonal().add_(damping)
            inverse = torch.linalg.inv(square)
            kernel = int(np.prod(layer.weight.shape[2:]))
            for group in dict.fromkeys(group for group, _ in members):
                size = network.channels[group].size
                # All that a channel is in the inputs goes together, however often it is there.
                own_members = [m for g, m in members if g == group]
                at = torch.cat([_inputs_of(m, size, kernel) for m in own_members], 1)
                removed = weights[at]  # (channels, inputs of a channel, outputs)
                hidden = inverse[at[:, :, None], at[:, None, :]]
                # The damping stands in place of a channel that says nothing; it is none of the error.
                error = (removed * (torch.linalg.solve(hidden, removed) - damping * removed)).sum((1, 2))
                error[own[at].sum(1) == 0] = 0
                scores[group] += error.clamp(min=0).numpy() / max(strength, np.finfo(np.float64).tiny)
        return scores


def _inputs_of(member: Member, size: int, kernel: int) -> Tensor:
    """Which inputs of a layer are a group's, shape (size, inputs of a channel)."""
    wide = member.repeat * kernel
    return member.start * kernel + torch.arange(size * wide).view(size, wide)


def _readers(network: Network) -> dict[str, tuple[Layer, list[tuple[str, Member]]]]:
    """The layers that read prunable groups, by name, with the inputs that are these groups'."""
    layers, found = linear_layers(network.module), defaultdict[str, list[tuple[str, Member]]](list)
    for group in network.channels.prunable:
        members = [(m.param.removesuffix(".weight"), m) for m in group.members if m.role == "in" and m.dim == 1]
        known = [(name, m) for name, m in members if name in layers and getattr(layers[name], "groups", 1) == 1]
        if not known:
            raise _unread(group.name)
        for name, m in known:
            found[name].append((group.name, m))
    for name in found:
        inputs = layers[name].weight[0].numel()
        if inputs > MOST_INPUTS:
            raise UsageError(
                f"layer '{name}' has {inputs:,} inputs: their second moments are too many for '{Reconstruction.name}'",
                hint=f"up to {MOST_INPUTS:,} are possible; take another criterion",
            )
    return {name: (layers[name], members) for name, members in found.items()}


def _unread(group: str) -> UsageError:
    return UsageError(
        f"criterion '{Reconstruction.name}' asks the convolutions and linear layers that read a channel, and "
        f"none reads width group '{group}'",
        hint="take another criterion: edgeprune methods lists them",
        group=group,
    )


def _moments(module: nn.Module, layers: dict[str, Layer], batches: Batches, criterion: str) -> dict[str, Tensor]:
    """Means of the products of two inputs of each layer, shape (inputs, inputs)."""
    sums, counts = dict[str, Tensor](), dict.fromkeys(layers, 0)

    def see(name: str, layer: Layer, inputs: tuple[Any, ...], named: dict[str, Any], y: Tensor) -> None:
        seen = rows(layer, given(inputs, named), drawn_positions(len(outputs(layer, y)), POSITIONS))[0]
        counts[name] += len(seen)
        product = (seen.T @ seen).double().cpu()
        sums[name] = sums[name] + product if name in sums else product

    hooks = [layer.register_forward_hook(partial(see, name), with_kwargs=True) for name, layer in layers.items()]
    empty = True
    try:
        with evaluating(module), torch.no_grad():
            for x, _ in batches:
                empty = False
                call(module, x)
    finally:
        for hook in hooks:
            hook.remove()
    if empty:
        raise UsageError(f"criterion '{criterion}' got an empty data set", hint="give at least one batch")
    return {name: total / max(1, counts[name]) for name, total in sums.items()}
