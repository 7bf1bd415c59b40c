"""MobileNetV3-Small: Howard et al. 2019, arXiv:1905.02244, table 2."""

from __future__ import annotations

from torch import Tensor, nn

from edgeprune.models.zoo.layers import conv_bn, scaled

# kernel, expanded channels, output channels, squeeze-and-excite, hard-swish, stride
_BLOCKS = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)


class SqueezeExcite(nn.Module):
    """Each channel is scaled by a gate computed from all channels' means (section 5.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(8, (channels // 4 + 4) // 8 * 8)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.gate(x)
        return out


class Block(nn.Module):
    """1x1 up, depthwise, squeeze-and-excite, linear 1x1 down; added to its input where shapes allow."""

    def __init__(self, c_in: int, hidden: int, c_out: int, kernel: int, stride: int, *, se: bool, swish: bool) -> None:
        super().__init__()
        activation = nn.Hardswish if swish else nn.ReLU
        self.body = nn.Sequential()
        if hidden != c_in:
            self.body.append(conv_bn(c_in, hidden, activation=activation))
        self.body.append(conv_bn(hidden, hidden, kernel, stride=stride, groups=hidden, activation=activation))
        if se:
            self.body.append(SqueezeExcite(hidden))
        self.body.append(conv_bn(hidden, c_out, activation=None))
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return x + out if self.residual else out


class MobileNetV3(nn.Module):
    def __init__(self, num_classes: int, in_channels: int, width: float) -> None:
        super().__init__()
        c = scaled(16, width)
        self.stem = conv_bn(in_channels, c, 3, stride=2, activation=nn.Hardswish)
        self.blocks = nn.Sequential()
        for kernel, hidden, channels, se, swish, stride in _BLOCKS:
            c_out = scaled(channels, width)
            self.blocks.append(Block(c, scaled(hidden, width), c_out, kernel, stride, se=se, swish=swish))
            c = c_out
        last, features = scaled(576, width), scaled(1024, max(1.0, width))
        self.head = conv_bn(c, last, activation=nn.Hardswish)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(last, features), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(features, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.head(self.blocks(self.stem(x))))
        out: Tensor = self.classifier(x.flatten(1))
        return out


def mobilenet_v3_small(*, num_classes: int = 1000, in_channels: int = 3, width: float = 1.0) -> nn.Module:
    """Input 3x224x224."""
    return MobileNetV3(num_classes, in_channels, width)
