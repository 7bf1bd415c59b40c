"""Idioms of networks that nobody here wrote, one small network each.

``prunable`` are the groups that must be, with their sizes; all else must be frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from coupling_nets import Net, conv
from torch import Tensor, nn


@dataclass(frozen=True)
class Idiom:
    net: Callable[[], nn.Module]
    prunable: dict[str, int]
    shape: tuple[int, ...] = (2, 3, 8, 8)


STEM = {"stem.0": 8}
IDIOMS: dict[str, Idiom] = {}


def idiom(prunable: dict[str, int], *shape: int) -> Callable[[type[nn.Module]], type[nn.Module]]:
    def register(net: type[nn.Module]) -> type[nn.Module]:
        IDIOMS[net.__name__] = Idiom(net, prunable, shape or (2, 3, 8, 8))
        return net

    return register


# -- splits ---------------------------------------------------------------------------------------


@idiom({**STEM, "a[0:4]": 4, "m": 4, "b": 8})
class SplitByAttribute(Net):
    """YOLO's C2f: the code splits at a size that the module keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.c = 4
        self.a, self.m, self.b = conv(8, 8, 1), conv(4, 4), conv(12, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        y = list(self.a(x).split((self.c, self.c), 1))
        y.append(self.m(y[-1]))
        return self.b(torch.cat(y, 1))  # type: ignore[no-any-return]


@idiom({"stem.0[0:3]": 3, "stem.0[3:8]": 5, "a": 6, "b": 6})
class SplitByTwoAttributes(Net):
    """Unequal parts, each with a size of its own."""

    def __init__(self) -> None:
        super().__init__(head=12)
        self.sizes = [3, 5]
        self.a, self.b = conv(3, 6), conv(5, 6)

    def body(self, x: Tensor) -> Tensor:
        left, right = torch.split(x, self.sizes, dim=1)
        return torch.cat([self.a(left), self.b(right)], 1)


@idiom({"stem.0[0:4]": 4, "a": 4})
class SplitByHalfOfWhatWasRead(Net):
    def __init__(self) -> None:
        super().__init__(head=4)
        self.a = conv(4, 4)

    def body(self, x: Tensor) -> Tensor:
        left, right = x.split(x.shape[1] // 2, 1)  # type: ignore[no-untyped-call]
        return self.a(left) * torch.sigmoid(self.a(right))  # type: ignore[no-any-return]


@idiom({"a": 4})
class SplitAtNumbers(Net):
    def __init__(self) -> None:
        super().__init__(head=4)
        self.a = conv(4, 4)

    def body(self, x: Tensor) -> Tensor:
        left, right = x.split(4, 1)  # type: ignore[no-untyped-call]
        return self.a(left) + self.a(right)  # type: ignore[no-any-return]


@idiom({"stem.0[0:4]": 4})
class SliceByHalf(Net):
    def __init__(self) -> None:
        super().__init__(head=4)
        self.a = conv(4, 4)

    def body(self, x: Tensor) -> Tensor:
        c = x.size(1)
        return self.a(x[:, : c // 2]) * x[:, c // 2 :].mean((2, 3), keepdim=True)  # type: ignore[no-any-return]


@idiom({"stem.0[0:2]": 2, "stem.0[2:8]": 6})
class SliceByAttribute(Net):
    """Partial convolution: some channels are convolved, the others pass."""

    def __init__(self) -> None:
        super().__init__()
        self.part = 2
        self.a = conv(2, 2)

    def body(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x[:, : self.part]) + x[:, : self.part], x[:, self.part :]], 1)


@idiom({"a": 8})
class AttributeUsedTwice(Net):
    """What is the size of a split and of something else stays."""

    def __init__(self) -> None:
        super().__init__()
        self.c = 4
        self.a = conv(4, 8)

    def body(self, x: Tensor) -> Tensor:
        left, right = x.split(self.c, 1)  # type: ignore[no-untyped-call]
        return self.a(left + right) / self.c  # type: ignore[no-any-return]


# -- views ----------------------------------------------------------------------------------------


@idiom({**STEM, "a[0:3]": 3, "b[0:4]": 4})
class ChannelShuffle(Net):
    """ShuffleNet v1: grouped convolution, shuffle by view and transpose, grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.g = conv(8, 12, 1), conv(12, 8, groups=2), 2

    def body(self, x: Tensor) -> Tensor:
        y = self.a(x)
        n, c, h, w = y.shape
        y = y.view(n, self.g, c // self.g, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        return self.b(y)  # type: ignore[no-any-return]


@idiom({**STEM, "a[0:1]": 1, "dw[0:2]": 2})
class ChannelShuffleOpen(Net):
    def __init__(self) -> None:
        super().__init__(head=6)
        self.a, self.dw = conv(8, 6), conv(6, 6, groups=3)

    def body(self, x: Tensor) -> Tensor:
        y = self.a(x)
        n, _, h, w = y.size()
        return self.dw(y.reshape(n, 2, -1, h, w).permute(0, 2, 1, 3, 4).flatten(1, 2))  # type: ignore[no-any-return]


@idiom({"a[0:4]": 4, **STEM})
class ShuffleOperator(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.shuffle = conv(8, 8), nn.ChannelShuffle(2)

    def body(self, x: Tensor) -> Tensor:
        return F.relu(self.shuffle(self.a(x)))


@idiom({**STEM})
class ShuffleWithNumbers(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a = conv(8, 8)

    def body(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        return self.a(x).view(n, 2, 4, h, w).transpose(1, 2).reshape(n, 8, h, w)  # type: ignore[no-any-return]


@idiom({**STEM, "a[0:4]": 4, "b": 8})
class GraphConvolution(Net):
    """A map a partition, summed over partitions and neighbours; the adjacency is learned and stays."""

    def __init__(self) -> None:
        super().__init__()
        self.k, self.adjacency = 3, nn.Parameter(torch.rand(3, 8, 8))
        self.a, self.b = conv(8, 12, 1), conv(4, 8)

    def body(self, x: Tensor) -> Tensor:
        n, kc, t, v = self.a(x).size()
        y = self.a(x).view(n, self.k, kc // self.k, t, v)
        return self.b(torch.einsum("nkctv,kvw->nctw", y, self.adjacency))  # type: ignore[no-any-return]


@idiom({**STEM, "fc": 9})
class SizeOfWhatWasContiguous(Net):
    """``contiguous`` has nothing to do and leaves no node; the size is read from its result all the same."""

    def __init__(self) -> None:
        super().__init__(head=9)
        self.fc = nn.Linear(8, 9)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).mean((2, 3))
        return self.head(F.relu(self.fc(y.contiguous().view(-1, y.size(1)))))  # type: ignore[no-any-return]


@idiom({**STEM, "fc": 9})
class ViewWithNumbers(Net):
    """The tutorial's ``x.view(-1, 16 * 5 * 5)``."""

    def __init__(self) -> None:
        super().__init__(head=9)
        self.a, self.fc = conv(8, 6), nn.Linear(6 * 4 * 4, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.fc(F.max_pool2d(self.a(self.stem(x)), 2).view(-1, 6 * 4 * 4))))  # type: ignore[no-any-return]


@idiom({**STEM, "a": 6, "fc": 9})
class ViewByProduct(Net):
    def __init__(self) -> None:
        super().__init__(head=9)
        self.a, self.fc = conv(8, 6), nn.Linear(6 * 8 * 8, 9)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(self.stem(x))
        n, c, h, w = y.shape
        return self.head(F.relu(self.fc(y.view(n, c * h * w))))  # type: ignore[no-any-return]


@idiom({**STEM, "down": 4})
class Gate(Net):
    """Squeeze and excite with views and expand_as."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(8, 4), nn.Linear(4, 8)

    def body(self, x: Tensor) -> Tensor:
        n, c, _, _ = x.size()
        y = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        return x * y.view(n, c, 1, 1).expand_as(x)


@idiom({**STEM, "a": 1})
class SpatialGate(Net):
    """One value a pixel, expanded over the channels that were read; then a learned temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.temperature = conv(8, 1), nn.Parameter(torch.ones(1))

    def body(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x * (torch.exp(self.a(x)) * self.temperature).expand(n, c, h, w)


@idiom({"fc": 6, "up": 5})
class Unflattened(Net):
    """A generator: features become a map by nn.Unflatten, whose size follows."""

    def __init__(self) -> None:
        super().__init__(head=5)
        self.fc, self.shape = nn.Linear(3 * 8 * 8, 6 * 4), nn.Unflatten(1, (6, 2, 2))
        self.up = nn.ConvTranspose2d(6, 5, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.up(self.shape(self.fc(x.flatten(1))))).mean((2, 3)))  # type: ignore[no-any-return]


# -- convolutions ---------------------------------------------------------------------------------


@idiom({"a": 6, "b": 4, "c": 5}, 2, 3, 16)
class OneDimension(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = (
            nn.Conv1d(3, 6, 3, padding="same"),
            nn.BatchNorm1d(6),
            nn.ConvTranspose1d(6, 4, 2, 2),
        )
        self.c, self.head = nn.Conv1d(4, 5, 3), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.avg_pool1d(F.max_pool1d(F.relu(self.norm(self.a(x))), 2), 2)
        y = F.interpolate(self.c(self.b(y)), scale_factor=2, mode="linear")
        return self.head(F.adaptive_avg_pool1d(y, 1).squeeze(2))  # type: ignore[no-any-return]


@idiom({"a": 6, "b": 4}, 2, 3, 4, 4, 4)
class ThreeDimensions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv3d(3, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ConvTranspose3d(6, 4, 2, 2)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool3d(F.relu(self.norm(self.a(x))), 2)
        return self.head(F.adaptive_avg_pool3d(self.b(y), 1).flatten(1))  # type: ignore[no-any-return]


@idiom({**STEM, "a[0:3]": 3, "up": 2})
class GroupedTransposed(Net):
    def __init__(self) -> None:
        super().__init__(head=4)
        self.a, self.up = conv(8, 6), nn.ConvTranspose2d(6, 4, 2, 2, groups=2)

    def body(self, x: Tensor) -> Tensor:
        return F.relu(self.up(self.a(x)))


@idiom({**STEM, "a": 6})
class DepthwiseTransposed(Net):
    def __init__(self) -> None:
        super().__init__(head=12)
        self.a, self.up = conv(8, 6), nn.ConvTranspose2d(6, 12, 2, 2, groups=6)

    def body(self, x: Tensor) -> Tensor:
        return F.relu(self.up(self.a(x)))


@idiom({"stem.0[0:4]": 4, "b[0:3]": 3})
class MultiplierThenGrouped(Net):
    def __init__(self) -> None:
        super().__init__(head=6)
        self.dw, self.b = conv(8, 16, groups=8), conv(16, 6, groups=2)

    def body(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.dw(x)))  # type: ignore[no-any-return]


@idiom({"a": 8})
class FunctionalDepthwise(Net):
    """The number of groups stands in the code: nothing can follow it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.a = nn.Parameter(torch.randn(8, 1, 3, 3)), conv(8, 8)

    def body(self, x: Tensor) -> Tensor:
        return self.a(F.conv2d(x, self.weight, padding=1, groups=8))  # type: ignore[no-any-return]


@idiom({**STEM, "weight": 6})
class MaskedWeight(Net):
    """A convolution whose weight is a product of parameters."""

    def __init__(self) -> None:
        super().__init__(head=6)
        self.weight, self.gain = nn.Parameter(torch.randn(6, 8, 3, 3)), nn.Parameter(torch.randn(6, 1, 1, 1))

    def body(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.gain, padding=1)


@idiom({"weight": 6, "a": 5})
class PositiveWeight(Net):
    """Weights of removed channels would not be zero: frozen on the reading side."""

    def __init__(self) -> None:
        super().__init__(head=5)
        self.weight, self.a = nn.Parameter(torch.randn(6, 8, 1, 1)), conv(6, 5)

    def body(self, x: Tensor) -> Tensor:
        return self.a(F.conv2d(torch.sigmoid(x), torch.sigmoid(self.weight)))  # type: ignore[no-any-return]


# -- norms ----------------------------------------------------------------------------------------


@idiom({**STEM, "a": 4, "b": 6})
class GroupNorms(Net):
    """A normalisation group goes whole; one group for all channels freezes them."""

    def __init__(self) -> None:
        super().__init__(head=5)
        self.a, self.gn = conv(8, 12), nn.GroupNorm(4, 12)
        self.b, self.each = conv(12, 6), nn.GroupNorm(6, 6, affine=False)
        self.c, self.one = conv(6, 5), nn.GroupNorm(1, 5)

    def body(self, x: Tensor) -> Tensor:
        y = F.relu(self.gn(self.a(x)))
        return self.one(self.c(self.each(self.b(y))))  # type: ignore[no-any-return]


@idiom({**STEM})
class FunctionalGroupNorm(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a = conv(8, 8)

    def body(self, x: Tensor) -> Tensor:
        return F.group_norm(self.a(x), 4)


@idiom({**STEM, "a": 6, "b": 4})
class InstanceNorms(Net):
    def __init__(self) -> None:
        super().__init__(head=4)
        self.a, self.norm = conv(8, 6), nn.InstanceNorm2d(6, affine=True, track_running_stats=True)
        self.b, self.bare = conv(6, 4), nn.InstanceNorm2d(4)

    def body(self, x: Tensor) -> Tensor:
        return self.bare(self.b(F.relu(self.norm(self.a(x)))))  # type: ignore[no-any-return]


@idiom({**STEM, "a": 6})
class BareBatchNorm(Net):
    def __init__(self) -> None:
        super().__init__(head=6)
        self.a, self.norm = conv(8, 6), nn.BatchNorm2d(6, affine=False)

    def body(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(torch.sigmoid(self.a(x))))


@idiom({"up": 16})
class ConvNeXt(Net):
    """Depthwise, layer norm over channels, two linear layers, layer scale: only the inside is free."""

    def __init__(self) -> None:
        super().__init__()
        self.dw, self.norm = conv(8, 8, 7, groups=8), nn.LayerNorm(8)
        self.up, self.down, self.gamma = nn.Linear(8, 16), nn.Linear(16, 8), nn.Parameter(torch.rand(8))

    def body(self, x: Tensor) -> Tensor:
        y = self.norm(self.dw(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.down(F.gelu(self.up(y)))).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


@idiom({**STEM, "a": 6})
class UnitNorm(Net):
    """Norms over channels count removed ones as nothing; the quotient is by one value for all."""

    def __init__(self) -> None:
        super().__init__(head=6)
        self.a = conv(8, 6)

    def body(self, x: Tensor) -> Tensor:
        return F.normalize(F.relu(self.a(x)), dim=1)


# -- pixels ---------------------------------------------------------------------------------------


@idiom({**STEM, "a": 3, "b": 5})
class PixelShuffles(Net):
    def __init__(self) -> None:
        super().__init__(head=20)
        self.a, self.b = conv(8, 12), conv(3, 5)

    def body(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(self.b(F.relu(F.pixel_shuffle(self.a(x), 2))), 2)


@idiom({**STEM, "a": 6, "b": 5, "c": 6})
class Pools(Net):
    def __init__(self) -> None:
        super().__init__(head=6)
        self.a, self.b = conv(8, 6, padding_mode="reflect"), nn.Conv2d(6, 5, 3)
        self.c = conv(5, 6)

    def body(self, x: Tensor) -> Tensor:
        y, places = F.max_pool2d(self.a(x), 2, return_indices=True)
        y = F.max_unpool2d(y, places, 2) + F.adaptive_max_pool2d(self.a(x), 8)  # type: ignore[arg-type]
        y = self.b(F.pad(F.pad(y, (1, 1, 1, 1), mode="replicate"), (1, 0, 0, 1), mode="circular"))
        y = F.interpolate(y, size=(6, 6), mode="bicubic") + F.interpolate(y, size=6, mode="nearest-exact")
        return self.c(F.lp_pool2d(y.abs(), 2, 2))  # type: ignore[no-any-return]


@idiom({**STEM, "a": 6, "fc": 4})
class Patches(Net):
    def __init__(self) -> None:
        super().__init__(head=4)
        self.a, self.fc = conv(8, 6), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = F.unfold(F.relu(self.a(self.stem(x))), 2, stride=2).transpose(1, 2)
        return self.head(F.relu(self.fc(tokens)).mean(1))  # type: ignore[no-any-return]


# -- several uses of one thing ----------------------------------------------------------------------


@idiom({**STEM, "block.0": 6, "block.2": 8})
class SharedBlock(Net):
    """One head for two levels of a pyramid; called twice, shrunk once."""

    def __init__(self) -> None:
        super().__init__()
        self.down = conv(8, 8, stride=2)
        self.block = nn.Sequential(conv(8, 6), nn.ReLU(), conv(6, 8))

    def body(self, x: Tensor) -> Tensor:
        return self.block(x)[:, :, ::2, ::2] + self.block(self.down(x))  # type: ignore[no-any-return]


@idiom({**STEM, "embed": 6, "a": 10})
class Tokens(Net):
    """Class token and position embedding, parameters of no module; the tokens' features are free."""

    def __init__(self) -> None:
        super().__init__(head=6)
        self.embed, self.a, self.b = conv(8, 6, 1), nn.Linear(6, 10), nn.Linear(10, 6)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, 6)), nn.Parameter(torch.randn(1, 65, 6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.embed(self.stem(x)).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(y.shape[0], -1, -1), y], 1) + self.place
        y = y + self.b(F.silu(self.a(y)))
        return self.head(y[:, 0])  # type: ignore[no-any-return]


