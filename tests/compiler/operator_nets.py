"""A small network for every operator of kernels, of sizes that hypothesis chooses; the operator is sure to be in it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

Forward = Callable[..., Tensor]


class Net(nn.Module):
    """A network from a function; layers by name."""

    def __init__(self, forward: Forward, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = forward

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self, *inputs)


@dataclass(frozen=True)
class Sizes:
    """Of an example: channels in, of the layer before and of the one behind; rows and columns."""

    channels: int
    wide: int
    height: int
    width: int

    @property
    def image(self) -> Tensor:
        return torch.randn(1, self.channels, self.height, self.width)


SIZES = st.builds(Sizes, st.integers(1, 4), st.sampled_from([6, 12, 20]), st.integers(5, 9), st.integers(5, 9))

Made = tuple[nn.Module, tuple[Tensor, ...]]
EXAMPLES: dict[str, Callable[[Sizes], Made]] = {}
"""Name of the operator -> a network with it, and its input."""


def example(op: str) -> Callable[[Callable[[Sizes], Made]], Callable[[Sizes], Made]]:
    def enter(make: Callable[[Sizes], Made]) -> Callable[[Sizes], Made]:
        EXAMPLES[op] = make
        return make

    return enter


def around(
    s: Sizes, between: Forward, *, wide: int = 0, seen: int = 0, **layers: nn.Module
) -> tuple[Net, tuple[Tensor]]:
    """Convolution, what is ``between``, convolution.

    Args:
        wide: filters of the first.
        seen: channels that the second reads.
    """
    wide = wide or s.wide
    first, last = nn.Conv2d(s.channels, wide, 3, padding=1), nn.Conv2d(seen or wide, 5, 1)

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return m.last(between(m, m.first(x)))  # type: ignore[no-any-return,operator]

    return Net(forward, first=first, last=last, **layers), (s.image,)


@example("conv2d")
def _(s: Sizes) -> Made:
    return around(
        s,
        lambda m, x: F.relu(m.norm(m.depthwise(x))),
        depthwise=nn.Conv2d(s.wide, s.wide, 3, groups=s.wide),
        norm=nn.BatchNorm2d(s.wide),
    )


def volume(s: Sizes, between: Forward) -> Made:
    net = Net(
        lambda m, x: m.last(between(m, F.relu(m.first(x)))),
        first=nn.Conv3d(s.channels, s.wide, 3, padding=1),
        last=nn.Conv3d(s.wide, 3, 1),
    )
    return net, (torch.randn(1, s.channels, 4, s.height, s.width),)


@example("conv3d")
def _(s: Sizes) -> Made:
    return volume(s, lambda m, x: x)


@example("max_pool3d")
def _(s: Sizes) -> Made:
    return volume(s, lambda m, x: F.max_pool3d(x, 2))


@example("avg_pool3d")
def _(s: Sizes) -> Made:
    return volume(s, lambda m, x: F.avg_pool3d(x, 2))


@example("conv_transpose2d")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: F.hardswish(m.up(x)), up=nn.ConvTranspose2d(s.wide, s.wide, 2, 2))


@example("dense")
def _(s: Sizes) -> Made:
    net = Net(
        lambda m, x: m.last(F.relu(m.first(x))), first=nn.Linear(7 * s.channels, s.wide), last=nn.Linear(s.wide, 3)
    )
    return net, (torch.randn(2, 7 * s.channels),)


@example("max_pool2d")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: F.max_pool2d(x, 3, 2, 1))


@example("avg_pool2d")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False))


@example("global_avg_pool")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: F.adaptive_avg_pool2d(x, 1))


@example("global_max_pool")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: F.adaptive_max_pool2d(x, 1))


def unpooled(m: nn.Module, x: Tensor) -> Tensor:
    values, where = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(F.relu(values), where, 2, output_size=x.shape[2:])  # type: ignore[arg-type]


@example("max_places2d")
@example("max_unpool2d")
def _(s: Sizes) -> Made:
    return around(s, unpooled)


@example("resize2d")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: F.interpolate(x, (11, 8), mode="bilinear", align_corners=False))


@example("pad")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: F.pad(x, (1, 0, 2, 1), mode="reflect"))


@example("concat")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: torch.cat([x, m.beside(x)], 1), seen=s.wide + 7, beside=nn.Conv2d(s.wide, 7, 1))


@example("channel_slice")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: operator.mul(*x.chunk(2, 1)), seen=s.wide // 2)


def mixed(m: nn.Module, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return F.relu(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


@example("channel_shuffle")
def _(s: Sizes) -> Made:
    return around(s, mixed)


@example("grid_sample")
def _(s: Sizes) -> Made:
    net, (x,) = around(s, lambda m, x: x)
    grid = torch.rand(1, 4, 6, 2) * 2 - 1
    inner = net.function
    net.function = lambda m, x, g: F.grid_sample(inner(m, x), g, align_corners=False)
    return net, (x, grid)


@example("take")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: x[:, :, [0, 2, 1, 4]])


@example("elementwise")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: torch.tanh(x) * torch.sigmoid(x) + x)


@example("strided")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: (x.transpose(2, 3) * 2).transpose(2, 3))


@example("join")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: torch.cat([x, x.flip(3)], 3))


@example("matmul")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: x @ x.transpose(2, 3))


@example("reduce")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: x.amin(3, keepdim=True))


@example("normalize")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: F.gelu(m.norm(x)), norm=nn.GroupNorm(2, s.wide))


@example("softmax")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: x.softmax(3))


@example("recurrent")
def _(s: Sizes) -> Made:
    net = Net(
        lambda m, x: m.last(m.first(x)[0]),
        first=nn.GRU(s.channels, s.wide, batch_first=True),
        last=nn.Linear(s.wide, 3),
    )
    return net, (torch.randn(1, 4, s.channels),)


@example("layout")
def _(s: Sizes) -> Made:
    return around(s, lambda m, x: x)
