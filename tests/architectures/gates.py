"""Channel and spatial attention in convolutional networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class SELayer(nn.Module):
    """Squeeze-and-excitation with linear layers on the pooled vector."""

    def __init__(self, channel, reduction=8):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channel, channel // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channel // reduction, channel, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


class CBAM(nn.Module):
    """Channel gate from mean and max over the map, then spatial gate from mean and max over channels."""

    def __init__(self, channels, reduction=8):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels // reduction, channels, 1, bias=False),
        )
        self.spatial = nn.Conv2d(2, 1, kernel_size=7, padding=3, bias=False)

    def forward(self, x):
        gate = torch.sigmoid(self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1)))
        x = x * gate
        avg_out = torch.mean(x, dim=1, keepdim=True)
        max_out, _ = torch.max(x, dim=1, keepdim=True)
        return x * torch.sigmoid(self.spatial(torch.cat([avg_out, max_out], dim=1)))


class ECA(nn.Module):
    """A gate from a channel's neighbours: a 1D convolution along channels."""

    def __init__(self, channels, k_size=3):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel_size=k_size, padding=(k_size - 1) // 2, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        y = F.adaptive_avg_pool2d(x, 1)
        y = self.conv(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * self.sigmoid(y).expand_as(x)


class CoordinateAttention(nn.Module):
    """Means of rows and of columns, one convolution over both, a gate for each."""

    def __init__(self, channels, reduction=4):
        super().__init__()
        self.pool_h, self.pool_w = nn.AdaptiveAvgPool2d((None, 1)), nn.AdaptiveAvgPool2d((1, None))
        mid = channels // reduction
        self.conv1, self.bn1, self.act = nn.Conv2d(channels, mid, 1), nn.BatchNorm2d(mid), nn.Hardswish()
        self.conv_h, self.conv_w = nn.Conv2d(mid, channels, 1), nn.Conv2d(mid, channels, 1)

    def forward(self, x):
        _n, _c, h, w = x.size()
        x_h = self.pool_h(x)
        x_w = self.pool_w(x).permute(0, 1, 3, 2)
        y = torch.cat([x_h, x_w], dim=2)
        y = self.act(self.bn1(self.conv1(y)))
        x_h, x_w = torch.split(y, [h, w], dim=2)
        x_w = x_w.permute(0, 1, 3, 2)
        return x * self.conv_w(x_w).sigmoid() * self.conv_h(x_h).sigmoid()


class GatedBlock(nn.Module):
    """Basic residual block with a gate before the addition."""

    def __init__(self, gate, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.gate = gate(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        residual = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out = self.gate(out)
        if self.downsample is not None:
            residual = self.downsample(x)
        out += residual
        out = self.relu(out)
        return out


class GatedResNet(nn.Module):
    """Three stages of two gated blocks."""

    def __init__(self, gate, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.layer1 = nn.Sequential(GatedBlock(gate, 32, 32), GatedBlock(gate, 32, 32))
        self.layer2 = nn.Sequential(GatedBlock(gate, 32, 64, 2), GatedBlock(gate, 64, 64))
        self.layer3 = nn.Sequential(GatedBlock(gate, 64, 128, 2), GatedBlock(gate, 128, 128))
        self.avgpool = nn.AvgPool2d(8)
        self.fc = nn.Linear(128, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = self.avgpool(x)
        x = x.view(x.shape[0], -1)
        return self.fc(x)


def se_resnet():
    """Hu et al. 2018, "Squeeze-and-excitation networks", figure 3."""
    return GatedResNet(SELayer)


def cbam_resnet():
    """Woo et al. 2018, "CBAM: convolutional block attention module", figures 1 and 2."""
    return GatedResNet(CBAM)


def eca_resnet():
    """Wang et al. 2020, "ECA-Net: efficient channel attention", figure 2."""
    return GatedResNet(ECA)


def coordinate_resnet():
    """Hou et al. 2021, "Coordinate attention for efficient mobile network design", figure 2c."""
    return GatedResNet(CoordinateAttention)


class SelectiveKernel(nn.Module):
    """Two branches, weighed against each other by a softmax over branches, channel by channel (figure 1)."""

    def __init__(self, channels, branches=2, reduction=4):
        super().__init__()
        self.convs = nn.ModuleList()
        for i in range(branches):
            self.convs.append(
                nn.Sequential(
                    nn.Conv2d(channels, channels, 3, padding=1 + i, dilation=1 + i, groups=8, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(inplace=False),
                )
            )
        self.fc = nn.Linear(channels, channels // reduction)
        self.fcs = nn.ModuleList([nn.Linear(channels // reduction, channels) for _ in range(branches)])

    def forward(self, x):
        feats = torch.stack([conv(x) for conv in self.convs], dim=1)
        squeezed = feats.sum(dim=1).mean(-1).mean(-1)
        z = F.relu(self.fc(squeezed))
        weights = torch.cat([fc(z).unsqueeze(dim=1) for fc in self.fcs], dim=1)
        weights = weights.softmax(dim=1).unsqueeze(-1).unsqueeze(-1)
        return (feats * weights).sum(dim=1)


class SKNet(nn.Module):
    """Li et al. 2019, "Selective kernel networks": bottlenecks with a selective 3x3."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.units = nn.ModuleList()
        for c_in, mid, c_out in ((32, 32, 64), (64, 32, 64), (64, 64, 128), (128, 64, 128)):
            unit = nn.ModuleDict(
                {
                    "reduce": nn.Sequential(nn.Conv2d(c_in, mid, 1, bias=False), nn.BatchNorm2d(mid), nn.ReLU()),
                    "select": SelectiveKernel(mid),
                    "expand": nn.Sequential(nn.Conv2d(mid, c_out, 1, bias=False), nn.BatchNorm2d(c_out)),
                }
            )
            if c_in != c_out:
                unit["shortcut"] = nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
            self.units.append(unit)
        self.classifier = nn.Linear(128, num_classes)

    def forward(self, x):
        x = self.stem(x)
        for unit in self.units:
            y = unit["expand"](unit["select"](unit["reduce"](x)))
            x = F.relu(y + (unit["shortcut"](x) if "shortcut" in unit else x))
        return self.classifier(x.flatten(2).mean(-1))
