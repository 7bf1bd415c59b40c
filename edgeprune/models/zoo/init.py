"""Seeded weights that behave like trained ones: no activation explodes, no batch norm is the identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from edgeprune.models.batchnorm import measure_statistics

M = TypeVar("M", bound=nn.Module)

_BATCH = 4


def seeded(make: Callable[[], M], input_shape: tuple[int, int, int, int], seed: int) -> M:
    """Run ``make``, draw every weight from ``seed`` and measure the batch-norm statistics on noise.

    Convolutions are drawn as He et al. 2015 (arXiv:1502.01852, eq. 10) advise. Batch-norm scales and
    shifts are drawn too and running statistics come from one batch of noise: were they 1, 0, 0, 1,
    a batch norm folded wrongly would go unnoticed, and residual sums would double at every block.

    The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make()
        _draw(module)
        measure_statistics(module, [torch.randn(_BATCH, *input_shape[1:])])
    return module.eval()


def _draw(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
