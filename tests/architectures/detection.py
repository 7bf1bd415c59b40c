"""A one-stage detector of the YOLO kind: cross-stage partial blocks, pyramid pooling, a neck both ways."""

from __future__ import annotations

import torch
from torch import nn


class Conv(nn.Module):
    """Convolution, batch norm, SiLU; one activation object for all."""

    default_act = nn.SiLU()

    def __init__(self, c1, c2, k=1, s=1, g=1, act=True):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = self.default_act if act is True else nn.Identity()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, c, shortcut=True):
        super().__init__()
        self.cv1 = Conv(c, c, 3)
        self.cv2 = Conv(c, c, 3)
        self.add = shortcut

    def forward(self, x):
        return x + self.cv2(self.cv1(x)) if self.add else self.cv2(self.cv1(x))


class C2f(nn.Module):
    """Half goes straight on, half through a chain of which every link is kept (after CSPNet, figure 2)."""

    def __init__(self, c1, c2, n=1, shortcut=False):
        super().__init__()
        self.c = c2 // 2
        self.cv1 = Conv(c1, 2 * self.c)
        self.cv2 = Conv((2 + n) * self.c, c2)
        self.m = nn.ModuleList(Bottleneck(self.c, shortcut) for _ in range(n))

    def forward(self, x):
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class C3(nn.Module):
    """Wang et al. 2020, "CSPNet", figure 2b: two convolutions side by side instead of one cut in two."""

    def __init__(self, c1, c2, n=1):
        super().__init__()
        c_ = c2 // 2
        self.cv1, self.cv2, self.cv3 = Conv(c1, c_), Conv(c1, c_), Conv(2 * c_, c2)
        self.m = nn.Sequential(*(Bottleneck(c_) for _ in range(n)))

    def forward(self, x):
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class SPPF(nn.Module):
    """Spatial pyramid pooling (He et al. 2015) by one pooling applied three times."""

    def __init__(self, c1, c2, k=5):
        super().__init__()
        self.cv1 = Conv(c1, c1 // 2)
        self.cv2 = Conv(c1 // 2 * 4, c2)
        self.m = nn.MaxPool2d(kernel_size=k, stride=1, padding=k // 2)

    def forward(self, x):
        x = self.cv1(x)
        y1 = self.m(x)
        y2 = self.m(y1)
        return self.cv2(torch.cat((x, y1, y2, self.m(y2)), 1))


class Detect(nn.Module):
    """A box branch and a class branch a level, concatenated over channels."""

    def __init__(self, nc, ch):
        super().__init__()
        self.cv2 = nn.ModuleList(nn.Sequential(Conv(c, 32, 3), Conv(32, 32, 3), nn.Conv2d(32, 4, 1)) for c in ch)
        self.cv3 = nn.ModuleList(nn.Sequential(Conv(c, c, 3, g=c), Conv(c, 32, 1), nn.Conv2d(32, nc, 1)) for c in ch)

    def forward(self, x):
        for i in range(len(x)):
            x[i] = torch.cat((self.cv2[i](x[i]), self.cv3[i](x[i])), 1)
        return x


class YOLO(nn.Module):
    """After Redmon et al. 2016, "You only look once", with the parts above and a neck after Liu et al. 2018 (PANet).

    Returns raw maps of three strides, (1, 4 + classes, H, W) each.
    """

    def __init__(self, nc=6):
        super().__init__()
        self.stem = nn.Sequential(Conv(3, 16, 3, 2), Conv(16, 32, 3, 2), C3(32, 32, 1))
        self.p3 = nn.Sequential(Conv(32, 64, 3, 2), C2f(64, 64, 2, True))
        self.p4 = nn.Sequential(Conv(64, 96, 3, 2), C2f(96, 96, 2, True))
        self.p5 = nn.Sequential(Conv(96, 128, 3, 2), C2f(128, 128, 1, True), SPPF(128, 128))
        self.up = nn.Upsample(None, 2, "nearest")
        self.n4 = C2f(128 + 96, 96)
        self.n3 = C2f(96 + 64, 64)
        self.down3, self.m4 = Conv(64, 64, 3, 2), C2f(64 + 96, 96)
        self.down4, self.m5 = Conv(96, 96, 3, 2), C2f(96 + 128, 128)
        self.detect = Detect(nc, (64, 96, 128))

    def forward(self, x):
        p3 = self.p3(self.stem(x))
        p4 = self.p4(p3)
        p5 = self.p5(p4)
        n4 = self.n4(torch.cat([self.up(p5), p4], 1))
        n3 = self.n3(torch.cat([self.up(n4), p3], 1))
        m4 = self.m4(torch.cat([self.down3(n3), n4], 1))
        m5 = self.m5(torch.cat([self.down4(m4), p5], 1))
        return self.detect([n3, m4, m5])


class SSDLite(nn.Module):
    """Liu et al. 2016, "SSD", with separable heads: boxes of all levels flattened into one list.

    Returns (1, boxes, 4) and (1, boxes, classes).
    """

    def __init__(self, classes=5, anchors=3):
        super().__init__()
        self.classes = classes

        def separable(c_in, c_out, stride=1):
            return nn.Sequential(
                nn.Conv2d(c_in, c_in, 3, stride, 1, groups=c_in, bias=False),
                nn.BatchNorm2d(c_in),
                nn.ReLU6(inplace=True),
                nn.Conv2d(c_in, c_out, 1),
            )

        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(inplace=True))
        self.backbone = nn.Sequential(separable(16, 48, 2), nn.ReLU6(), separable(48, 96, 2), nn.ReLU6())
        self.extras = nn.ModuleList([separable(96, 128, 2), separable(128, 128, 2)])
        self.loc = nn.ModuleList([separable(c, anchors * 4) for c in (96, 128, 128)])
        self.conf = nn.ModuleList([separable(c, anchors * classes) for c in (96, 128, 128)])

    def forward(self, x):
        x = self.backbone(self.stem(x))
        sources = [x]
        for extra in self.extras:
            x = extra(x).relu()
            sources.append(x)
        loc, conf = [], []
        for source, head_l, head_c in zip(sources, self.loc, self.conf, strict=True):
            loc.append(head_l(source).permute(0, 2, 3, 1).contiguous())
            conf.append(head_c(source).permute(0, 2, 3, 1).contiguous())
        loc = torch.cat([o.view(o.size(0), -1) for o in loc], 1)
        conf = torch.cat([o.view(o.size(0), -1) for o in conf], 1)
        return loc.view(loc.size(0), -1, 4), torch.softmax(conf.view(conf.size(0), -1, self.classes), dim=-1)
