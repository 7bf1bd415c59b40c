"""Small networks, one for each way channels are coupled, with the groups that must stay prunable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(i: int, o: int, k: int = 3, **options: object) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **options)  # type: ignore[arg-type]


class Net(nn.Module):
    """Stem, the coupling under test, head."""

    def __init__(self, width: int = 8, head: int | None = None) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, width), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(head or width, 5)

    def body(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


class Residual(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.b = conv(8, 6, bias=False), nn.BatchNorm2d(6), conv(6, 8)

    def body(self, x: Tensor) -> Tensor:
        return F.relu(x + self.b(F.hardswish(self.bn(self.a(x)))))


class Concat(Net):
    def __init__(self) -> None:
        super().__init__(head=7)
        self.a, self.b, self.bn, self.c = conv(8, 6), conv(8, 5, 1), nn.BatchNorm2d(19), conv(19, 7)

    def body(self, x: Tensor) -> Tensor:
        return self.c(F.silu(self.bn(torch.cat([self.a(x), x, self.b(x)], 1))))  # type: ignore[no-any-return]


class ConcatPlusAdd(Net):
    """A convolution over the concatenation's width ties its own channels to both halves."""

    def __init__(self) -> None:
        super().__init__(head=14)
        self.a, self.c = conv(8, 6), conv(8, 14)

    def body(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x), x], 1) + self.c(x)  # type: ignore[no-any-return]


