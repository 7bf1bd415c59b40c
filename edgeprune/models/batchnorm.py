"""Batch-norm statistics measured anew, for fresh networks and for pruned ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

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


@contextmanager
def statistics_of_batches(module: nn.Module) -> Iterator[None]:
    """Batch norms take mean and variance of each batch inside the ``with`` block, in evaluation mode, too; what they
    keep stays as it is. Batches need two values of a channel.
    """
    layers = norms(module)
    kept = [{key: layer._buffers[key] for key in _KEPT} for layer in layers]
    try:
        for layer in layers:
            layer._buffers |= dict.fromkeys(_KEPT)
        yield
    finally:
        for layer, buffers in zip(layers, kept, strict=True):
            layer._buffers |= buffers


_KEPT = ("running_mean", "running_var")
