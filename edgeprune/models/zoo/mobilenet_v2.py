"""MobileNetV2: Sandler et al. 2018, arXiv:1801.04381, table 2."""

from __future__ import annotations

from torch import Tensor, nn

from edgeprune.models.zoo.layers import conv_bn, scaled

# expansion t, channels c, blocks n, stride s
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """1x1 up, depthwise 3x3, linear 1x1 down; added to its input where shapes allow."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        self.body = nn.Sequential()
        if expansion != 1:
            self.body.append(conv_bn(c_in, hidden, activation=nn.ReLU6))
        self.body.append(conv_bn(hidden, hidden, 3, stride=stride, groups=hidden, activation=nn.ReLU6))
        self.body.append(conv_bn(hidden, c_out, activation=None))
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return x + out if self.residual else out


class MobileNetV2(nn.Module):
    def __init__(self, num_classes: int, in_channels: int, width: float) -> None:
        super().__init__()
        c = scaled(32, width)
        self.stem = conv_bn(in_channels, c, 3, stride=2, activation=nn.ReLU6)
        self.blocks = nn.Sequential()
        for expansion, channels, count, stride in _STAGES:
            c_out = scaled(channels, width)
            for i in range(count):
                self.blocks.append(InvertedResidual(c, c_out, stride if i == 0 else 1, expansion))
                c = c_out
        last = scaled(1280, max(1.0, width))
        self.head = conv_bn(c, last, activation=nn.ReLU6)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(last, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.head(self.blocks(self.stem(x))))
        out: Tensor = self.classifier(self.dropout(x.flatten(1)))
        return out


def mobilenet_v2(*, num_classes: int = 1000, in_channels: int = 3, width: float = 1.0) -> nn.Module:
    """Input 3x224x224. ``width`` never narrows the last convolution, as in the paper."""
    return MobileNetV2(num_classes, in_channels, width)
