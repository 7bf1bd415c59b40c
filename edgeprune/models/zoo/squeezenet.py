"""SqueezeNet 1.1: Iandola et al. 2016, arXiv:1602.07360 (1.1: the authors' revision with 2.4x less computation)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeprune.models.zoo.layers import scaled


class Fire(nn.Module):
    """1x1 squeeze, then 1x1 and 3x3 expand side by side, concatenated (section 3.2)."""

    def __init__(self, c_in: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(c_in, squeezed, 1), nn.ReLU())
        self.expand1 = nn.Sequential(nn.Conv2d(squeezed, expanded, 1), nn.ReLU())
        self.expand3 = nn.Sequential(nn.Conv2d(squeezed, expanded, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return torch.cat([self.expand1(x), self.expand3(x)], dim=1)


class SqueezeNet(nn.Module):
    def __init__(self, num_classes: int, in_channels: int, width: float) -> None:
        super().__init__()
        c = scaled(64, width)
        self.features = nn.Sequential(nn.Conv2d(in_channels, c, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2))
        for squeezed, expanded, pool in (
            (16, 64, False),
            (16, 64, True),
            (32, 128, False),
            (32, 128, True),
            (48, 192, False),
            (48, 192, False),
            (64, 256, False),
            (64, 256, False),
        ):
            self.features.append(Fire(c, scaled(squeezed, width), scaled(expanded, width)))
            c = 2 * scaled(expanded, width)
            if pool:
                self.features.append(nn.MaxPool2d(3, 2))
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(c, num_classes, 1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(self.classifier(self.features(x)))
        return out.flatten(1)


def squeezenet(*, num_classes: int = 1000, in_channels: int = 3, width: float = 1.0) -> nn.Module:
    """Input 3x224x224. No batch norm."""
    return SqueezeNet(num_classes, in_channels, width)
