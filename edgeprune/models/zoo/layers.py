"""What several families share: scaled channel counts and convolution + batch norm + activation."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def scaled(channels: int, width: float) -> int:
    """``channels * width`` rounded to a multiple of 8, never below 8 nor more than 10 % below the product.

    At ``width=1`` the paper's count is kept as it is. Source: MobileNetV2's width multiplier
    (arXiv:1801.04381, section 6.1).

    Raises:
        ValueError: for a width that is not positive.
    """
    if width <= 0:
        raise ValueError(f"width must be positive, not {width}")
    if width == 1:
        return channels
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def conv_bn(
    c_in: int,
    c_out: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: Callable[[], nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Convolution that keeps the size (or divides it by ``stride``), batch norm, activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
    ]
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)
