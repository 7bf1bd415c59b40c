"""Networks without residuals: a chain, or branches that are concatenated."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class LeNet(nn.Module):
    """LeCun et al. 1998, "Gradient-based learning applied to document recognition", as tutorials write it."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, 16 * 5 * 5)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class LeNet5(nn.Module):
    """LeCun et al. 1998, figure 2: tanh, average pooling, C5 as a convolution over the whole map."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=5),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, kernel_size=5),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(16, 120, kernel_size=5),
            nn.Tanh(),
        )
        self.classifier = nn.Sequential(nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10))

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


class AlexNet(nn.Module):
    """Krizhevsky et al. 2012, "ImageNet classification with deep CNNs", section 3.5, with its two-way groups.

    Half the widths; without local response normalisation, as later versions.
    """

    def __init__(self, num_classes=20):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 48, kernel_size=11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(48, 128, kernel_size=5, padding=2, groups=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(128, 192, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(192, 192, kernel_size=3, padding=1, groups=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(192, 128, kernel_size=3, padding=1, groups=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((3, 3))
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(128 * 3 * 3, 512),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(512, 512),
            nn.ReLU(inplace=True),
            nn.Linear(512, num_classes),
        )

    def forward(self, x):
        x = self.features(x)
        x = self.avgpool(x)
        x = x.view(x.size(0), 128 * 3 * 3)
        return self.classifier(x)


class VGG(nn.Module):
    """Simonyan and Zisserman 2015, "Very deep convolutional networks", table 1, column D; a quarter of the widths."""

    cfg = (16, 16, "M", 32, 32, "M", 64, 64, 64, "M", 128, 128, 128, "M", 128, 128, 128, "M")

    def __init__(self, num_classes=10):
        super().__init__()
        layers, in_channels = [], 3
        for v in self.cfg:
            if v == "M":
                layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
            else:
                layers += [nn.Conv2d(in_channels, v, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
                in_channels = v
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(128 * 2 * 2, 256), nn.ReLU(True), nn.Dropout(), nn.Linear(256, num_classes)
        )
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                nn.init.constant_(m.bias, 0)

    def forward(self, x):
        x = self.features(x)
        x = x.view(x.size(0), -1)
        return self.classifier(x)


class BasicConv(nn.Module):
    """Convolution, batch norm, in-place ReLU: the unit of both Inception networks."""

    def __init__(self, in_channels, out_channels, **kwargs):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **kwargs)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x):
        x = self.conv(x)
        x = self.bn(x)
        return F.relu(x, inplace=True)


class Inception(nn.Module):
    def __init__(self, c_in, c1, r3, c3, r5, c5, pool):
        super().__init__()
        self.branch1 = BasicConv(c_in, c1, kernel_size=1)
        self.branch2 = nn.Sequential(BasicConv(c_in, r3, kernel_size=1), BasicConv(r3, c3, kernel_size=3, padding=1))
        self.branch3 = nn.Sequential(BasicConv(c_in, r5, kernel_size=1), BasicConv(r5, c5, kernel_size=5, padding=2))
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(kernel_size=3, stride=1, padding=1, ceil_mode=True), BasicConv(c_in, pool, kernel_size=1)
        )

    def forward(self, x):
        outputs = [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)]
        return torch.cat(outputs, 1)


class GoogLeNet(nn.Module):
    """Szegedy et al. 2015, "Going deeper with convolutions", table 1; a quarter of the widths, no auxiliary heads."""

    table = (
        (64, 96, 128, 16, 32, 32),
        (128, 128, 192, 32, 96, 64),
        None,
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
        None,
        (256, 160, 320, 32, 128, 128),
        (384, 192, 384, 48, 128, 128),
    )

    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = BasicConv(3, 16, kernel_size=7, stride=2, padding=3)
        self.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv(16, 16, kernel_size=1)
        self.conv3 = BasicConv(16, 48, kernel_size=3, padding=1)
        self.blocks = nn.ModuleList()
        c = 48
        for row in self.table:
            if row is None:
                self.blocks.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
                continue
            block = Inception(c, *(v // 4 for v in row))
            self.blocks.append(block)
            c = (row[0] + row[2] + row[4] + row[5]) // 4
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(c, num_classes)

    def forward(self, x):
        x = self.maxpool(self.conv1(x))
        x = self.maxpool(self.conv3(self.conv2(x)))
        for block in self.blocks:
            x = block(x)
        x = torch.flatten(self.avgpool(x), 1)
        return self.fc(self.dropout(x))


class MaxoutNet(nn.Module):
    """Goodfellow et al. 2013, "Maxout networks": each unit is the largest of ``pieces`` convolutions."""

    def __init__(self, pieces=2):
        super().__init__()
        self.pieces = pieces
        self.conv1 = nn.Conv2d(3, 32 * pieces, 5, padding=2)
        self.conv2 = nn.Conv2d(32, 64 * pieces, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 64 * pieces, 3, padding=1)
        self.drop = nn.Dropout2d(0.2)
        self.fc = nn.Linear(64, 10)

    def maxout(self, x):
        n, c, h, w = x.size()
        return x.view(n, c // self.pieces, self.pieces, h, w).max(dim=2)[0]

    def forward(self, x):
        x = self.drop(F.max_pool2d(self.maxout(self.conv1(x)), 3, 2, 1))
        x = self.drop(F.max_pool2d(self.maxout(self.conv2(x)), 3, 2, 1))
        x = self.maxout(self.conv3(x))
        return self.fc(x.mean(dim=-1).mean(dim=-1))
