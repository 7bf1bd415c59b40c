"""Residual networks whose blocks branch or gate: RepVGG, Res2Net, RegNet, SE, CBAM, SK, group norm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class RepVGGBlock(nn.Module):
    """3x3 + 1x1 + identity, each with its own batch norm, as trained (figure 2b)."""

    def __init__(self, c_in, c_out, stride=1):
        super().__init__()
        self.rbr_identity = nn.BatchNorm2d(c_in) if c_in == c_out and stride == 1 else None
        self.rbr_dense = nn.Sequential()
        self.rbr_dense.add_module("conv", nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False))
        self.rbr_dense.add_module("bn", nn.BatchNorm2d(c_out))
        self.rbr_1x1 = nn.Sequential()
        self.rbr_1x1.add_module("conv", nn.Conv2d(c_in, c_out, 1, stride, 0, bias=False))
        self.rbr_1x1.add_module("bn", nn.BatchNorm2d(c_out))
        self.nonlinearity = nn.ReLU()

    def forward(self, inputs):
        id_out = 0 if self.rbr_identity is None else self.rbr_identity(inputs)
        return self.nonlinearity(self.rbr_dense(inputs) + self.rbr_1x1(inputs) + id_out)


class RepVGG(nn.Module):
    """Ding et al. 2021, "RepVGG: making VGG-style ConvNets great again", in its multi-branch training form."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.stage0 = RepVGGBlock(3, 16, stride=2)
        c, stages = 16, []
        for width, n in ((16, 2), (32, 3), (64, 4), (160, 1)):
            stages += [RepVGGBlock(c if i == 0 else width, width, 2 if i == 0 else 1) for i in range(n)]
            c = width
        self.stages = nn.Sequential(*stages)
        self.gap = nn.AdaptiveAvgPool2d(output_size=1)
        self.linear = nn.Linear(c, num_classes)

    def forward(self, x):
        out = self.gap(self.stages(self.stage0(x)))
        out = out.view(out.size(0), -1)
        return self.linear(out)


class Bottle2neck(nn.Module):
    def __init__(self, inplanes, planes, stride=1, scale=4):
        super().__init__()
        width = planes // 2
        self.conv1 = nn.Conv2d(inplanes, width * scale, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width * scale)
        self.first = stride != 1 or inplanes != planes * 4
        self.convs = nn.ModuleList([nn.Conv2d(width, width, 3, stride, 1, bias=False) for _ in range(scale - 1)])
        self.bns = nn.ModuleList([nn.BatchNorm2d(width) for _ in range(scale - 1)])
        self.pool = nn.AvgPool2d(3, stride, 1) if self.first else nn.Identity()
        self.conv3 = nn.Conv2d(width * scale, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if self.first:
            self.downsample = nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False),
                nn.Conv2d(inplanes, planes * 4, 1, bias=False),
                nn.BatchNorm2d(planes * 4),
            )
        self.width = width

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        spx = torch.split(out, self.width, 1)
        pieces = []
        for i, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            sp = spx[i] if i == 0 or self.first else sp + spx[i]  # noqa: F821
            sp = self.relu(bn(conv(sp)))
            pieces.append(sp)
        pieces.append(self.pool(spx[-1]))
        out = self.bn3(self.conv3(torch.cat(pieces, 1)))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Res2Net(nn.Module):
    """Gao et al. 2019, "Res2Net: a new multi-scale backbone architecture", figure 2b; scale 4, blocks 2-2-2."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, 1, 1, bias=False),
        )
        self.bn1 = nn.BatchNorm2d(32)
        self.layer1 = nn.Sequential(Bottle2neck(32, 16), Bottle2neck(64, 16))
        self.layer2 = nn.Sequential(Bottle2neck(64, 32, 2), Bottle2neck(128, 32))
        self.layer3 = nn.Sequential(Bottle2neck(128, 64, 2), Bottle2neck(256, 64))
        self.fc = nn.Linear(256, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer3(self.layer2(self.layer1(x)))
        x = F.adaptive_avg_pool2d(x, 1)
        x = x.view(x.size(0), -1)
        return self.fc(x)


class RegNetBlock(nn.Module):
    def __init__(self, c_in, c_out, stride, group_width, se_ratio=0.25):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(True))
        self.b = nn.Sequential(
            nn.Conv2d(c_out, c_out, 3, stride, 1, groups=c_out // group_width, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(True),
        )
        squeezed = round(c_in * se_ratio)
        self.se = nn.Sequential(nn.Conv2d(c_out, squeezed, 1), nn.ReLU(), nn.Conv2d(squeezed, c_out, 1), nn.Sigmoid())
        self.c = nn.Sequential(nn.Conv2d(c_out, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
        self.proj = None
        if stride > 1 or c_in != c_out:
            self.proj = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = self.b(self.a(x))
        y = y * self.se(y.mean((2, 3), keepdim=True))
        y = self.c(y)
        x = x if self.proj is None else self.proj(x)
        return F.relu(x + y, inplace=True)


class RegNetY(nn.Module):
    """Radosavovic et al. 2020, "Designing network design spaces": RegNetY-200MF's widths and groups of 8 channels."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(True))
        c, blocks = 32, []
        for width, depth in ((24, 1), (56, 1), (152, 3), (208, 2)):
            for i in range(depth):
                blocks.append(RegNetBlock(c, width, 2 if i == 0 else 1, 8))
                c = width
        self.trunk = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, num_classes))

    def forward(self, x):
        return self.head(self.trunk(self.stem(x)))


class GroupNormResNet(nn.Module):
    """Wu and He 2018, "Group normalization": basic blocks 2-2-2, eight groups everywhere."""

    class Block(nn.Module):
        def __init__(self, c_in, c_out, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
            self.gn1 = nn.GroupNorm(8, c_out)
            self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
            self.gn2 = nn.GroupNorm(8, c_out)
            self.down = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.GroupNorm(8, c_out))
            self.keep = c_in == c_out and stride == 1
            if self.keep:
                self.down = nn.Identity()

        def forward(self, x):
            y = F.relu(self.gn1(self.conv1(x)))
            y = self.gn2(self.conv2(y))
            return F.relu(y + self.down(x))

    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.GroupNorm(8, 32), nn.ReLU())
        rows = ((32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1))
        self.blocks = nn.Sequential(*(self.Block(*row) for row in rows))
        self.fc = nn.Linear(128, num_classes)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean([2, 3]))
