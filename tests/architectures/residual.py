"""Residual and densely connected networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class ResNeXtBlock(nn.Module):
    expansion = 2

    def __init__(self, in_planes, cardinality, width, stride):
        super().__init__()
        inner = cardinality * width
        self.conv1 = nn.Conv2d(in_planes, inner, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, kernel_size=3, stride=stride, padding=1, groups=cardinality, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, self.expansion * inner, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.expansion * inner)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != self.expansion * inner:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, self.expansion * inner, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(self.expansion * inner),
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += self.shortcut(x)
        return F.relu(out)


class ResNeXt(nn.Module):
    """Xie et al. 2017, "Aggregated residual transformations", figure 3c; 8 groups of 4, 8, 16 channels."""

    def __init__(self, num_blocks=(2, 2, 2), cardinality=8, width=4, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        in_planes, stages = 32, []
        for i, n in enumerate(num_blocks):
            for j in range(n):
                stages.append(ResNeXtBlock(in_planes, cardinality, width, 2 if i > 0 and j == 0 else 1))
                in_planes = ResNeXtBlock.expansion * cardinality * width
            width *= 2
        self.layers = nn.Sequential(*stages)
        self.linear = nn.Linear(in_planes, num_classes)

    def forward(self, x):
        out = self.layers(F.relu(self.bn1(self.conv1(x))))
        out = F.avg_pool2d(out, 8)
        out = out.view(out.size(0), -1)
        return self.linear(out)


class WideBlock(nn.Module):
    """BN-ReLU-conv twice with dropout between; a projection reads the activated input."""

    def __init__(self, c_in, c_out, stride, drop):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.drop = drop
        self.same = c_in == c_out and stride == 1
        self.project = (not self.same and nn.Conv2d(c_in, c_out, 1, stride, 0, bias=False)) or None

    def forward(self, x):
        activated = self.relu(self.bn1(x))
        out = self.relu(self.bn2(self.conv1(activated)))
        if self.drop > 0:
            out = F.dropout(out, p=self.drop, training=self.training)
        out = self.conv2(out)
        return torch.add(x if self.same else self.project(activated), out)


class WideResNet(nn.Module):
    """Zagoruyko and Komodakis 2016, "Wide residual networks": WRN-16-2."""

    def __init__(self, depth=16, widen=2, drop=0.3, num_classes=10):
        super().__init__()
        widths = [16, 16 * widen, 32 * widen, 64 * widen]
        n = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        for k in range(3):
            blocks = [
                WideBlock(widths[k] if i == 0 else widths[k + 1], widths[k + 1], 2 if k and i == 0 else 1, drop)
                for i in range(n)
            ]
            setattr(self, f"block{k + 1}", nn.Sequential(*blocks))
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], num_classes)
        self.channels = widths[3]

    def forward(self, x):
        out = self.block3(self.block2(self.block1(self.conv1(x))))
        out = F.relu(self.bn1(out))
        out = F.avg_pool2d(out, 8).view(-1, self.channels)
        return self.fc(out)


class PreActBottleneck(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(in_planes), nn.Conv2d(in_planes, planes, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(planes), nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn3, self.conv3 = nn.BatchNorm2d(planes), nn.Conv2d(planes, 4 * planes, 1, bias=False)
        if stride != 1 or in_planes != 4 * planes:
            self.shortcut = nn.Conv2d(in_planes, 4 * planes, 1, stride, bias=False)

    def forward(self, x):
        out = F.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        out = self.conv1(out)
        out = self.conv2(F.relu(self.bn2(out)))
        out = self.conv3(F.relu(self.bn3(out)))
        out += shortcut
        return out


class PreActResNet(nn.Module):
    """He et al. 2016, "Identity mappings in deep residual networks", figure 4e; bottlenecks 2-2-2-2."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        layers, c = [], 16
        for planes, stride in ((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
            layers.append(PreActBottleneck(c, planes, stride))
            c = 4 * planes
        self.layers = nn.ModuleList(layers)
        self.bn = nn.BatchNorm2d(c)
        self.linear = nn.Linear(c, num_classes)

    def forward(self, x):
        out = self.conv1(x)
        for layer in self.layers:
            out = layer(out)
        out = F.adaptive_avg_pool2d(F.relu_(self.bn(out)), 1).squeeze(-1).squeeze(-1)
        return self.linear(out)


class DenseLayer(nn.Sequential):
    def __init__(self, c_in, growth, bn_size, drop):
        super().__init__()
        self.add_module("norm1", nn.BatchNorm2d(c_in))
        self.add_module("relu1", nn.ReLU(inplace=True))
        self.add_module("conv1", nn.Conv2d(c_in, bn_size * growth, kernel_size=1, bias=False))
        self.add_module("norm2", nn.BatchNorm2d(bn_size * growth))
        self.add_module("relu2", nn.ReLU(inplace=True))
        self.add_module("conv2", nn.Conv2d(bn_size * growth, growth, kernel_size=3, padding=1, bias=False))
        self.drop = drop

    def forward(self, x):
        new = super().forward(x)
        if self.drop:
            new = F.dropout(new, self.drop, self.training)
        return torch.cat([x, new], 1)


class DenseNet(nn.Module):
    """Huang et al. 2017, "Densely connected convolutional networks": DenseNet-BC, growth 12."""

    def __init__(self, growth=12, blocks=(4, 6, 8, 6), num_classes=10):
        super().__init__()
        c = 2 * growth
        self.features = nn.Sequential(
            nn.Conv2d(3, c, 7, 2, 3, bias=False), nn.BatchNorm2d(c), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )
        for i, n in enumerate(blocks):
            block = nn.Sequential()
            for j in range(n):
                block.add_module(f"denselayer{j + 1}", DenseLayer(c, growth, 4, 0.1))
                c += growth
            self.features.add_module(f"denseblock{i + 1}", block)
            if i < len(blocks) - 1:
                transition = nn.Sequential(
                    nn.BatchNorm2d(c), nn.ReLU(True), nn.Conv2d(c, c // 2, 1, bias=False), nn.AvgPool2d(2, 2)
                )
                self.features.add_module(f"transition{i + 1}", transition)
                c //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(c))
        self.classifier = nn.Linear(c, num_classes)

    def forward(self, x):
        features = self.features(x)
        out = F.relu(features, inplace=True)
        out = F.adaptive_avg_pool2d(out, (1, 1))
        return self.classifier(torch.flatten(out, 1))
