"""Networks that answer for every pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class DoubleConv(nn.Module):
    def __init__(self, in_channels, out_channels, mid_channels=None):
        super().__init__()
        mid_channels = mid_channels or out_channels
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, mid_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(mid_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class Up(nn.Module):
    """Enlarge, pad to the size of the skip connection, concatenate, convolve twice."""

    def __init__(self, in_channels, out_channels, bilinear):
        super().__init__()
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = DoubleConv(in_channels, out_channels, in_channels // 2)
        else:
            self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
            self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x1, x2):
        x1 = self.up(x1)
        dy = x2.size()[2] - x1.size()[2]
        dx = x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        x = torch.cat([x2, x1], dim=1)
        return self.conv(x)


class UNet(nn.Module):
    """Ronneberger et al. 2015, "U-Net", figure 1; an eighth of the widths, padded convolutions, batch norm."""

    def __init__(self, bilinear=False, n_classes=2, c=8):
        super().__init__()
        factor = 2 if bilinear else 1
        self.inc = DoubleConv(3, c)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(c, 2 * c))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(2 * c, 4 * c))
        self.down3 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(4 * c, 8 * c))
        self.down4 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(8 * c, 16 * c // factor))
        self.up1 = Up(16 * c, 8 * c // factor, bilinear)
        self.up2 = Up(8 * c, 4 * c // factor, bilinear)
        self.up3 = Up(4 * c, 2 * c // factor, bilinear)
        self.up4 = Up(2 * c, c, bilinear)
        self.outc = nn.Conv2d(c, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x5 = self.down4(x4)
        x = self.up1(x5, x4)
        x = self.up2(x, x3)
        x = self.up3(x, x2)
        x = self.up4(x, x1)
        return self.outc(x)


class ASPP(nn.Module):
    """Parallel dilated convolutions beside pooling over the whole image, enlarged again (figure 5)."""

    def __init__(self, c_in, c_out, rates=(2, 4, 6)):
        super().__init__()

        def unit(kernel, rate=1):
            padding = 0 if kernel == 1 else rate
            return nn.Sequential(
                nn.Conv2d(c_in, c_out, kernel, padding=padding, dilation=rate, bias=False),
                nn.BatchNorm2d(c_out),
                nn.ReLU(),
            )

        self.convs = nn.ModuleList([unit(1), *(unit(3, rate) for rate in rates)])
        self.pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), *unit(1))
        self.project = nn.Sequential(
            nn.Conv2d((len(rates) + 2) * c_out, c_out, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(), nn.Dropout(0.5)
        )

    def forward(self, x):
        res = [conv(x) for conv in self.convs]
        pooled = F.interpolate(self.pooling(x), size=x.shape[-2:], mode="bilinear", align_corners=False)
        return self.project(torch.cat([*res, pooled], dim=1))


class DeepLab(nn.Module):
    """Chen et al. 2018, "Encoder-decoder with atrous separable convolution" (DeepLabv3+), figure 2."""

    def __init__(self, num_classes=5):
        super().__init__()

        def unit(c_in, c_out, stride=1, dilation=1):
            return nn.Sequential(
                nn.Conv2d(c_in, c_out, 3, stride, dilation, dilation, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()
            )

        self.low = nn.Sequential(unit(3, 16, 2), unit(16, 32, 2))
        self.high = nn.Sequential(unit(32, 64, 2), unit(64, 96), unit(96, 96, dilation=2))
        self.aspp = ASPP(96, 48)
        self.reduce = nn.Sequential(nn.Conv2d(32, 12, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.fuse = nn.Sequential(unit(60, 48), nn.Dropout(0.1), nn.Conv2d(48, num_classes, 1))

    def forward(self, x):
        input_shape = x.shape[-2:]
        low = self.low(x)
        out = self.aspp(self.high(low))
        out = F.interpolate(out, size=low.size()[2:], mode="bilinear", align_corners=False)
        out = self.fuse(torch.cat((out, self.reduce(low)), dim=1))
        out = F.interpolate(out, size=input_shape, mode="bilinear", align_corners=False)
        return {"out": out}


class FPN(nn.Module):
    """Lin et al. 2017, "Feature pyramid networks", figure 3, on a small residual trunk; heads shared by levels."""

    def __init__(self, channels=48, classes=6):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        widths = (16, 32, 64, 128)
        self.stages = nn.ModuleList()
        for c_in, c_out in zip((16, *widths), widths, strict=False):
            self.stages.append(
                nn.Sequential(
                    nn.Conv2d(c_in, c_out, 3, 2, 1, bias=False),
                    nn.BatchNorm2d(c_out),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False),
                    nn.BatchNorm2d(c_out),
                    nn.ReLU(inplace=True),
                )
            )
        self.lateral = nn.ModuleList([nn.Conv2d(c, channels, 1) for c in widths[1:]])
        self.smooth = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1) for _ in widths[1:]])
        self.cls_head = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, classes, 3, padding=1)
        )
        self.box_head = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 4, 3, padding=1)
        )

    def _upsample_add(self, x, y):
        _, _, h, w = y.size()
        return F.interpolate(x, size=(h, w), mode="nearest") + y

    def forward(self, x):
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        laterals = [conv(f) for conv, f in zip(self.lateral, features[1:], strict=True)]
        for i in range(len(laterals) - 1, 0, -1):
            laterals[i - 1] = self._upsample_add(laterals[i], laterals[i - 1])
        levels = [conv(p) for conv, p in zip(self.smooth, laterals, strict=True)]
        return [self.cls_head(p) for p in levels], [self.box_head(p) for p in levels]


class HourglassUnit(nn.Module):
    """Pre-activated bottleneck."""

    def __init__(self, c_in, c_out):
        super().__init__()
        mid = c_out // 2
        self.bn, self.conv1 = nn.BatchNorm2d(c_in), nn.Conv2d(c_in, mid, 1)
        self.bn1, self.conv2 = nn.BatchNorm2d(mid), nn.Conv2d(mid, mid, 3, padding=1)
        self.bn2, self.conv3 = nn.BatchNorm2d(mid), nn.Conv2d(mid, c_out, 1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x):
        out = self.conv1(F.relu(self.bn(x)))
        out = self.conv2(F.relu(self.bn1(out)))
        out = self.conv3(F.relu(self.bn2(out)))
        return out + (x if self.skip is None else self.skip(x))


class Hourglass(nn.Module):
    """Down and up again, with a skip at each size (figure 3), built by recursion."""

    def __init__(self, depth, f):
        super().__init__()
        self.up1 = HourglassUnit(f, f)
        self.low1 = HourglassUnit(f, f)
        self.low2 = Hourglass(depth - 1, f) if depth > 1 else HourglassUnit(f, f)
        self.low3 = HourglassUnit(f, f)

    def forward(self, x):
        up1 = self.up1(x)
        low = self.low3(self.low2(self.low1(F.max_pool2d(x, 2, stride=2))))
        return up1 + F.interpolate(low, scale_factor=2.0, mode="nearest")


class StackedHourglass(nn.Module):
    """Newell et al. 2016, "Stacked hourglass networks": two stacks, the first's heatmaps fed to the second."""

    def __init__(self, f=48, joints=8, stacks=2):
        super().__init__()
        self.pre = nn.Sequential(
            nn.Conv2d(3, 16, 7, 2, 3), nn.BatchNorm2d(16), nn.ReLU(), HourglassUnit(16, 32), HourglassUnit(32, f)
        )
        self.hgs = nn.ModuleList([nn.Sequential(Hourglass(3, f), HourglassUnit(f, f)) for _ in range(stacks)])
        self.outs = nn.ModuleList([nn.Conv2d(f, joints, 1) for _ in range(stacks)])
        self.merge_features = nn.ModuleList([nn.Conv2d(f, f, 1) for _ in range(stacks - 1)])
        self.merge_preds = nn.ModuleList([nn.Conv2d(joints, f, 1) for _ in range(stacks - 1)])

    def forward(self, x):
        x = self.pre(x)
        preds = []
        for i, hg in enumerate(self.hgs):
            feature = hg(x)
            preds.append(self.outs[i](feature))
            if i < len(self.hgs) - 1:
                x = x + self.merge_preds[i](preds[-1]) + self.merge_features[i](feature)
        return torch.stack(preds, 1)