# -- products and attention -------------------------------------------------------------------------


@idiom({**STEM, "q": 4, "v": 6})
class NonLocal(Net):
    """Queries and keys meet in a product: their channels are one group."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = conv(8, 4, 1), conv(8, 4, 1), conv(8, 6, 1), conv(6, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        q, k, v = (f(x).flatten(2) for f in (self.q, self.k, self.v))
        weights = torch.softmax(torch.bmm(q.transpose(1, 2), k), -1)
        y = torch.matmul(v, weights.mT)
        return x + self.out(y.view(n, -1, h, w))  # type: ignore[no-any-return]


@idiom({**STEM, "q": 4, "v": 6})
class Einsum(Net):
    def __init__(self) -> None:
        super().__init__(head=6)
        self.q, self.k, self.v = nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).flatten(2).transpose(1, 2)
        weights = torch.einsum("bnc,bmc->bnm", self.q(y), self.k(y)).softmax(-1)
        return self.head(torch.einsum("bnm,bmd->bnd", weights, self.v(y)).mean(1))  # type: ignore[no-any-return]


@idiom({**STEM, "qkv[0:8]": 2})
class Heads(Net):
    """Attention that can lose whole heads: its sizes are attributes, the rest is left open."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.features = 2, 4
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).flatten(2).transpose(1, 2)
        n, t, _ = y.shape
        q, k, v = self.qkv(y).view(n, t, 3, self.heads, self.features).permute(2, 0, 3, 1, 4).unbind(0)
        z = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, -1)
        return self.head((y + self.out(z)).mean(1))  # type: ignore[no-any-return]


