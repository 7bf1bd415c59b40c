"""ResNet-18 and ResNet-50: He et al. 2016, arXiv:1512.03385, table 1.

The bottleneck strides in its 3x3 convolution, as most published weights do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from edgeprune.models.zoo.layers import conv_bn, scaled


class Residual(nn.Module):
    """``relu(body(x) + shortcut(x))``; the shortcut projects only where shapes differ."""

    def __init__(self, body: nn.Sequential, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.body = body
        same = stride == 1 and c_in == c_out
        self.shortcut = nn.Identity() if same else conv_bn(c_in, c_out, stride=stride, activation=None)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return out


class BasicBlock(Residual):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, c_in: int, channels: int, stride: int) -> None:
        body = nn.Sequential(conv_bn(c_in, channels, 3, stride=stride), conv_bn(channels, channels, 3, activation=None))
        super().__init__(body, c_in, channels, stride)


class Bottleneck(Residual):
    """1x1 down, 3x3, 1x1 up to four times the channels."""

    expansion = 4

    def __init__(self, c_in: int, channels: int, stride: int) -> None:
        c_out = channels * self.expansion
        body = nn.Sequential(
            conv_bn(c_in, channels),
            conv_bn(channels, channels, 3, stride=stride),
            conv_bn(channels, c_out, activation=None),
        )
        super().__init__(body, c_in, c_out, stride)


class ResNet(nn.Module):
    """Stem, stages of ``(channels, blocks, stride)``, global average pooling, classifier."""

    def __init__(
        self,
        stem: nn.Module,
        stem_channels: int,
        block: Callable[[int, int, int], Residual],
        stages: Sequence[tuple[int, int, int]],
        num_classes: int,
        expansion: int = 1,
    ) -> None:
        super().__init__()
        self.stem = stem
        c_in = stem_channels
        self.stages = nn.Sequential()
        for channels, count, stride in stages:
            stage = nn.Sequential()
            for i in range(count):
                stage.append(block(c_in, channels, stride if i == 0 else 1))
                c_in = channels * expansion
            self.stages.append(stage)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stages(self.stem(x)))
        out: Tensor = self.classifier(x.flatten(1))
        return out


def resnet18(*, num_classes: int = 1000, in_channels: int = 3, width: float = 1.0) -> nn.Module:
    """Input 3x224x224."""
    return _imagenet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels, width)


def resnet50(*, num_classes: int = 1000, in_channels: int = 3, width: float = 1.0) -> nn.Module:
    """Input 3x224x224."""
    return _imagenet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels, width)


def _imagenet(
    block: type[BasicBlock] | type[Bottleneck],
    counts: tuple[int, int, int, int],
    num_classes: int,
    in_channels: int,
    width: float,
) -> ResNet:
    channels = [scaled(c, width) for c in (64, 128, 256, 512)]
    stem = nn.Sequential(*conv_bn(in_channels, channels[0], 7, stride=2), nn.MaxPool2d(3, 2, 1))
    stages = list(zip(channels, counts, (1, 2, 2, 2), strict=True))
    return ResNet(stem, channels[0], block, stages, num_classes, block.expansion)
