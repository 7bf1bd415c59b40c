"""Small networks of no family: shared modules, several inputs, unusual plumbing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Siamese(nn.Module):
    """Koch et al. 2015, "Siamese neural networks for one-shot recognition": one trunk, two images.

    Returns the distance's logit and both embeddings concatenated.
    """

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 32, 5, padding=2),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.embed = nn.Linear(64 * 8 * 8, 64)
        self.out = nn.Linear(64, 1)

    def forward_once(self, x):
        x = self.trunk(x)
        x = x.view(x.size()[0], -1)
        return torch.sigmoid(self.embed(x))

    def forward(self, input1, input2):
        h1 = self.forward_once(input1)
        h2 = self.forward_once(input2)
        return self.out(torch.abs(h1 - h2)), torch.cat((h1, h2), 1)


class Recurrent(nn.Module):
    """Liang and Hu 2015, "Recurrent convolutional neural network", figure 2: one convolution used three times."""

    def __init__(self, c=64, steps=3):
        super().__init__()
        self.steps = steps
        self.first = nn.Conv2d(3, c, 5, padding=2)
        self.feedforward = nn.Conv2d(c, c, 3, padding=1)
        self.again = nn.Conv2d(c, c, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(c) for _ in range(steps)])
        self.fc = nn.Linear(c, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        driven = self.feedforward(x)
        state = F.relu(driven)
        for norm in self.norms:
            state = norm(F.relu(driven + self.again(state)))
        return self.fc(F.adaptive_max_pool2d(state, (1, 1)).flatten(1))


class MultiplierNet(nn.Module):
    """Chollet 2017, "Xception", equation of separable convolutions; depth multiplier 2, channels last at the end."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.entry = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.units = nn.ModuleList()
        for c_in, c_out in ((32, 64), (64, 128), (128, 128)):
            self.units.append(
                nn.Sequential(
                    nn.Conv2d(c_in, 2 * c_in, 3, padding=1, groups=c_in, bias=False),
                    nn.BatchNorm2d(2 * c_in),
                    nn.ReLU(),
                    nn.Conv2d(2 * c_in, c_out, 1, bias=False),
                    nn.BatchNorm2d(c_out),
                )
            )
        self.fc = nn.Linear(128, num_classes)

    def forward(self, x):
        x = self.entry(x)
        for unit in self.units:
            x = F.max_pool2d(F.relu(unit(x)), 2)
        x = x.permute(0, 2, 3, 1)
        return self.fc(x).mean(dim=(1, 2))


class SpatialDropoutNet(nn.Module):
    """Tompson et al. 2015, "Efficient object localization": whole channels dropped; a name for each layer."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
        self.conv3, self.conv4 = nn.Conv2d(64, 96, 3, bias=False), nn.Conv2d(96, 96, (1, 3))
        self.bn3 = nn.BatchNorm2d(96)
        self.conv2_drop = nn.Dropout2d(p=0.5)
        self.fc1, self.fc2 = nn.Linear(96 * 4 * 2, 64), nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2), True)
        x = F.dropout2d(F.elu(self.bn3(self.conv3(x))), 0.2, training=self.training)
        x = F.leaky_relu(self.conv4(x), 0.1, inplace=True)[:, :, 0:4]
        x = torch.flatten(x, start_dim=1)
        x = F.dropout(F.relu(self.fc1(x)), training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)


class AddCoords(nn.Module):
    """Two channels that say where a pixel lies."""

    def forward(self, x):
        b, _, h, w = x.shape
        ys = torch.linspace(-1, 1, h, device=x.device).view(1, 1, h, 1).expand(b, 1, h, w)
        xs = torch.linspace(-1, 1, w, device=x.device).view(1, 1, 1, w).expand(b, 1, h, w)
        return torch.cat([x, xs, ys], dim=1)


class CoordConvNet(nn.Module):
    """Liu et al. 2018, "An intriguing failing of convolutional neural networks": coordinates before convolutions."""

    def __init__(self):
        super().__init__()
        self.add = AddCoords()
        self.conv1 = nn.Conv2d(5, 48, 3, 2, 1)
        self.conv2 = nn.Conv2d(50, 64, 3, 2, 1)
        self.conv3 = nn.Conv2d(66, 64, 3, 2, 1)
        self.head = nn.Linear(64, 2)

    def forward(self, x):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu(conv(self.add(x)))
        return self.head(x.amax(dim=(2, 3)))


class MultiScale(nn.Module):
    """Eigen et al. 2014, "Depth map prediction", figure 1: a coarse network's answer enters a fine one.

    Channels normalised by hand with buffers, features scaled by a parameter, images averaged by hand.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.2]).view(1, 3, 1, 1))
        self.coarse = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU())
        self.coarse_out = nn.Conv2d(64, 1, 1)
        self.fine = nn.Conv2d(3, 63, 5, padding=2)
        self.scale = nn.Parameter(torch.rand(1, 63, 1, 1) + 0.5)
        self.bias = nn.Parameter(torch.rand(63))
        self.mix = nn.Conv2d(64, 64, 3, padding=1)
        self.out = nn.Conv2d(64, 1, 3, padding=1)

    def forward(self, x):
        x = (x - self.mean) / self.std
        coarse = self.coarse_out(self.coarse(F.avg_pool2d(x, 2)))
        coarse = F.interpolate(coarse, scale_factor=8, mode="bilinear", align_corners=False)
        fine = self.fine(x) * self.scale + self.bias[None, :, None, None]
        fine = fine.clamp(min=0)
        both = torch.cat([fine, coarse], 1)
        depth = self.out(F.relu(self.mix(both)))
        return {"coarse": coarse, "depth": depth.squeeze(1)}


class TwoStream(nn.Module):
    """Simonyan and Zisserman 2014, "Two-stream convolutional networks": colour and motion, merged by 3D convolution.

    Inputs (1, 3, H, W) and (1, 2, 4, H, W).
    """

    def __init__(self, classes=6):
        super().__init__()
        self.rgb = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.Hardtanh(0, 4)
        )
        self.flow = nn.Sequential(
            nn.Conv3d(2, 16, 3, (1, 2, 2), 1),
            nn.BatchNorm3d(16),
            nn.ReLU(),
            nn.Conv3d(16, 64, 3, (2, 2, 2), 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d((1, None, None)),
        )
        self.fuse = nn.Conv2d(128, 96, 1)
        self.fc = nn.Linear(96, classes)

    def forward(self, rgb, flow):
        a, b = self.rgb(rgb), self.flow(flow).squeeze(2)
        x = F.hardswish(self.fuse(torch.cat((a, b), 1)))
        return self.fc(F.lp_pool2d(x, 2, 8).reshape(x.shape[0], -1))
