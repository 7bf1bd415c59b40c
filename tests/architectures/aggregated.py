"""Paths that are cut, summed and collected; a keyword spotter; super-resolution without batch norm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class DualPathBlock(nn.Module):
    """The first ``planes`` channels are added to, the rest grows (figure 2d)."""

    def __init__(self, last, inner, planes, dense, stride, first):
        super().__init__()
        self.planes = planes
        self.conv1 = nn.Conv2d(last, inner, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, kernel_size=3, stride=stride, padding=1, groups=8, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, planes + dense, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes + dense)
        self.shortcut = nn.Sequential()
        if first:
            self.shortcut = nn.Sequential(
                nn.Conv2d(last, planes + dense, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(planes + dense),
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        x = self.shortcut(x)
        d = self.planes
        out = torch.cat([x[:, :d, :, :] + out[:, :d, :, :], x[:, d:, :, :], out[:, d:, :, :]], 1)
        return F.relu(out)


class DPN(nn.Module):
    """Chen et al. 2017, "Dual path networks"; three stages of two blocks."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32)
        layers, last = [], 32
        for planes, dense, stride in ((64, 8, 1), (96, 16, 2), (128, 24, 2)):
            for i in range(2):
                layers.append(DualPathBlock(last, planes // 2, planes, dense, stride if i == 0 else 1, i == 0))
                last = planes + (i + 2) * dense
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(last, classes)

    def forward(self, x):
        out = self.layers(F.relu(self.bn1(self.conv1(x))))
        out = F.avg_pool2d(out, 8)
        return self.linear(out.view(out.size(0), -1))


class OSA(nn.Module):
    """One-shot aggregation: every output of a chain, concatenated once, then gated by one linear layer."""

    def __init__(self, c_in, stage, c_out, n=4):
        super().__init__()
        self.layers = nn.ModuleList()
        for i in range(n):
            self.layers.append(
                nn.Sequential(
                    nn.Conv2d(c_in if i == 0 else stage, stage, 3, padding=1, bias=False),
                    nn.BatchNorm2d(stage),
                    nn.ReLU(inplace=True),
                )
            )
        self.concat = nn.Sequential(
            nn.Conv2d(c_in + n * stage, c_out, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
        )
        self.ese = nn.Conv2d(c_out, c_out, kernel_size=1)
        self.identity = c_in == c_out

    def forward(self, x):
        identity_feat = x
        output = [x]
        for layer in self.layers:
            x = layer(x)
            output.append(x)
        xt = self.concat(torch.cat(output, dim=1))
        xt = xt * (F.relu6(self.ese(F.adaptive_avg_pool2d(xt, 1)) + 3.0) / 6.0)
        return xt + identity_feat if self.identity else xt


class VoVNet(nn.Module):
    """Lee and Park 2020, "CenterMask", figure 3c: VoVNetV2; an eighth of the widths."""

    def __init__(self, classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.stage2 = OSA(16, 16, 32)
        self.stage3 = nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), OSA(32, 20, 64), OSA(64, 20, 64))
        self.stage4 = nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), OSA(64, 24, 96))
        self.fc = nn.Linear(96, classes)

    def forward(self, x):
        for name in ("stem", "stage2", "stage3", "stage4"):
            x = getattr(self, name)(x)
        return self.fc(x.mean(3).mean(2))


class DSCNN(nn.Module):
    """Zhang et al. 2017, "Hello edge: keyword spotting on microcontrollers", DS-CNN on a spectrogram (49, 10)."""

    def __init__(self, c=128, classes=12):
        super().__init__()
        self.pad = nn.ZeroPad2d((1, 1, 4, 5))
        self.conv1 = nn.Conv2d(1, c, (10, 4), (2, 2), bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        for i in range(4):
            self.add_module(f"dw{i}", nn.Conv2d(c, c, 3, padding="same", groups=c, bias=False))
            self.add_module(f"dwbn{i}", nn.BatchNorm2d(c))
            self.add_module(f"pw{i}", nn.Conv2d(c, c, 1, bias=False))
            self.add_module(f"pwbn{i}", nn.BatchNorm2d(c))
        self.pool = nn.AvgPool2d((25, 5))
        self.fc = nn.Linear(c, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(self.pad(x))))
        for i in range(4):
            x = getattr(self, f"dwbn{i}")(getattr(self, f"dw{i}")(x)).relu()
            x = getattr(self, f"pwbn{i}")(getattr(self, f"pw{i}")(x)).relu_()
        x = self.pool(x).squeeze()
        return self.fc(x.reshape(-1, self.fc.in_features))


class EDSR(nn.Module):
    """Lim et al. 2017, "Enhanced deep residual networks for super-resolution": residuals scaled, colours shifted."""

    class MeanShift(nn.Conv2d):
        """Adds a colour to the image by a fixed 1x1 convolution."""

        def __init__(self, sign):
            super().__init__(3, 3, kernel_size=1)
            self.weight.data = torch.eye(3).view(3, 3, 1, 1)
            self.bias.data = sign * torch.tensor([0.4488, 0.4371, 0.4040])
            for p in self.parameters():
                p.requires_grad = False

    class ResBlock(nn.Module):
        def __init__(self, c, res_scale=0.1):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.ReLU(True), nn.Conv2d(c, c, 3, padding=1))
            self.res_scale = res_scale

        def forward(self, x):
            res = self.body(x).mul(self.res_scale)
            res += x
            return res

    def __init__(self, c=48, blocks=4):
        super().__init__()
        self.sub_mean, self.add_mean = self.MeanShift(-1), self.MeanShift(1)
        self.head = nn.Sequential(nn.Conv2d(3, c, 3, padding=1))
        self.body = nn.Sequential(*[self.ResBlock(c) for _ in range(blocks)], nn.Conv2d(c, c, 3, padding=1))
        self.tail = nn.Sequential(nn.Conv2d(c, 4 * c, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(c, 3, 3, padding=1))

    def forward(self, x):
        x = self.head(self.sub_mean(x))
        res = self.body(x)
        res += x
        return self.add_mean(self.tail(res))
