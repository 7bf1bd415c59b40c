"""A small U-Net: Ronneberger et al. 2015, arXiv:1505.04597, figure 1.

Same-size convolutions with batch norm, and nearest-neighbour upsampling with a convolution in place of
transposed ones (Odena et al. 2016, "Deconvolution and checkerboard artifacts").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeprune.models.zoo.layers import conv_bn, scaled


def _double(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(conv_bn(c_in, c_out, 3), conv_bn(c_out, c_out, 3))


class UNet(nn.Module):
    """Encoder, bottom and decoder with a concatenated skip at each level."""

    def __init__(self, num_classes: int, in_channels: int, channels: list[int]) -> None:
        super().__init__()
        *sides, bottom = channels
        self.down = nn.ModuleList()
        c = in_channels
        for side in sides:
            self.down.append(_double(c, side))
            c = side
        self.pool = nn.MaxPool2d(2)
        self.bottom = _double(c, bottom)
        self.up, self.merge = nn.ModuleList(), nn.ModuleList()
        c = bottom
        for side in reversed(sides):
            self.up.append(nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv_bn(c, side, 3)))
            self.merge.append(_double(2 * side, side))
            c = side
        self.head = nn.Conv2d(c, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            skips.append(down(x))
            x = self.pool(skips[-1])
        x = self.bottom(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            x = merge(torch.cat([skip, up(x)], dim=1))
        out: Tensor = self.head(x)
        return out


def unet_small(*, num_classes: int = 2, in_channels: int = 3, width: float = 1.0) -> nn.Module:
    """Input 3x64x64 (any multiple of 8); output (N, num_classes, H, W) logits."""
    return UNet(num_classes, in_channels, [scaled(c, width) for c in (16, 32, 64, 128)])
