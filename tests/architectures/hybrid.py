"""Between transformers and convolution: windows, unfolded patches, gates by halves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .attention import Block, Mlp


class WindowAttention(nn.Module):
    """Self-attention inside windows, with a learnt bias looked up by relative position."""

    def __init__(self, dim, window, heads):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.02)
        coords = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        relative = (coords[:, :, None] - coords[:, None, :]).permute(1, 2, 0) + window - 1
        self.register_buffer("relative_position_index", relative[..., 0] * (2 * window - 1) + relative[..., 1])
        self.qkv, self.proj = nn.Linear(dim, dim * 3), nn.Linear(dim, dim)

    def forward(self, x):
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = (q * self.scale) @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)].view(n, n, -1)
        attn = attn + bias.permute(2, 0, 1).contiguous().unsqueeze(0)
        x = (F.softmax(attn, dim=-1) @ v).transpose(1, 2).reshape(b, n, c)
        return self.proj(x)


class SwinBlock(nn.Module):
    def __init__(self, dim, heads, window, shift):
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1, self.attn = nn.LayerNorm(dim), WindowAttention(dim, window, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim, 2 * dim)

    def forward(self, x):
        b, h, w, c = x.shape
        p = self.window
        y = self.norm1(x)
        if self.shift:
            y = torch.roll(y, shifts=(-self.shift, -self.shift), dims=(1, 2))
        y = y.view(b, h // p, p, w // p, p, c).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, p * p, c)
        y = self.attn(y)
        y = y.view(b, h // p, w // p, p, p, c).permute(0, 1, 3, 2, 4, 5).contiguous().view(b, h, w, c)
        if self.shift:
            y = torch.roll(y, shifts=(self.shift, self.shift), dims=(1, 2))
        x = x + y
        return x + self.mlp(self.norm2(x))


class Swin(nn.Module):
    """Liu et al. 2021, "Swin transformer", figure 3; two stages, shifted windows without masks."""

    def __init__(self, dim=64, window=4, classes=10):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, kernel_size=4, stride=4)
        self.stage1 = nn.Sequential(SwinBlock(dim, 4, window, 0), SwinBlock(dim, 4, window, window // 2))
        self.merge_norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.stage2 = nn.Sequential(SwinBlock(2 * dim, 4, window, 0), SwinBlock(2 * dim, 4, window, window // 2))
        self.norm = nn.LayerNorm(2 * dim)
        self.head = nn.Linear(2 * dim, classes)

    def forward(self, x):
        x = self.stage1(self.patch_embed(x).permute(0, 2, 3, 1))
        x0, x1 = x[:, 0::2, 0::2, :], x[:, 1::2, 0::2, :]
        x2, x3 = x[:, 0::2, 1::2, :], x[:, 1::2, 1::2, :]
        x = self.reduction(self.merge_norm(torch.cat([x0, x1, x2, x3], -1)))
        x = self.norm(self.stage2(x))
        x = F.adaptive_avg_pool1d(x.flatten(1, 2).transpose(1, 2), 1)
        return self.head(torch.flatten(x, 1))


class MobileViTBlock(nn.Module):
    """Convolve, unfold into patches, attend between patches, fold, convolve with the input beside it."""

    def __init__(self, c, dim, depth, patch=2):
        super().__init__()
        self.patch = patch
        self.conv1 = nn.Sequential(nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.SiLU())
        self.conv2 = nn.Conv2d(c, dim, 1, bias=False)
        self.transformer = nn.Sequential(*[Block(dim, 4) for _ in range(depth)], nn.LayerNorm(dim))
        self.conv3 = nn.Sequential(nn.Conv2d(dim, c, 1, bias=False), nn.BatchNorm2d(c), nn.SiLU())
        self.conv4 = nn.Sequential(nn.Conv2d(2 * c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.SiLU())

    def forward(self, x):
        y = x.clone()
        x = self.conv2(self.conv1(x))
        b, d, h, w = x.shape
        p = self.patch
        x = x.reshape(b * d * (h // p), p, w // p, p).transpose(1, 2)
        x = x.reshape(b, d, (h // p) * (w // p), p * p).permute(0, 3, 2, 1).reshape(b * p * p, -1, d)
        x = self.transformer(x)
        x = x.view(b, p * p, -1, d).permute(0, 3, 2, 1)
        x = x.reshape(b * d * (h // p), w // p, p, p).transpose(1, 2).reshape(b, d, h, w)
        return self.conv4(torch.cat((self.conv3(x), y), 1))


class MobileViT(nn.Module):
    """Mehta and Rastegari 2022, "MobileViT", figure 1b; two transformer stages."""

    def __init__(self, classes=10):
        super().__init__()

        def mv2(i, o, s):
            mid = 2 * i
            return nn.Sequential(
                *(nn.Conv2d(i, mid, 1, bias=False), nn.BatchNorm2d(mid), nn.SiLU()),
                *(nn.Conv2d(mid, mid, 3, s, 1, groups=mid, bias=False), nn.BatchNorm2d(mid), nn.SiLU()),
                *(nn.Conv2d(mid, o, 1, bias=False), nn.BatchNorm2d(o)),
            )

        self.conv1 = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.SiLU())
        self.body = nn.Sequential(
            mv2(16, 24, 2), mv2(24, 48, 2), MobileViTBlock(48, 64, 2), mv2(48, 64, 2), MobileViTBlock(64, 80, 1)
        )
        self.conv2 = nn.Sequential(nn.Conv2d(64, 160, 1, bias=False), nn.BatchNorm2d(160), nn.SiLU())
        self.fc = nn.Linear(160, classes, bias=False)

    def forward(self, x):
        x = self.conv2(self.body(self.conv1(x)))
        return self.fc(F.avg_pool2d(x, x.shape[-1]).view(-1, x.shape[1]))


class NAFBlock(nn.Module):
    """Half of the channels gates the other half; layer norm over channels written out."""

    def __init__(self, c):
        super().__init__()
        self.norm_w, self.norm_b = nn.Parameter(torch.rand(c) + 0.5), nn.Parameter(torch.rand(c) - 0.5)
        self.conv1, self.conv2 = nn.Conv2d(c, 2 * c, 1), nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1))
        self.conv3 = nn.Conv2d(c, c, 1)
        self.conv4, self.conv5 = nn.Conv2d(c, 2 * c, 1), nn.Conv2d(c, c, 1)
        self.beta, self.gamma = nn.Parameter(torch.rand(1, c, 1, 1)), nn.Parameter(torch.rand(1, c, 1, 1))

    def norm(self, x, eps=1e-6):
        mu = x.mean(1, keepdim=True)
        var = (x - mu).pow(2).mean(1, keepdim=True)
        y = (x - mu) / (var + eps).sqrt()
        return self.norm_w.view(1, -1, 1, 1) * y + self.norm_b.view(1, -1, 1, 1)

    def forward(self, inp):
        x = self.conv2(self.conv1(self.norm(inp)))
        x1, x2 = x.chunk(2, dim=1)
        x = x1 * x2
        x = self.conv3(x * self.sca(x))
        y = inp + x * self.beta
        x1, x2 = self.conv4(self.norm(y)).chunk(2, dim=1)
        return y + self.conv5(x1 * x2) * self.gamma


class NAFNet(nn.Module):
    """Chen et al. 2022, "Simple baselines for image restoration", figure 3c, as a U of two levels."""

    def __init__(self, c=24):
        super().__init__()
        self.intro, self.ending = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)
        self.encoders = nn.ModuleList([NAFBlock(c), NAFBlock(2 * c)])
        self.downs = nn.ModuleList([nn.Conv2d(c, 2 * c, 2, 2), nn.Conv2d(2 * c, 4 * c, 2, 2)])
        self.middle = NAFBlock(4 * c)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(k, 2 * k, 1, bias=False), nn.PixelShuffle(2)) for k in (4 * c, 2 * c)
        )
        self.decoders = nn.ModuleList([NAFBlock(2 * c), NAFBlock(c)])

    def forward(self, inp):
        x = self.intro(inp)
        encs = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            encs.append(x)
            x = down(x)
        x = self.middle(x)
        for decoder, up, enc_skip in zip(self.decoders, self.ups, encs[::-1], strict=True):
            x = up(x)
            x = x + enc_skip
            x = decoder(x)
        return self.ending(x) + inp
