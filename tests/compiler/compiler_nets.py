"""Small networks that between them need every kernel rule and every way a bundle is called."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.models.zoo import build


class Residual(nn.Module):
    """Stem with max pooling, a residual block, global pooling, linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 20, 3, 2, 1, bias=False), nn.BatchNorm2d(20), nn.ReLU(inplace=True))
        self.a, self.b = nn.Conv2d(20, 20, 3, padding=1), nn.Conv2d(20, 20, 3, padding=1)
        self.head = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        x = F.relu(x + self.b(F.relu(self.a(x))))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


class SqueezeExcite(nn.Module):
    """Depthwise convolution with a gate; the output is an image."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depthwise = nn.Conv2d(3, 18, 1), nn.Conv2d(18, 18, 5, 2, 2, groups=18)
        self.squeeze, self.excite = nn.Conv2d(18, 6, 1), nn.Conv2d(6, 18, 1)
        self.project = nn.Conv2d(18, 9, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.depthwise(F.hardswish(self.expand(x))))
        gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.project(x * gate)  # type: ignore[no-any-return]


class Pyramid(nn.Module):
    """Average pooling, upsampling and concatenation at a place that is no block; two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.top, self.low, self.join = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 11, 1), nn.Conv2d(16, 7, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        top = F.silu(self.top(x))
        low = torch.tanh(self.low(F.avg_pool2d(top, 2)))
        up = F.interpolate(low, scale_factor=2.0, mode="bilinear")
        return self.join(torch.cat([top, up], 1)), low


class TwoInputs(nn.Module):
    """An image that is flattened with its pixels, and a row of features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 10, 3), nn.BatchNorm2d(2)
        self.fc, self.side = nn.Linear(160, 9), nn.Linear(4, 9)

    def forward(self, image: Tensor, row: Tensor) -> Tensor:
        return torch.sigmoid(self.fc(self.conv(self.norm(image)).flatten(1)) + self.side(row))


class Decoder(nn.Module):
    """Transposed convolutions, one with groups, a skip, a map of attention, and a softmax over classes."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.norm = nn.Conv2d(3, 18, 3, 2, 1), nn.BatchNorm2d(12)
        self.up, self.fine = nn.ConvTranspose2d(18, 12, 4, 2, 1), nn.ConvTranspose2d(12, 12, 3, 1, 1, groups=3)
        self.side, self.look, self.classes = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 1, 3, padding=1), nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.up(F.relu(self.down(x)))) + self.side(x))
        y = self.fine(y) * torch.sigmoid(self.look(y))
        return self.classes(y).softmax(1)  # type: ignore[no-any-return]


