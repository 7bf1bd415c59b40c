"""ResNet-20 for small images: He et al. 2016, arXiv:1512.03385, section 4.2 (option B shortcuts)."""

from __future__ import annotations

from torch import nn

from edgeprune.models.zoo.layers import conv_bn, scaled
from edgeprune.models.zoo.resnet import BasicBlock, ResNet


def resnet20(*, num_classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Module:
    """Three stages of three basic blocks with 16, 32 and 64 channels; input 3x32x32 (28x28 works too)."""
    stages = [(scaled(16, width), 3, 1), (scaled(32, width), 3, 2), (scaled(64, width), 3, 2)]
    return ResNet(conv_bn(in_channels, stages[0][0], 3), stages[0][0], BasicBlock, stages, num_classes)