class BiasedHeads(Net):
    """Heads with a bias for each, of places: a table that loses columns, or one that has none to lose."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.heads, self.features, self.shape = 4, 2, (64, 64, 4)
        self.qkv, self.out, self.table = conv(8, 24, 1), conv(8, 8, 1), nn.Parameter(table)

    def body(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        q, k, v = self.qkv(x).view(n, self.heads, 3 * self.features, -1).chunk(3, 2)
        q, k, v = (y.transpose(-1, -2) for y in (q, k, v))
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias())
        return x + self.out(z.transpose(-1, -2).reshape(n, -1, h, w))  # type: ignore[no-any-return]

    def bias(self) -> Tensor:
        raise NotImplementedError


@idiom({**STEM, "qkv": 4})
class BiasOfHeads(BiasedHeads):
    places: Tensor

    def __init__(self) -> None:
        super().__init__(torch.randn(5, 4))
        self.register_buffer("places", torch.arange(64 * 64) % 5)

    def bias(self) -> Tensor:
        return self.table[self.places].view(self.shape).permute(2, 0, 1).unsqueeze(0)


@idiom({**STEM, "qkv": 4})
class BiasOfHeadsAsParameter(BiasedHeads):
    def __init__(self) -> None:
        super().__init__(torch.randn(1, 4, 64, 64))

    def bias(self) -> Tensor:
        return self.table


@idiom(STEM)
class BiasOfHeadsByNumber(BiasedHeads):
    """Four rows of one table, by number: no head can go."""

    def __init__(self) -> None:
        super().__init__(torch.randn(9, 64 * 64))

    def bias(self) -> Tensor:
        return self.table[2:6].view(4, 64, 64)


@idiom({"mlp.0": 12})
class HeadsOfWhatWasRead(Net):
    """The usual vision transformer: its output takes the size of its input, so heads cannot go."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.scale = 2, 0.5
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).flatten(2).transpose(1, 2)
        n, t, c = y.shape
        qkv = self.qkv(self.norm(y)).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        y = y + self.out((weights @ v).transpose(1, 2).reshape(n, t, c))
        return self.head((y + self.mlp(y)).mean(1))  # type: ignore[no-any-return]


