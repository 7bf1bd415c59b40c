"""Networks for phones: depthwise convolutions, shuffles, cheap operations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class MobileNetV1(nn.Module):
    """Howard et al. 2017, "MobileNets", table 1; a quarter of the widths."""

    def __init__(self, num_classes=10):
        super().__init__()

        def conv_bn(inp, oup, stride):
            return nn.Sequential(
                nn.Conv2d(inp, oup, 3, stride, 1, bias=False), nn.BatchNorm2d(oup), nn.ReLU(inplace=True)
            )

        def conv_dw(inp, oup, stride):
            return nn.Sequential(
                nn.Conv2d(inp, inp, 3, stride, 1, groups=inp, bias=False),
                nn.BatchNorm2d(inp),
                nn.ReLU(inplace=True),
                nn.Conv2d(inp, oup, 1, 1, 0, bias=False),
                nn.BatchNorm2d(oup),
                nn.ReLU(inplace=True),
            )

        self.model = nn.Sequential(
            conv_bn(3, 8, 2),
            conv_dw(8, 16, 1),
            conv_dw(16, 32, 2),
            conv_dw(32, 32, 1),
            conv_dw(32, 64, 2),
            conv_dw(64, 64, 1),
            conv_dw(64, 128, 2),
            *(conv_dw(128, 128, 1) for _ in range(5)),
            conv_dw(128, 256, 2),
            conv_dw(256, 256, 1),
            nn.AvgPool2d(2),
        )
        self.fc = nn.Linear(256, num_classes)

    def forward(self, x):
        x = self.model(x)
        x = x.view(-1, 256)
        return self.fc(x)


def channel_shuffle(x, groups):
    batch, channels, height, width = x.size()
    x = x.view(batch, groups, channels // groups, height, width)
    x = torch.transpose(x, 1, 2).contiguous()
    return x.view(batch, -1, height, width)


class ShuffleV1Unit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; strided units concatenate a pooled shortcut."""

    def __init__(self, inp, oup, stride, groups, first):
        super().__init__()
        mid = oup // 4
        self.stride, self.groups = stride, groups
        out = oup - inp if stride == 2 else oup
        self.gconv1 = nn.Conv2d(inp, mid, 1, groups=1 if first else groups, bias=False)
        self.bn1 = nn.BatchNorm2d(mid)
        self.dwconv = nn.Conv2d(mid, mid, 3, stride, 1, groups=mid, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.gconv3 = nn.Conv2d(mid, out, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(out)

    def forward(self, x):
        out = F.relu(self.bn1(self.gconv1(x)))
        out = channel_shuffle(out, self.groups)
        out = self.bn2(self.dwconv(out))
        out = self.bn3(self.gconv3(out))
        if self.stride == 2:
            return F.relu(torch.cat((out, F.avg_pool2d(x, 3, stride=2, padding=1)), 1))
        return F.relu(out + x)


class ShuffleNetV1(nn.Module):
    """Zhang et al. 2018, "ShuffleNet", table 1, three groups; half the widths."""

    def __init__(self, groups=3, num_classes=10):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        units, inp = [], 24
        for stage, (oup, repeat) in enumerate(((120, 4), (240, 8), (480, 4))):
            for i in range(repeat):
                units.append(ShuffleV1Unit(inp, oup, 2 if i == 0 else 1, groups, stage == 0 and i == 0))
                inp = oup
        self.features = nn.Sequential(*units)
        self.classifier = nn.Linear(inp, num_classes, bias=False)

    def forward(self, x):
        x = self.features(self.maxpool(self.conv1(x)))
        x = F.avg_pool2d(x, x.data.size()[-2:])
        return self.classifier(x.contiguous().view(-1, x.size(1)))


class ShuffleV2Unit(nn.Module):
    def __init__(self, inp, oup, stride):
        super().__init__()
        self.stride = stride
        half = oup // 2
        if stride > 1:
            self.branch1 = nn.Sequential(
                nn.Conv2d(inp, inp, 3, stride, 1, groups=inp, bias=False),
                nn.BatchNorm2d(inp),
                nn.Conv2d(inp, half, 1, bias=False),
                nn.BatchNorm2d(half),
                nn.ReLU(inplace=True),
            )
        first = inp if stride > 1 else half
        self.branch2 = nn.Sequential(
            nn.Conv2d(first, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, stride, 1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        if self.stride == 1:
            x1, x2 = x.chunk(2, dim=1)
            out = torch.cat((x1, self.branch2(x2)), dim=1)
        else:
            out = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
        return channel_shuffle(out, 2)


class ShuffleNetV2(nn.Module):
    """Ma et al. 2018, "ShuffleNet V2", table 5, width 0.5."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        inp = 24
        for name, oup, repeat in (("stage2", 48, 4), ("stage3", 96, 8), ("stage4", 192, 4)):
            units = [ShuffleV2Unit(inp if i == 0 else oup, oup, 2 if i == 0 else 1) for i in range(repeat)]
            setattr(self, name, nn.Sequential(*units))
            inp = oup
        self.conv5 = nn.Sequential(nn.Conv2d(192, 512, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU(inplace=True))
        self.fc = nn.Linear(512, num_classes)

    def forward(self, x):
        x = self.maxpool(self.conv1(x))
        x = self.stage4(self.stage3(self.stage2(x)))
        x = self.conv5(x)
        return self.fc(x.mean([2, 3]))


class GhostModule(nn.Module):
    """Half of the channels by a convolution, half from those by a cheap depthwise one (figure 1b)."""

    def __init__(self, inp, oup, relu=True):
        super().__init__()
        self.oup = oup
        init = -(-oup // 2)
        self.primary_conv = nn.Sequential(
            nn.Conv2d(inp, init, 1, bias=False),
            nn.BatchNorm2d(init),
            nn.ReLU(inplace=True) if relu else nn.Sequential(),
        )
        self.cheap_operation = nn.Sequential(
            nn.Conv2d(init, init, 3, 1, 1, groups=init, bias=False),
            nn.BatchNorm2d(init),
            nn.ReLU(inplace=True) if relu else nn.Sequential(),
        )

    def forward(self, x):
        x1 = self.primary_conv(x)
        x2 = self.cheap_operation(x1)
        out = torch.cat([x1, x2], dim=1)
        return out[:, : self.oup, :, :]


class GhostBottleneck(nn.Module):
    def __init__(self, inp, mid, oup, stride):
        super().__init__()
        self.ghost1 = GhostModule(inp, mid)
        self.dw = nn.Identity()
        if stride == 2:
            self.dw = nn.Sequential(nn.Conv2d(mid, mid, 3, 2, 1, groups=mid, bias=False), nn.BatchNorm2d(mid))
        self.ghost2 = GhostModule(mid, oup, relu=False)
        self.shortcut = nn.Sequential()
        if stride == 2 or inp != oup:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inp, inp, 3, stride, 1, groups=inp, bias=False),
                nn.BatchNorm2d(inp),
                nn.Conv2d(inp, oup, 1, bias=False),
                nn.BatchNorm2d(oup),
            )

    def forward(self, x):
        return self.ghost2(self.dw(self.ghost1(x))) + self.shortcut(x)


class GhostNet(nn.Module):
    """Han et al. 2020, "GhostNet: more features from cheap operations"; eight bottlenecks, one of odd width."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        rows = (
            (16, 16, 16, 1),
            (16, 48, 24, 2),
            (24, 72, 24, 1),
            (24, 72, 40, 2),
            (40, 121, 40, 1),
            (40, 240, 80, 2),
            (80, 200, 80, 1),
            (80, 184, 112, 1),
        )
        self.blocks = nn.Sequential(*[GhostBottleneck(*row) for row in rows])
        self.conv_head = nn.Conv2d(112, 480, 1)
        self.classifier = nn.Linear(480, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv_stem(x)))
        x = self.blocks(x)
        x = F.relu_(self.conv_head(x.mean((2, 3), keepdim=True)))
        return self.classifier(x.view(x.size(0), -1))
