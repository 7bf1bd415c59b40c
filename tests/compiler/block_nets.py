"""Masks of weight blocks, and a network with such weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from kernel_harness import Array, noise
from numpy.typing import NDArray
from torch import nn

Mask = NDArray[np.bool_]
Pattern = Callable[[int, int], Mask]
"""Rows of blocks, values that each filter reads -> which blocks are not zero."""


def random(rows: int, read: int) -> Mask:
    mask: Mask = np.random.default_rng(rows * read).random((rows, read)) < 0.3
    return mask


def uneven(rows: int, read: int) -> Mask:
    """The first row full, the second one with a single block, the last block of all, and nothing else."""
    mask: Mask = np.zeros((rows, read), bool)
    mask[0] = True
    mask[min(1, rows - 1), read // 2] = True
    mask[-1, -1] = True
    return mask


def nothing(rows: int, read: int) -> Mask:
    return np.zeros((rows, read), bool)


def masked(out: int, read: int, pattern: Pattern, seed: int = 1) -> Array:
    """Weights (out, read) that are zero but in blocks of 16 filters; also inside of these here and there."""
    mask = np.repeat(pattern(-(-out // 16), read), 16, axis=0)[:out]
    weight = noise(out, read, seed=seed) * mask
    weight[0, 0] = 0.0
    return weight


class Head(nn.Module):
    """Two 1x1 convolutions and a linear layer, all with blocks of zeros, and a 3x3 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 40, 3, padding=1)
        self.a, self.norm, self.b = nn.Conv2d(40, 64, 1, bias=False), nn.BatchNorm2d(64), nn.Conv2d(64, 40, 1)
        self.fc = nn.Linear(40 * 4 * 4, 20)
        with torch.no_grad():
            for layer in (self.a, self.b, self.fc):
                flat = masked(layer.weight.shape[0], layer.weight[0].numel(), random)
                layer.weight.copy_(torch.from_numpy(flat).reshape(layer.weight.shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.b(F.relu(self.norm(self.a(x)))))
        return self.fc(x.flatten(1))  # type: ignore[no-any-return]


X = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
