"""Augmentations: functions of a batch of images and a random generator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeprune.training.loop import Augment


def shifts(pixels: int = 4, *, flip: bool = False) -> Augment:
    """Move each image by up to ``pixels`` in both directions, filling with zeros; ``flip``: mirror every second one.

    Source: He et al. 2016, arXiv:1512.03385, section 4.2.
    """

    def augment(x: Tensor, generator: torch.Generator) -> Tensor:
        n, c, h, w = x.shape
        dy, dx = torch.randint(0, 2 * pixels + 1, (2, n, 1), generator=generator)
        rows = (torch.arange(h) + dy)[:, None, :, None]
        columns = torch.arange(w) + dx
        if flip:
            mirrored = torch.rand(n, 1, generator=generator) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        padded = F.pad(x, (pixels,) * 4)
        images, channels = torch.arange(n)[:, None, None, None], torch.arange(c)[None, :, None, None]
        return padded[images, channels, rows, columns[:, None, None, :]]

    return augment
