"""Networks found by architecture search: MnasNet and EfficientNet."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class MnasBlock(nn.Module):
    """Inverted residual; an identity inside ``layers`` keeps numbering where nothing is expanded."""

    def __init__(self, in_ch, out_ch, kernel_size, stride, expansion):
        super().__init__()
        mid = in_ch * expansion
        self.apply_residual = in_ch == out_ch and stride == 1
        self.layers = nn.Sequential(
            nn.Conv2d(in_ch, mid, 1, bias=False),
            nn.BatchNorm2d(mid, momentum=0.0003),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid, mid, kernel_size, padding=kernel_size // 2, stride=stride, groups=mid, bias=False),
            nn.BatchNorm2d(mid, momentum=0.0003),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid, out_ch, 1, bias=False),
            nn.BatchNorm2d(out_ch, momentum=0.0003),
        )

    def forward(self, input):
        if self.apply_residual:
            return self.layers(input) + input
        return self.layers(input)


class MnasNet(nn.Module):
    """Tan et al. 2019, "MnasNet", figure 7 without squeeze-and-excitation (B1); half the widths, one block less."""

    def __init__(self, num_classes=10):
        super().__init__()

        def stack(in_ch, out_ch, kernel_size, stride, expansion, repeats):
            first = MnasBlock(in_ch, out_ch, kernel_size, stride, expansion)
            rest = [MnasBlock(out_ch, out_ch, kernel_size, 1, expansion) for _ in range(1, repeats)]
            return nn.Sequential(first, *rest)

        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, stride=2, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 16, 3, padding=1, stride=1, groups=16, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 8, 1, padding=0, stride=1, bias=False),
            nn.BatchNorm2d(8),
            stack(8, 16, 3, 2, 3, 3),
            stack(16, 24, 5, 2, 3, 3),
            stack(24, 40, 5, 2, 6, 2),
            stack(40, 48, 3, 1, 6, 2),
            stack(48, 96, 5, 2, 6, 3),
            stack(96, 160, 3, 1, 6, 1),
            nn.Conv2d(160, 640, 1, padding=0, stride=1, bias=False),
            nn.BatchNorm2d(640),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Sequential(nn.Dropout(p=0.2, inplace=True), nn.Linear(640, num_classes))

    def forward(self, x):
        x = self.layers(x)
        x = x.mean([2, 3])
        return self.classifier(x)


def drop_connect(inputs, p, training):
    """Stochastic depth (Huang et al. 2016): nothing in evaluation."""
    if not training:
        return inputs
    keep = 1 - p
    mask = torch.floor(torch.rand([inputs.shape[0], 1, 1, 1], dtype=inputs.dtype, device=inputs.device) + keep)
    return inputs / keep * mask


class Swish(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


class MBConv(nn.Module):
    def __init__(self, c_in, c_out, kernel, stride, expand, drop):
        super().__init__()
        mid = c_in * expand
        self.expand = expand != 1
        if self.expand:
            self._expand_conv = nn.Conv2d(c_in, mid, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(mid, momentum=0.01, eps=1e-3)
        self._depthwise_conv = nn.Conv2d(mid, mid, kernel, stride, bias=False, groups=mid)
        self._bn1 = nn.BatchNorm2d(mid, momentum=0.01, eps=1e-3)
        squeezed = max(1, c_in // 4)
        self._se_reduce = nn.Conv2d(mid, squeezed, 1)
        self._se_expand = nn.Conv2d(squeezed, mid, 1)
        self._project_conv = nn.Conv2d(mid, c_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(c_out, momentum=0.01, eps=1e-3)
        self._swish = Swish()
        self.kernel, self.stride, self.drop = kernel, stride, drop
        self.skip = stride == 1 and c_in == c_out

    def forward(self, inputs):
        x = inputs
        if self.expand:
            x = self._swish(self._bn0(self._expand_conv(x)))
        # "same" padding as TensorFlow counts it: more at the end than at the start when strided
        total = max(self.kernel - self.stride, 0) if x.shape[-1] % self.stride == 0 else self.kernel - 1
        x = F.pad(x, [total // 2, total - total // 2, total // 2, total - total // 2])
        x = self._swish(self._bn1(self._depthwise_conv(x)))
        gate = F.adaptive_avg_pool2d(x, 1)
        gate = self._se_expand(F.silu(self._se_reduce(gate)))
        x = torch.sigmoid(gate) * x
        x = self._bn2(self._project_conv(x))
        if self.skip:
            if self.drop:
                x = drop_connect(x, p=self.drop, training=self.training)
            x = x + inputs
        return x


class EfficientNet(nn.Module):
    """Tan and Le 2019, "EfficientNet", table 1 (B0); half the widths, repeats 1-2-2-2-2-2-1."""

    rows = (
        (1, 8, 1, 1, 3),
        (6, 16, 2, 2, 3),
        (6, 24, 2, 2, 5),
        (6, 40, 2, 2, 3),
        (6, 56, 2, 1, 5),
        (6, 96, 2, 2, 5),
        (6, 160, 1, 1, 3),
    )

    def __init__(self, num_classes=10):
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self._bn0 = nn.BatchNorm2d(16, eps=1e-3)
        self._blocks = nn.ModuleList([])
        c = 16
        for expand, out, repeats, stride, kernel in self.rows:
            for i in range(repeats):
                self._blocks.append(MBConv(c, out, kernel, stride if i == 0 else 1, expand, 0.2))
                c = out
        self._conv_head = nn.Conv2d(c, 640, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(640, eps=1e-3)
        self._avg_pooling = nn.AdaptiveAvgPool2d(1)
        self._dropout = nn.Dropout(0.2)
        self._fc = nn.Linear(640, num_classes)
        self._swish = nn.SiLU(inplace=True)

    def forward(self, x):
        x = self._swish(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = self._swish(self._bn1(self._conv_head(x)))
        x = self._avg_pooling(x)
        x = x.flatten(start_dim=1)
        return self._fc(self._dropout(x))