class Chunk(Net):
    def __init__(self) -> None:
        super().__init__(head=4)
        self.a = conv(4, 4)

    def body(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        return self.a(left) * torch.sigmoid(right)  # type: ignore[no-any-return]


class Split(Net):
    def __init__(self) -> None:
        super().__init__(head=6)
        self.a, self.b = conv(3, 6), conv(5, 6)

    def body(self, x: Tensor) -> Tensor:
        left, right = torch.split(x, [3, 5], 1)
        return self.a(left) + self.b(right)  # type: ignore[no-any-return]


class Depthwise(Net):
    def __init__(self) -> None:
        super().__init__(head=6)
        self.expand, self.dw = conv(8, 12, 1), conv(12, 12, groups=12, bias=False)
        self.bn, self.project = nn.BatchNorm2d(12), conv(12, 6, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.project(F.relu6(self.bn(self.dw(F.relu6(self.expand(x))))))  # type: ignore[no-any-return]


class DepthMultiplier(Net):
    def __init__(self) -> None:
        super().__init__(head=6)
        self.dw, self.bn, self.project = conv(8, 16, groups=8), nn.BatchNorm2d(16), conv(16, 6, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.project(self.bn(self.dw(x)))  # type: ignore[no-any-return]


class Grouped(Net):
    def __init__(self) -> None:
        super().__init__(head=6)
        self.expand, self.grouped, self.project = conv(8, 12, 1), conv(12, 8, groups=4), conv(8, 6, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.project(F.relu(self.grouped(F.relu(self.expand(x)))))  # type: ignore[no-any-return]


class Shuffle(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a = conv(8, 8)

    def body(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return self.a(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))  # type: ignore[no-any-return]


class SqueezeExcite(Net):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = conv(8, 4, 1), conv(4, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))


class SqueezeExciteLinear(Net):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(8, 4), nn.Linear(4, 8)

    def body(self, x: Tensor) -> Tensor:
        n, c, _, _ = x.shape
        gate = self.up(torch.tanh(self.down(F.adaptive_avg_pool2d(x, 1).view(n, c))))
        return x * torch.sigmoid(gate).view(n, c, 1, 1)


class SpatialAttention(Net):
    """One attention channel broadcast over all: its own group, of size one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(8, 8), conv(8, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.a(x) * torch.sigmoid(self.b(x))  # type: ignore[no-any-return]


class Flatten(Net):
    def __init__(self) -> None:
        super().__init__(head=9)
        self.a, self.fc = conv(8, 6), nn.Linear(6 * 4 * 4, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.fc(F.max_pool2d(self.a(self.stem(x)), 2).flatten(1))))  # type: ignore[no-any-return]


class Skip(Net):
    """A U-Net in small: transposed convolution, resize, concatenation of the skip."""

    def __init__(self) -> None:
        super().__init__(head=7)
        self.down, self.up, self.join = conv(8, 10, stride=2), nn.ConvTranspose2d(10, 6, 2, 2), conv(24, 7)

    def body(self, x: Tensor) -> Tensor:
        y = F.relu(self.down(x))
        z = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        return self.join(torch.cat([x, self.up(y), z], 1))  # type: ignore[no-any-return]


class SharedModule(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(8, 8), conv(8, 8)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(F.relu(self.a(x))))  # type: ignore[no-any-return]


class TiedWeight(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(8, 8), conv(8, 8)
        self.b.weight = self.a.weight

    def body(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)))  # type: ignore[no-any-return]


class BareParameters(Net):
    """Layer scale, a buffer that is not saved, per-channel slopes, normalisation of the input."""

    offset: Tensor
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.slope = conv(8, 8), nn.PReLU(8)
        self.scale, self.shift = nn.Parameter(torch.rand(8, 1, 1) + 0.5), nn.Parameter(torch.randn(8))
        self.register_buffer("offset", torch.randn(1, 8, 1, 1), persistent=False)
        self.register_buffer("mean", torch.randn(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x - self.mean)
        y = self.slope(self.a(y) * self.scale) + self.shift.view(1, -1, 1, 1) - self.offset
        return self.head(y.mean((2, 3)))  # type: ignore[no-any-return]


class PaddedShortcut(Net):
    """The parameter-free shortcut of small ResNets: stride, then zero channels."""

    def __init__(self) -> None:
        super().__init__(head=12)
        self.a, self.b = conv(8, 6, stride=2), conv(6, 12)

    def body(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x))) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))  # type: ignore[no-any-return]


class ChannelSoftmax(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(8, 6), conv(6, 8)

    def body(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(torch.softmax(x, 1))))  # type: ignore[no-any-return]


class ChannelsLast(Net):
    """Linear layers over the last dimension of a permuted map."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 12), nn.Linear(12, 8)

    def body(self, x: Tensor) -> Tensor:
        return x + self.b(F.gelu(self.a(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class InPlace(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a = conv(8, 8)

    def body(self, x: Tensor) -> Tensor:
        y = self.a(x)
        y += x
        return F.relu_(y)


@dataclass(frozen=True)
class Case:
    net: Callable[[], nn.Module]
    prunable: dict[str, int]


STEM = {"stem.0": 8}
CASES = {
    "residual": Case(Residual, {**STEM, "a": 6}),
    "concat": Case(Concat, {**STEM, "a": 6, "b": 5, "c": 7}),
    "concat_plus_add": Case(ConcatPlusAdd, {**STEM, "a": 6}),
    "chunk": Case(Chunk, {"stem.0[0:4]": 4}),
    "split": Case(Split, {"a": 6}),
    "depthwise": Case(Depthwise, {**STEM, "expand": 12, "project": 6}),
    "depth_multiplier": Case(DepthMultiplier, {**STEM, "project": 6}),
    "grouped": Case(Grouped, {**STEM, "expand[0:3]": 3, "grouped[0:2]": 2, "project": 6}),
    "shuffle": Case(Shuffle, {"stem.0[0:4]": 4, "a": 8}),
    "squeeze_excite": Case(SqueezeExcite, {**STEM, "down": 4}),
    "squeeze_excite_linear": Case(SqueezeExciteLinear, {**STEM, "down": 4}),
    "spatial_attention": Case(SpatialAttention, {**STEM, "a": 8, "b": 1}),
    "flatten": Case(Flatten, {**STEM, "a": 6, "fc": 9}),
    "skip": Case(Skip, {**STEM, "down": 10, "up": 6, "join": 7}),
    "shared_module": Case(SharedModule, {**STEM, "b": 8}),
    "tied_weight": Case(TiedWeight, STEM),
    "bare_parameters": Case(BareParameters, {**STEM, "a": 8}),
    "padded_shortcut": Case(PaddedShortcut, {"stem.0": 8, "a": 6}),
    "channel_softmax": Case(ChannelSoftmax, {"a": 6, "b": 8}),
    "channels_last": Case(ChannelsLast, {**STEM, "a": 12}),
    "in_place": Case(InPlace, STEM),
}


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Evaluation mode, with batch norms that are far from the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, nn.modules.batchnorm._NormBase):
                for tensor in (t for t in (m.weight, m.running_var) if t is not None):
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
                for tensor in (t for t in (m.bias, m.running_mean) if t is not None):
                    tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return module.eval()
