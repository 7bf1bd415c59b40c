"""A small network with every coupling of width groups, and images that it can learn to tell apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHAPE = (3, 8, 8)
CLASSES = 4


def conv_bn(c_in: int, c_out: int, kernel: int = 3, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()
    )


class TinyNet(nn.Module):
    """Stem, residual block, depthwise-separable block, linear head: (N, 3, 8, 8) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 16)
        self.inner = conv_bn(16, 16)
        self.outer = conv_bn(16, 16)
        self.depthwise = conv_bn(16, 16, stride=2, groups=16)
        self.pointwise = conv_bn(16, 32, 1)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.outer(self.inner(x))
        x = self.pointwise(self.depthwise(x))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def net() -> nn.Module:
    return TinyNet()


def data() -> dict[str, Tensor]:
    """200 images to train on, 100 to test: each class has a bright quarter of its own, under noise."""
    generator = torch.Generator().manual_seed(7)
    labels = torch.arange(300) % CLASSES
    images = 0.5 * torch.randn((300, *SHAPE), generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = 4 * (label // 2), 4 * (label % 2)
        image[label % 3, top : top + 4, left : left + 4] += 2.0
    return {"x_train": images[:200], "y_train": labels[:200], "x_test": images[200:], "y_test": labels[200:]}
