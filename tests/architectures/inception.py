"""Inception v3: factorised and asymmetric kernels, branches that fork twice."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .classic import BasicConv


class InceptionA(nn.Module):
    """35x35 modules (figure 5): 1x1, 5x5, two 3x3, average pooling."""

    def __init__(self, c_in, pool):
        super().__init__()
        self.branch1x1 = BasicConv(c_in, 16, kernel_size=1)
        self.branch5x5_1 = BasicConv(c_in, 12, kernel_size=1)
        self.branch5x5_2 = BasicConv(12, 16, kernel_size=5, padding=2)
        self.branch3x3_1 = BasicConv(c_in, 16, kernel_size=1)
        self.branch3x3_2 = BasicConv(16, 24, kernel_size=3, padding=1)
        self.branch3x3_3 = BasicConv(24, 24, kernel_size=3, padding=1)
        self.branch_pool = BasicConv(c_in, pool, kernel_size=1)

    def forward(self, x):
        branch1x1 = self.branch1x1(x)
        branch5x5 = self.branch5x5_2(self.branch5x5_1(x))
        branch3x3 = self.branch3x3_3(self.branch3x3_2(self.branch3x3_1(x)))
        branch_pool = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
        branch_pool = self.branch_pool(branch_pool)
        return torch.cat([branch1x1, branch5x5, branch3x3, branch_pool], 1)


class ReductionA(nn.Module):
    def __init__(self, c_in):
        super().__init__()
        self.branch3x3 = BasicConv(c_in, 96, kernel_size=3, stride=2)
        self.dbl_1 = BasicConv(c_in, 16, kernel_size=1)
        self.dbl_2 = BasicConv(16, 24, kernel_size=3, padding=1)
        self.dbl_3 = BasicConv(24, 24, kernel_size=3, stride=2)

    def forward(self, x):
        pooled = F.max_pool2d(x, kernel_size=3, stride=2)
        return torch.cat([self.branch3x3(x), self.dbl_3(self.dbl_2(self.dbl_1(x))), pooled], 1)


class InceptionB(nn.Module):
    """17x17 modules (figure 6): 7x7 as 1x7 and 7x1."""

    def __init__(self, c_in, c7):
        super().__init__()
        self.branch1x1 = BasicConv(c_in, 48, kernel_size=1)
        self.branch7x7 = nn.Sequential(
            BasicConv(c_in, c7, kernel_size=1),
            BasicConv(c7, c7, kernel_size=(1, 7), padding=(0, 3)),
            BasicConv(c7, 48, kernel_size=(7, 1), padding=(3, 0)),
        )
        self.branch7x7dbl = nn.Sequential(
            BasicConv(c_in, c7, kernel_size=1),
            BasicConv(c7, c7, kernel_size=(7, 1), padding=(3, 0)),
            BasicConv(c7, c7, kernel_size=(1, 7), padding=(0, 3)),
            BasicConv(c7, c7, kernel_size=(7, 1), padding=(3, 0)),
            BasicConv(c7, 48, kernel_size=(1, 7), padding=(0, 3)),
        )
        self.branch_pool = BasicConv(c_in, 48, kernel_size=1)

    def forward(self, x):
        pool = self.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False))
        return torch.cat((self.branch1x1(x), self.branch7x7(x), self.branch7x7dbl(x), pool), dim=1)


class ReductionB(nn.Module):
    def __init__(self, c_in):
        super().__init__()
        self.branch3x3 = nn.Sequential(BasicConv(c_in, 48, kernel_size=1), BasicConv(48, 80, kernel_size=3, stride=2))
        self.branch7x7x3 = nn.Sequential(
            BasicConv(c_in, 48, kernel_size=1),
            BasicConv(48, 48, kernel_size=(1, 7), padding=(0, 3)),
            BasicConv(48, 48, kernel_size=(7, 1), padding=(3, 0)),
            BasicConv(48, 48, kernel_size=3, stride=2),
        )
        self.pool = nn.MaxPool2d(3, 2)

    def forward(self, x):
        return torch.cat([self.branch3x3(x), self.branch7x7x3(x), self.pool(x)], 1)


class InceptionC(nn.Module):
    """8x8 modules (figure 7): branches that fork into 1x3 and 3x1."""

    def __init__(self, c_in):
        super().__init__()
        self.branch1x1 = BasicConv(c_in, 80, kernel_size=1)
        self.branch3x3_1 = BasicConv(c_in, 96, kernel_size=1)
        self.branch3x3_2a = BasicConv(96, 96, kernel_size=(1, 3), padding=(0, 1))
        self.branch3x3_2b = BasicConv(96, 96, kernel_size=(3, 1), padding=(1, 0))
        self.dbl_1 = BasicConv(c_in, 112, kernel_size=1)
        self.dbl_2 = BasicConv(112, 96, kernel_size=3, padding=1)
        self.dbl_3a = BasicConv(96, 96, kernel_size=(1, 3), padding=(0, 1))
        self.dbl_3b = BasicConv(96, 96, kernel_size=(3, 1), padding=(1, 0))
        self.branch_pool = BasicConv(c_in, 48, kernel_size=1)

    def forward(self, x):
        b3 = self.branch3x3_1(x)
        b3 = torch.cat([self.branch3x3_2a(b3), self.branch3x3_2b(b3)], 1)
        dbl = self.dbl_2(self.dbl_1(x))
        dbl = torch.cat([self.dbl_3a(dbl), self.dbl_3b(dbl)], 1)
        pool = self.branch_pool(F.avg_pool2d(x, kernel_size=3, stride=1, padding=1))
        return torch.cat([self.branch1x1(x), b3, dbl, pool], 1)


class InceptionV3(nn.Module):
    """Szegedy et al. 2016, "Rethinking the Inception architecture", table 1; a quarter of the widths."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(
            BasicConv(3, 8, kernel_size=3, stride=2),
            BasicConv(8, 8, kernel_size=3),
            BasicConv(8, 16, kernel_size=3, padding=1),
            nn.MaxPool2d(3, 2),
            BasicConv(16, 20, kernel_size=1),
            BasicConv(20, 48, kernel_size=3),
            nn.MaxPool2d(3, 2),
        )
        self.mixed = nn.Sequential(
            InceptionA(48, 8),
            InceptionA(64, 16),
            InceptionA(72, 16),
            ReductionA(72),
            InceptionB(192, 32),
            InceptionB(192, 40),
            InceptionB(192, 48),
            ReductionB(192),
            InceptionC(320),
            InceptionC(512),
        )
        self.fc = nn.Linear(512, num_classes)

    def forward(self, x):
        x = self.mixed(self.stem(x))
        x = F.adaptive_avg_pool2d(x, (1, 1))
        x = F.dropout(x, training=self.training)
        x = x.view(x.size(0), -1)
        return self.fc(x)
