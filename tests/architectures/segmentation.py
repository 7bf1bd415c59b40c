"""Segmentation of other kinds: cropped skips, unpooling by indices, pyramids of pools, parallel resolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class FCN8s(nn.Module):
    """Long et al. 2015, "Fully convolutional networks", figure 3: padded at first, cropped to fit, classes enlarged.

    Each class is enlarged by a transposed convolution of its own (groups).
    """

    def __init__(self, n_class=5):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=12)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv4 = nn.Conv2d(64, 96, 3, padding=1)
        self.conv5 = nn.Conv2d(96, 96, 3, padding=1)
        self.fc6 = nn.Conv2d(96, 192, 3)
        self.fc7 = nn.Conv2d(192, 192, 1)
        self.score_fr = nn.Conv2d(192, n_class, 1)
        self.score_pool3 = nn.Conv2d(64, n_class, 1)
        self.score_pool4 = nn.Conv2d(96, n_class, 1)
        self.upscore2 = nn.ConvTranspose2d(n_class, n_class, 4, stride=2, bias=False)
        self.upscore8 = nn.ConvTranspose2d(n_class, n_class, 16, stride=8, bias=False, groups=n_class)
        self.upscore_pool4 = nn.ConvTranspose2d(n_class, n_class, 4, stride=2, bias=False)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_uniform_(m.weight, nonlinearity="relu")

    def forward(self, x):
        h = F.max_pool2d(F.relu(self.conv1(x)), 2, stride=2, ceil_mode=True)
        h = F.max_pool2d(F.relu(self.conv2(h)), 2, stride=2, ceil_mode=True)
        pool3 = F.max_pool2d(F.relu(self.conv3(h)), 2, stride=2, ceil_mode=True)
        pool4 = F.max_pool2d(F.relu(self.conv4(pool3)), 2, stride=2, ceil_mode=True)
        h = F.max_pool2d(F.relu(self.conv5(pool4)), 2, stride=2, ceil_mode=True)
        h = F.dropout2d(F.relu(self.fc6(h)), training=self.training)
        h = F.dropout2d(F.relu(self.fc7(h)), training=self.training)
        upscore2 = self.upscore2(self.score_fr(h))
        h = self.score_pool4(pool4)
        h = h[:, :, 1 : 1 + upscore2.size()[2], 1 : 1 + upscore2.size()[3]]
        upscore_pool4 = self.upscore_pool4(upscore2 + h)
        h = self.score_pool3(pool3)
        h = h[:, :, 1 : 1 + upscore_pool4.size()[2], 1 : 1 + upscore_pool4.size()[3]]
        h = self.upscore8(upscore_pool4 + h)
        return h[:, :, 8 : 8 + x.size()[2], 8 : 8 + x.size()[3]].contiguous()


class SegNet(nn.Module):
    """Badrinarayanan et al. 2017, "SegNet", figure 2: maxima go back to where they came from; three levels."""

    def __init__(self, classes=5):
        super().__init__()

        def stage(*widths):
            layers = []
            for a, b in zip(widths, widths[1:], strict=False):  # noqa: RUF007
                layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
            return nn.Sequential(*layers)

        self.enc = nn.ModuleList([stage(3, 24, 24), stage(24, 48, 48), stage(48, 96, 96)])
        self.dec = nn.ModuleList([stage(96, 96, 48), stage(48, 48, 24), stage(24, 24)])
        self.last = nn.Conv2d(24, classes, 3, padding=1)

    def forward(self, x):
        places = []
        for enc in self.enc:
            x, indices = F.max_pool2d(enc(x), kernel_size=2, stride=2, return_indices=True)
            places.append(indices)
        for dec in self.dec:
            x = dec(F.max_unpool2d(x, places.pop(), kernel_size=2, stride=2))
        return self.last(x)


class PSPNet(nn.Module):
    """Zhao et al. 2017, "Pyramid scene parsing network", figure 3; a second head exists while training only."""

    class PyramidPooling(nn.Module):
        def __init__(self, c, bins=(1, 2, 3, 6)):
            super().__init__()
            self.features = nn.ModuleList()
            for b in bins:
                self.features.append(
                    nn.Sequential(
                        nn.AdaptiveAvgPool2d(b),
                        nn.Conv2d(c, c // len(bins), 1, bias=False),
                        nn.BatchNorm2d(c // len(bins)),
                        nn.ReLU(inplace=True),
                    )
                )

        def forward(self, x):
            out = [x]
            for f in self.features:
                out.append(F.interpolate(f(x), x.size()[2:], mode="bilinear", align_corners=True))
            return torch.cat(out, 1)

    def __init__(self, classes=5):
        super().__init__()

        def unit(i, o, s=1, d=1):
            return [nn.Conv2d(i, o, 3, s, d, d, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]

        self.layer0 = nn.Sequential(*unit(3, 24, 2), *unit(24, 48), nn.MaxPool2d(3, 2, 1))
        self.layer3 = nn.Sequential(*unit(48, 96, 2))
        self.layer4 = nn.Sequential(*unit(96, 96, d=2), *unit(96, 96, d=4))
        self.ppm = self.PyramidPooling(96)
        self.cls = nn.Sequential(*unit(192, 64), nn.Dropout2d(p=0.1), nn.Conv2d(64, classes, kernel_size=1))
        self.aux = nn.Sequential(nn.Conv2d(96, 32, 1), nn.ReLU(inplace=True), nn.Conv2d(32, classes, 1))

    def forward(self, x):
        size = x.size()[-2:]
        x_tmp = self.layer3(self.layer0(x))
        x = self.cls(self.ppm(self.layer4(x_tmp)))
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
        if self.training:
            return x, F.interpolate(self.aux(x_tmp), size=size, mode="bilinear", align_corners=True)
        return x


class HRBranches(nn.Module):
    """Each resolution on its own, then each the sum of all, enlarged or strided as needed."""

    def __init__(self, widths):
        super().__init__()
        self.branches = nn.ModuleList()
        for c in widths:
            self.branches.append(
                nn.Sequential(
                    nn.Conv2d(c, c, 3, 1, 1, bias=False),
                    nn.BatchNorm2d(c),
                    nn.ReLU(),
                    nn.Conv2d(c, c, 3, 1, 1, bias=False),
                    nn.BatchNorm2d(c),
                )
            )
        self.fuse_layers = nn.ModuleList()
        for i, c_out in enumerate(widths):
            row = []
            for j, c_in in enumerate(widths):
                if j == i:
                    row.append(None)
                elif j > i:
                    row.append(nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out)))
                else:
                    steps = nn.Sequential()
                    for k in range(i - j):
                        c = c_out if k == i - j - 1 else c_in
                        steps.append(nn.Conv2d(c_in, c, 3, 2, 1, bias=False))
                        steps.append(nn.BatchNorm2d(c))
                    row.append(steps)
            self.fuse_layers.append(nn.ModuleList(row))
        self.relu = nn.ReLU()

    def forward(self, x):
        x = [self.relu(branch(y) + y) for branch, y in zip(self.branches, x, strict=True)]
        fused = []
        for i in range(len(x)):
            y = x[i]
            for j in range(len(x)):
                if j == i:
                    continue
                z = self.fuse_layers[i][j](x[j])
                y = y + (F.interpolate(z, size=x[i].shape[2:], mode="nearest") if j > i else z)
            fused.append(self.relu(y))
        return fused


class HRNet(nn.Module):
    """Sun et al. 2019, "Deep high-resolution representation learning", figure 1; three resolutions, heatmaps out."""

    def __init__(self, c=24, joints=8):
        super().__init__()
        widths = [c, 2 * c, 4 * c]
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, 2, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU())
        self.transition = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c if i == 0 else c * i, w, 3, 1 if i == 0 else 2, 1), nn.ReLU())
            for i, w in enumerate(widths)
        )
        self.stages = nn.ModuleList([HRBranches(widths), HRBranches(widths)])
        self.final = nn.Conv2d(sum(widths), joints, 1)

    def forward(self, x):
        x = self.stem(x)
        maps = []
        for layer in self.transition:
            x = layer(x)
            maps.append(x)
        for stage in self.stages:
            maps = stage(maps)
        h, w = maps[0].size(2), maps[0].size(3)
        up = [F.interpolate(m, size=(h, w), mode="bilinear", align_corners=False) for m in maps[1:]]
        return self.final(torch.cat([maps[0], *up], 1))
