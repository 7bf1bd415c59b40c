"""Random networks out of building blocks that couple channels in different ways."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from coupling_nets import conv
from torch import Tensor, nn


class Shuffle(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.groups = 2

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class ShuffleInBlocks(nn.Module):
    """Three groups shuffled, then read in blocks that cut through threes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.groups = 3
        self.a, self.b = conv(width, 6 * width, 1, groups=2), conv(6 * width, width, 1, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.a(x))
        n, c, h, w = y.shape
        return self.b(y.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w))  # type: ignore[no-any-return]


class SplitAndJoin(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.rest = width // 4, width - width // 4
        self.a = conv(self.first, width)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.split(x, [self.first, self.rest], 1)
        return torch.cat([F.relu(self.a(a)), b], 1)


class Halves(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a = conv(width // 2, width // 2)

    def forward(self, x: Tensor) -> Tensor:
        c = x.shape[1] // 2
        return self.a(x[:, :c]) + x[:, c:]  # type: ignore[no-any-return]


class Normed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.norm = conv(width, width), nn.GroupNorm(width // 2, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.a(x)))


class Pixels(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = conv(width, width), conv(width // 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(self.b(F.pixel_shuffle(self.a(x), 2)), 2)


class Transposed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.each = (
            nn.ConvTranspose2d(width, width, 2, 2, groups=2),
            nn.ConvTranspose2d(width, width, 1, groups=width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.each(F.relu(self.up(x))), 2)


class Gate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up, self.scale = nn.Linear(width, 4), nn.Linear(4, width), nn.Parameter(torch.rand(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, _, _ = x.shape
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3)))))).view(n, c, 1, 1).expand_as(x) * self.scale


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads, self.features = 2, 3
        self.qkv, self.out = nn.Linear(width, 18), nn.Linear(6, width)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        qkv = self.qkv(x.flatten(2).transpose(1, 2)).view(n, h * w, 3, self.heads, self.features)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(y).transpose(1, 2).view(n, c, h, w)  # type: ignore[no-any-return]


class Multiplied(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dw, self.bn = conv(width, 2 * width, groups=width), nn.BatchNorm2d(2 * width)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.bn(self.dw(x)), 1)


BLOCKS = (Shuffle, ShuffleInBlocks, SplitAndJoin, Halves, Normed, Pixels, Transposed, Gate, Attention, Multiplied)


class RandomNet(nn.Module):
    """A chain of blocks, each after a convolution, with residuals and a head over all of them."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        widths, self.steps, self.residual = [8], nn.ModuleList([conv(3, 8)]), [False]
        for _ in range(int(rng.integers(2, 5))):
            width = 4 * int(rng.integers(1, 4))
            kind = BLOCKS[int(rng.integers(len(BLOCKS)))]
            step = nn.Sequential(conv(widths[-1], width), nn.BatchNorm2d(width), kind(width))
            with torch.no_grad():
                after = int(step.eval()(torch.zeros(1, widths[-1], 8, 8)).shape[1])
            self.steps.append(step)
            self.residual.append(after == widths[-1] and bool(rng.integers(2)))
            widths.append(after)
        self.head = nn.Linear(sum(widths), 3)

    def forward(self, x: Tensor) -> Tensor:
        maps: list[Tensor] = []
        for step, residual in zip(self.steps, self.residual, strict=True):
            x = step(x) + maps[-1] if residual else step(x)
            maps.append(F.interpolate(x, size=8))
            x = maps[-1]
        return self.head(torch.cat([m.mean((2, 3)) for m in maps], 1))  # type: ignore[no-any-return]
