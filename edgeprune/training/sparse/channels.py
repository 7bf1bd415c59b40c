"""Channels as trainings see them: slices of all parameters that write them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from edgeprune.errors import UsageError
from edgeprune.graph.channels import ChannelGraph, WidthGroup


class Channels:
    """The groups of a network that may lose channels, and where parameters write these.

    Args:
        graph: of the network that is trained.
        name: of the sparsity that asks, for errors.

    Raises:
        UsageError: no group may lose any.
    """

    def __init__(self, graph: ChannelGraph | None, name: str) -> None:
        self.groups: tuple[WidthGroup, ...] = tuple(graph.prunable) if graph is not None else ()
        if not self.groups:
            raise UsageError(f"sparsity '{name}' is of channels, and this network has none that may go")

    def parameters(self, module: nn.Module) -> dict[str, nn.Parameter]:
        """What writes channels and is trained, by name: filters, biases, norms; what is shared, once."""
        written = {m.param for g in self.groups for m in g.members if m.role == "out"}
        return {name: p for name, p in module.named_parameters() if p.requires_grad and name in written}

    def views(self, name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Groups whose channels a parameter writes, and views (size, repeat, …) of that part of a tensor of its shape.

        Args:
            name: of the parameter.
        """
        for group in self.groups:
            for m in group.members:
                if m.param == name and m.role == "out":
                    rows = tensor.movedim(m.dim, 0)[m.start : m.start + group.size * m.repeat]
                    yield group.name, rows.view(group.size, m.repeat, *rows.shape[1:])

    def squares(self, module: nn.Module) -> dict[str, Tensor]:
        """Group -> the sum of squares of all that writes each channel, (size,), in float64."""
        found = {g.name: torch.zeros(g.size, dtype=torch.double) for g in self.groups}
        for name, tensor in self.parameters(module).items():
            for group, view in self.views(name, tensor.detach()):
                found[group] += view.double().flatten(1).square().sum(1)
        return found

    def multiply(self, module: nn.Module, factors: dict[str, Tensor]) -> None:
        """Multiply channels, in place, by a number each; factors (size,) by group. 0 gives exactly 0."""
        with torch.no_grad():
            for name, tensor in self.parameters(module).items():
                for group, view in self.views(name, tensor):
                    if group in factors:
                        view.mul_(factors[group].to(view).reshape(-1, *[1] * (view.dim() - 1)))
