"""Eight networks at the sizes that people deploy, with random weights: their kernels are timed, their shapes solved.

Those that edgeprune's zoo lacks are written here, from their papers. Where a count of parameters is published,
it is written beside the network, and the benchmark refuses to go on if the network here has another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgeprune.models.zoo import build
from edgeprune.models.zoo.layers import conv_bn
from edgeprune.models.zoo.resnet import Bottleneck, ResNet
from edgeprune.models.zoo.unet import UNet


class DenseLayer(nn.Module):
    """Batch norm and ReLU before each convolution; what it makes is appended to what it was given."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 4 * growth, 1, bias=False)
        )
        self.grow = nn.Sequential(
            nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.grow(self.squeeze(x))], dim=1)


def densenet121() -> nn.Module:
    """Huang et al. 2017, arXiv:1608.06993, table 1."""
    growth, channels = 32, 64
    layers: list[nn.Module] = [*conv_bn(3, channels, 7, stride=2), nn.MaxPool2d(3, 2, 1)]
    blocks = (6, 12, 24, 16)
    for i, count in enumerate(blocks):
        for _ in range(count):
            layers.append(DenseLayer(channels, growth))
            channels += growth
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        if i < len(blocks) - 1:
            layers += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
            channels //= 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


def resnet152() -> nn.Module:
    """He et al. 2016, arXiv:1512.03385, table 1."""
    stem = nn.Sequential(*conv_bn(3, 64, 7, stride=2), nn.MaxPool2d(3, 2, 1))
    return ResNet(
        stem, 64, Bottleneck, [(64, 3, 1), (128, 8, 2), (256, 36, 2), (512, 3, 2)], 1000, Bottleneck.expansion
    )


def unet() -> nn.Module:
    """Ronneberger et al. 2015, arXiv:1505.04597, figure 1, at half its channels."""
    return UNet(2, 3, [32, 64, 128, 256, 512])


def _silu(c_in: int, c_out: int, kernel: int = 1, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return conv_bn(c_in, c_out, kernel, stride=stride, groups=groups, activation=nn.SiLU)


class SplitBlock(nn.Module):
    """One half goes straight on, the other through a chain of which every link is kept (after CSPNet, Wang et al. 2020,
    arXiv:1911.11929, figure 2).
    """

    def __init__(self, c_in: int, c_out: int, links: int, *, residual: bool) -> None:
        super().__init__()
        half = c_out // 2
        self.straight, self.enter = _silu(c_in, half), _silu(c_in, half)
        self.links = nn.ModuleList(nn.Sequential(_silu(half, half, 3), _silu(half, half, 3)) for _ in range(links))
        self.leave = _silu((2 + links) * half, c_out)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.straight(x), self.enter(x)]
        for link in self.links:
            made = link(parts[-1])
            parts.append(parts[-1] + made if self.residual else made)
        out: Tensor = self.leave(torch.cat(parts, dim=1))
        return out


class Pyramid(nn.Module):
    """Spatial pyramid pooling (He et al. 2015, arXiv:1406.4729) by one pooling, three times."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter, self.pool = _silu(channels, channels // 2), nn.MaxPool2d(5, 1, 2)
        self.leave = _silu(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        out: Tensor = self.leave(torch.cat(parts, dim=1))
        return out


class Yolo(nn.Module):
    """A one-stage detector: a backbone of split blocks, a neck both ways (PANet, Liu et al. 2018, arXiv:1803.01534),
    and on each of three strides a branch of boxes and one of classes. Returns raw maps (1, 64 + classes, H, W).
    """

    def __init__(self, classes: int = 80) -> None:
        super().__init__()
        self.stem = nn.Sequential(_silu(3, 16, 3, stride=2), _silu(16, 32, 3, stride=2))
        self.c2 = SplitBlock(32, 32, 1, residual=True)
        self.c3 = nn.Sequential(_silu(32, 64, 3, stride=2), SplitBlock(64, 64, 2, residual=True))
        self.c4 = nn.Sequential(_silu(64, 128, 3, stride=2), SplitBlock(128, 128, 2, residual=True))
        self.c5 = nn.Sequential(_silu(128, 256, 3, stride=2), SplitBlock(256, 256, 1, residual=True), Pyramid(256))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.up4, self.up3 = SplitBlock(384, 128, 1, residual=False), SplitBlock(192, 64, 1, residual=False)
        self.to4, self.down4 = _silu(64, 64, 3, stride=2), SplitBlock(192, 128, 1, residual=False)
        self.to5, self.down5 = _silu(128, 128, 3, stride=2), SplitBlock(384, 256, 1, residual=False)
        sides = (64, 128, 256)
        self.boxes = nn.ModuleList(
            nn.Sequential(_silu(c, 64, 3), _silu(64, 64, 3), nn.Conv2d(64, 64, 1)) for c in sides
        )
        self.classes = nn.ModuleList(
            nn.Sequential(_silu(c, 80, 3), _silu(80, 80, 3), nn.Conv2d(80, classes, 1)) for c in sides
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        p3 = self.c3(self.c2(self.stem(x)))
        p4 = self.c4(p3)
        p5 = self.c5(p4)
        n4 = self.up4(torch.cat([self.up(p5), p4], dim=1))
        n3 = self.up3(torch.cat([self.up(n4), p3], dim=1))
        m4 = self.down4(torch.cat([self.to4(n3), n4], dim=1))
        m5 = self.down5(torch.cat([self.to5(m4), p5], dim=1))
        return [
            torch.cat([box(m), kind(m)], dim=1)
            for box, kind, m in zip(self.boxes, self.classes, (n3, m4, m5), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Profiled:
    """A network of the benchmark.

    Attributes:
        side: of its input, in pixels.
        parameters_m: as published, in millions; None for one that is not.
        points: widths of each group that are timed. Concatenations take many kernels, so networks full of them get few.
    """

    make: Callable[[], nn.Module]
    side: int = 224
    parameters_m: float | None = None
    points: int = 5


PROFILED = {
    "resnet18": Profiled(lambda: build("resnet18"), parameters_m=11.69),
    "resnet50": Profiled(lambda: build("resnet50"), parameters_m=25.56),
    "resnet152": Profiled(resnet152, parameters_m=60.19),
    "mobilenet_v2": Profiled(lambda: build("mobilenet_v2"), parameters_m=3.50),
    "mobilenet_v3_small": Profiled(lambda: build("mobilenet_v3_small"), parameters_m=2.54, points=4),
    "densenet121": Profiled(densenet121, parameters_m=7.98, points=3),
    "unet": Profiled(unet, side=256, points=4),
    "yolo": Profiled(Yolo, side=320, points=3),
}
