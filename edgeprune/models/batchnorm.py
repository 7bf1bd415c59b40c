"""Batch-norm statistics measured anew, for fresh networks and for pruned ones."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeprune.models.inputs import Inputs, call


def norms(module: nn.Module) -> list[_BatchNorm]:
    """The batch norms that keep running statistics, in order of definition."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def measure_statistics(module: nn.Module, batches: Iterable[Inputs]) -> int:
    """Replace running means and variances by their plain average over ``batches``; returns how many there were.

    Only batch norms see the batches in training mode, so dropout stays off. Modes, momenta and weights
    are left as they were.
    """
    layers = norms(module)
    modes = {m: m.training for m in module.modules()}
    momenta = [layer.momentum for layer in layers]
    module.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
        layer.momentum = None  # torch: cumulative average
    count = 0
    try:
        with torch.no_grad():
            for batch in batches:
                call(module, batch)
                count += 1
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for m, mode in modes.items():
            m.training = mode
    return count
