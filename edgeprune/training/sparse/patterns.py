"""Patterns: which weights of a tensor go together, and which of these units stay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeprune.errors import UsageError
from edgeprune.methods import chosen

SCOPES = ("global", "layer")
_LEAST = 0.01
"""Share of each tensor's units that stay however low they score beside those of other layers: a layer without weights
is a network without outputs."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of ``rows`` outputs by ``columns`` inputs, kernel positions included; those at the edges are smaller.

    A block of one by one is a kernel of one input; :class:`Single` is a single weight.
    """

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise UsageError(f"there are no blocks of {self.rows} by {self.columns} weights")

    def units(self, values: Tensor) -> Tensor:
        """Values (out, in, …) -> the mean of each block, (ceil(out / rows), ceil(in / columns))."""
        flat = values.reshape(*values.shape[:2], -1).sum(2)
        down, right = -flat.shape[0] % self.rows, -flat.shape[1] % self.columns
        padded = torch.nn.functional.pad(flat, (0, right, 0, down))
        high, wide = padded.shape
        sums = padded.reshape(high // self.rows, self.rows, wide // self.columns, self.columns).sum((1, 3))
        return torch.div(sums, self.weights(values))

    def weights(self, values: Tensor) -> Tensor:
        """How many weights each unit has, in the shape of :meth:`units`."""
        out, into = values.shape[:2]
        rows = torch.full((math.ceil(out / self.rows),), self.rows, device=values.device)
        columns = torch.full((math.ceil(into / self.columns),), self.columns, device=values.device)
        rows[-1] -= len(rows) * self.rows - out
        columns[-1] -= len(columns) * self.columns - into
        return rows[:, None] * columns[None] * math.prod(values.shape[2:])

    def mask(self, kept: Tensor, values: Tensor) -> Tensor:
        """Which weights stay, in the shape of ``values``, where ``kept`` says it of the units."""
        wide = kept.repeat_interleave(self.rows, 0).repeat_interleave(self.columns, 1)
        out, into = values.shape[:2]
        return wide[:out, :into].reshape(out, into, *[1] * (values.dim() - 2)).expand(values.shape)


@dataclass(frozen=True, slots=True)
class Single:
    """Single weights."""

    def units(self, values: Tensor) -> Tensor:
        return values

    def weights(self, values: Tensor) -> Tensor:
        return torch.ones_like(values, dtype=torch.long)

    def mask(self, kept: Tensor, values: Tensor) -> Tensor:
        return kept


def lowest_gone(
    signals: Mapping[str, Tensor], pattern: Blocks | Single, share: float, scope: str = "global"
) -> dict[str, Tensor]:
    """Masks, True where a weight stays, in which a share of all weights is gone: the units of the lowest mean signal.

    Ties keep the first. A hundredth of each tensor's units, at least one, stays; so less than the share goes where
    that forbids it.

    Args:
        signals: name -> what each weight is worth, at least 0; of any shape (out, in, …).
        scope: ``global`` compares units of all tensors, ``layer`` takes the share of each.
    """
    chosen("a sparsity", "scope", scope, SCOPES)
    if scope == "layer" and len(signals) > 1:
        found: dict[str, Tensor] = {}
        for name, values in signals.items():
            found |= lowest_gone({name: values}, pattern, share)
        return found
    units, counts = {}, {}
    for name, values in signals.items():
        worth = pattern.units(values).to(torch.double, copy=True, memory_format=torch.contiguous_format)
        spared = worth.flatten().argsort(descending=True, stable=True)[: max(1, math.ceil(_LEAST * worth.numel()))]
        worth.view(-1)[spared] = math.inf
        units[name], counts[name] = worth, pattern.weights(values)
    every = torch.cat([torch.empty(0), *(u.flatten().cpu() for u in units.values())])
    sizes = torch.cat([torch.empty(0, dtype=torch.long), *(c.flatten().cpu() for c in counts.values())])
    # The later of two alike goes first, so that ties keep the first.
    order = every.flip(0).argsort(stable=True)
    order = len(every) - 1 - order
    order = order[every[order].isfinite()]
    gone = order[sizes[order].cumsum(0) <= share * int(sizes.sum()) + 1e-9]
    stays = torch.ones(len(every), dtype=torch.bool)
    stays[gone] = False
    parts = torch.split(stays, [u.numel() for u in units.values()])
    return {
        name: pattern.mask(part.view(units[name].shape).to(signals[name].device), signals[name]).contiguous()
        for (name, part) in zip(units, parts, strict=True)
    }


def most_kept(values: Tensor, pattern: Blocks | Single, units: int) -> Tensor:
    """The mask, True where a weight stays, of so many units, those of the highest mean; ties keep the first.

    Args:
        values: what each weight is worth, (out, in, …).
    """
    worth = pattern.units(values)
    stays = torch.zeros(worth.numel(), dtype=torch.bool, device=values.device)
    stays[worth.flatten().argsort(descending=True, stable=True)[:units]] = True
    return pattern.mask(stays.view(worth.shape), values).contiguous()


def n_of_m(values: Tensor, n: int, m: int) -> Tensor:
    """The mask of which each run of ``m`` inputs of an output has ``n``, those worth most; ties keep the first.

    Runs are along the inputs, dimension 1, for each kernel position. Inputs beyond the last whole run stay.

    Args:
        values: (out, in, …), at least 0.
    """
    whole = values.shape[1] // m * m
    mask = torch.ones_like(values, dtype=torch.bool)
    if whole:
        turned = values[:, :whole].movedim(1, -1)
        runs = turned.reshape(*turned.shape[:-1], whole // m, m)
        rank = runs.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1, stable=True)
        mask[:, :whole] = (rank < n).flatten(-2).movedim(-1, 1)
    return mask


def lowest_channels(values: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Which channels of each group stay where a share of all is gone, the lowest; one of each group stays.

    Args:
        values: group -> a number for each channel, (size,).
    """
    least = min((float(v.min()) for v in values.values()), default=0.0)
    found = lowest_gone({name: (v.double() - least)[:, None] for name, v in values.items()}, Single(), share)
    return {name: mask[:, 0] for name, mask in found.items()}