class Views(nn.Module):
    """Shuffled channels, tokens with positions, parts of tensors: everything that is a walk through memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.wide = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 24, 3, padding=1, groups=12)
        self.place, self.scale = nn.Parameter(torch.randn(1, 20, 12)), nn.Parameter(torch.randn(12, 1, 1))
        self.head = nn.Linear(12, 7)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = F.relu(self.conv(x))
        n, c, h, w = y.shape
        mixed = y.view(n, 3, c // 3, h, w).transpose(1, 2).reshape(n, c, h, w)
        mixed = self.wide(mixed)[:, 3:15] - y
        tokens = y.flatten(2).transpose(1, 2) + self.place
        tokens = tokens / (1 + tokens[:, :1] * tokens[:, :1]).clamp(min=1)
        row = self.head(tokens[:, 3] * tokens.flip(1)[:, 4])
        weight = (1 - tokens).softmax(1)
        return row, tokens * weight, torch.maximum(mixed * self.scale, y)


class Tokens(nn.Module):
    """Patches, layer norm, attention by heads, and layers over more than one row."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 20, 2, 2), nn.Parameter(torch.randn(1, 1, 20))
        self.before, self.after = nn.LayerNorm(20), nn.LayerNorm(20, elementwise_affine=False)
        self.qkv, self.out, self.head = nn.Linear(20, 60), nn.Linear(20, 20), nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        n, t, c = x.shape
        q, k, v = self.qkv(self.before(x)).reshape(n, t, 3, 4, c // 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v) + (q @ k.transpose(-2, -1)).softmax(-1) @ v
        x = x + F.gelu(self.out(y.transpose(1, 2).reshape(n, t, c)))
        return self.head(self.after(x).mean(1))  # type: ignore[no-any-return]


class Line(nn.Module):
    """Layers along a line, and recurrent ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(5, 18, 3, padding=2, dilation=2), nn.BatchNorm1d(18)
        self.wide, self.up = nn.Conv1d(18, 18, 5, padding="same", groups=18), nn.ConvTranspose1d(18, 7, 2, 2)
        self.lstm, self.gru = nn.LSTM(7, 9, 2, batch_first=True, bidirectional=True), nn.GRU(18, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = F.relu(self.norm(self.conv(x)))
        y = F.max_pool1d(F.silu(self.wide(y)) + y, 2)
        y = F.pad(self.up(y), (2, 1))
        steps, _ = self.lstm(y.transpose(1, 2))
        _, last = self.gru(steps.transpose(0, 1))
        return F.adaptive_avg_pool1d(y, 1).squeeze(-1), last


class Plumbing(nn.Module):
    """Parts, shuffles, paddings, norms over groups and extremes over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.part = nn.Conv2d(3, 20, 3, padding=1), nn.Conv2d(10, 10, 3, padding=1)
        self.join, self.norm, self.slopes = nn.Conv2d(30, 16, 1), nn.GroupNorm(4, 16), nn.PReLU(16)
        self.wide, self.one, self.place = nn.Conv2d(16, 24, 1), nn.PReLU(), nn.Conv2d(2, 1, 3, padding=1)
        self.instance = nn.InstanceNorm2d(6, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        y = F.mish(self.stem(F.pad(x, (1, 1, 1, 1), mode="reflect")))[:, :, 1:-1, 1:-1]
        a, b = y.chunk(2, 1)
        y = torch.cat([a, b, self.part(b)], 1)
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        y = self.slopes(self.norm(self.join(y)))
        place = torch.cat([y.mean(1, keepdim=True), y.max(1, keepdim=True)[0]], 1)
        y = self.one(y * torch.sigmoid(self.place(place))) - torch.roll(y, (1, -2), (2, 3))
        y = y + torch.einsum("nchw,nkhw->nck", y, y).softmax(2).mean(2)[:, :, None, None]
        y = y + torch.einsum("nchw,vw->nchv", y, y[0, 0].relu()[:6])
        y = y * F.softplus(F.adaptive_max_pool2d(y, 1))
        return self.instance(F.pixel_shuffle(self.wide(y), 2)).abs().pow(2)  # type: ignore[no-any-return]


class Geometry(nn.Module):
    """Volumes, maxima put back where they stood, sampling at computed places, rows in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv3d(2, 20, 3, (1, 2, 2), 1), nn.BatchNorm3d(20)
        self.deep, self.point = nn.Conv3d(20, 20, (3, 1, 1), padding="same", groups=4), nn.Conv3d(40, 12, 1)
        self.image, self.theta, self.order = nn.Conv2d(3, 12, 3, padding=1), nn.Linear(12, 6), torch.tensor([2, -1, 0])

    def forward(self, image: Tensor, clip: Tensor) -> tuple[Tensor, Tensor]:
        v = F.relu(self.norm(self.first(clip)))
        v = F.max_pool3d(torch.cat([v, F.silu(v + self.deep(v))], 1), (2, 1, 1))
        v = self.point(v)
        y = self.image(image)
        small, places = F.max_pool2d(y, 2, return_indices=True)
        y = F.max_unpool2d(torch.sigmoid(small), places, 2) + y  # type: ignore[arg-type]
        theta = self.theta(F.lp_pool2d(v.mean(2), 2, 3).flatten(1) + v.mean((2, 3, 4))).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(y.shape), align_corners=False)
        return F.grid_sample(y, grid, padding_mode="border", align_corners=False)[:, :, self.order], v


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "residual": (Residual, ((1, 3, 17, 15),)),
    "squeeze_excite": (SqueezeExcite, ((1, 3, 9, 9),)),
    "pyramid": (Pyramid, ((1, 3, 6, 8),)),
    "two_inputs": (TwoInputs, ((1, 2, 6, 6), (1, 4))),
    "decoder": (Decoder, ((1, 3, 10, 6),)),
    "views": (Views, ((1, 3, 4, 5),)),
    "tokens": (Tokens, ((1, 3, 6, 8),)),
    "line": (Line, ((1, 5, 13),)),
    "plumbing": (Plumbing, ((1, 3, 7, 6),)),
    "geometry": (Geometry, ((1, 3, 6, 8), (1, 2, 4, 5, 6))),
    "resnet20": (lambda: build("resnet20"), ((1, 3, 16, 16),)),
    "mobilenet_v3_small": (lambda: build("mobilenet_v3_small"), ((1, 3, 64, 64),)),
}


def net(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network with seeded weights and statistics in evaluation mode, and seeded inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        factory, shapes = NETS[name]
        module = factory().eval()
        if name not in ("resnet20", "mobilenet_v3_small"):
            for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
                nn.init.normal_(norm.running_mean)  # type: ignore[arg-type]
                nn.init.uniform_(norm.running_var, 0.5, 2.0)  # type: ignore[arg-type]
        return module, tuple(torch.randn(shape) for shape in shapes)
