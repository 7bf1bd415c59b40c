"""Residual networks for small images: He et al. 2016, arXiv:1512.03385, section 4.2 (option B shortcuts)."""

from __future__ import annotations

from torch import nn

from edgeprune.models.zoo.layers import conv_bn, scaled
from edgeprune.models.zoo.resnet import BasicBlock, ResNet


def resnet20(*, num_classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Module:
    """Three stages of three basic blocks with 16, 32 and 64 channels; input 3x32x32 (28x28 works too)."""
    return _three_stages(3, num_classes, in_channels, width)


def resnet8(*, num_classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Module:
    """The same with one block a stage, for small boards, as in MLPerf Tiny (Banbury et al. 2021, arXiv:2106.07597)."""
    return _three_stages(1, num_classes, in_channels, width)


def _three_stages(blocks: int, num_classes: int, in_channels: int, width: float) -> nn.Module:
    stages = [(scaled(16 << i, width), blocks, 1 if i == 0 else 2) for i in range(3)]
    return ResNet(conv_bn(in_channels, stages[0][0], 3), stages[0][0], BasicBlock, stages, num_classes)