@idiom({"layer.linear1": 12})
class TorchAttention(Net):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.stem(x).flatten(2).transpose(1, 2)).mean(1))  # type: ignore[no-any-return]


# -- recurrent --------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    def __init__(self, layer: Callable[..., nn.RNNBase], *, hidden: int = 4, **options: object) -> None:
        """Of 4 states: those of the layer's ``hidden`` units or, if there are more, of its projection."""
        super().__init__()
        directions = 2 if options.get("bidirectional") else 1
        self.embed, self.layer = nn.Linear(5, 6), layer(6, hidden, 2, batch_first=True, **options)
        self.head = nn.Linear(4 * directions, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(F.relu(self.embed(x)))[0][:, -1])  # type: ignore[no-any-return]


for _name, _layer in {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}.items():
    IDIOMS[_name] = Idiom(partial(Recurrent, _layer), {"embed": 6, "layer.weight_hh_l0": 4}, (2, 7, 5))
IDIOMS["ProjectedLSTM"] = Idiom(
    lambda: Recurrent(nn.LSTM, hidden=7, proj_size=4),
    {"embed": 6, "layer.weight_hh_l0": 4, "layer.weight_hr_l0": 7},
    (2, 7, 5),
)
IDIOMS["BidirectionalProjectedLSTM"] = Idiom(
    lambda: Recurrent(nn.LSTM, hidden=7, proj_size=4, bidirectional=True, bias=False),
    {"embed": 6, "layer.weight_hh_l0": 4, "layer.weight_hr_l0": 7},
    (2, 7, 5),
)
IDIOMS["BidirectionalLSTM"] = Idiom(
    lambda: Recurrent(nn.LSTM, bidirectional=True, bias=False), {"embed": 6, "layer.weight_hh_l0": 4}, (2, 7, 5)
)


# -- a bit of everything ------------------------------------------------------------------------------


@idiom({**STEM, "a": 6, "c": 6})
class Elementwise(Net):
    """Values at removed channels that are not zero never reach a kept one."""

    def __init__(self) -> None:
        super().__init__(head=6)
        self.a, self.b, self.c = conv(8, 6), conv(6, 6), conv(6, 6)

    def body(self, x: Tensor) -> Tensor:
        y = self.a(x)
        y = torch.where(y > 0, torch.exp(-y.square()), torch.cos(y)) + 1
        y = torch.clamp(y, 0.5, 2).pow(2).float().contiguous()
        z = F.softplus(self.b(y)) * (2**y) - y.abs().sqrt()
        return self.c(z.masked_fill(z < 0, 0.25))  # type: ignore[no-any-return]


@idiom({**STEM, "c": 4})
class Repeats(Net):
    def __init__(self) -> None:
        super().__init__(head=4)
        self.a, self.b, self.c = conv(8, 3), conv(6, 6), conv(6, 4)

    def body(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.c(y.repeat(1, 2, 1, 1) + torch.stack([y, y], 2).flatten(1, 2) + y.repeat_interleave(2, 1))  # type: ignore[no-any-return]


@idiom({"stem.0": 8, "a": 6, "c": 5})
class SumOfChannels(Net):
    """Zeros may be summed up; what follows a sigmoid may not."""

    def __init__(self) -> None:
        super().__init__(head=5)
        self.a, self.b, self.c = conv(8, 6), conv(8, 6), conv(2, 5)

    def body(self, x: Tensor) -> Tensor:
        total = F.relu(self.a(x)).sum(1, keepdim=True)
        other = torch.sigmoid(self.b(x)).sum(1, keepdim=True)
        return self.c(torch.cat([total, other], 1))  # type: ignore[no-any-return]
