"""Points, skeletons, volumes and warped images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class TNet(nn.Module):
    """Predicts a k x k matrix from points; starts from the identity."""

    def __init__(self, k):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(k, 32, 1), nn.Conv1d(32, 128, 1)
        self.fc1, self.fc2 = nn.Linear(128, 64), nn.Linear(64, k * k)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(32), nn.BatchNorm1d(128), nn.BatchNorm1d(64)
        self.k = k

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = torch.max(x, 2, keepdim=True)[0]
        x = x.view(-1, 128)
        x = self.fc2(F.relu(self.bn3(self.fc1(x))))
        iden = torch.eye(self.k, device=x.device).view(1, self.k * self.k).repeat(x.size(0), 1)
        return (x + iden).view(-1, self.k, self.k)


class PointNet(nn.Module):
    """Qi et al. 2017, "PointNet", figure 2, classification; a quarter of the widths. Input (1, 3, points)."""

    def __init__(self, classes=8):
        super().__init__()
        self.stn, self.fstn = TNet(3), TNet(32)
        self.conv1, self.conv2, self.conv3 = nn.Conv1d(3, 32, 1), nn.Conv1d(32, 96, 1), nn.Conv1d(96, 256, 1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(32), nn.BatchNorm1d(96), nn.BatchNorm1d(256)
        self.fc1, self.fc2, self.fc3 = nn.Linear(256, 128), nn.Linear(128, 64), nn.Linear(64, classes)
        self.bn4, self.bn5 = nn.BatchNorm1d(128), nn.BatchNorm1d(64)
        self.dropout = nn.Dropout(p=0.3)

    def forward(self, x):
        trans = self.stn(x)
        x = torch.bmm(x.transpose(2, 1), trans).transpose(2, 1)
        x = F.relu(self.bn1(self.conv1(x)))
        trans_feat = self.fstn(x)
        x = x.transpose(2, 1)
        x = torch.bmm(x, trans_feat)
        x = x.transpose(2, 1)
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        x = torch.max(x, 2, keepdim=True)[0]
        x = x.view(-1, 256)
        x = F.relu(self.bn4(self.fc1(x)))
        x = F.relu(self.bn5(self.dropout(self.fc2(x))))
        return F.log_softmax(self.fc3(x), dim=1), trans_feat


class SpatialTransformer(nn.Module):
    """Jaderberg et al. 2015, "Spatial transformer networks", figure 2, before a small classifier."""

    def __init__(self):
        super().__init__()
        self.localization = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=7),
            nn.MaxPool2d(2, stride=2),
            nn.ReLU(True),
            nn.Conv2d(16, 24, kernel_size=5),
            nn.MaxPool2d(2, stride=2),
            nn.ReLU(True),
        )
        self.fc_loc = nn.Sequential(nn.Linear(24 * 3 * 3, 32), nn.ReLU(True), nn.Linear(32, 3 * 2))
        self.fc_loc[2].bias.data.copy_(torch.tensor([1, 0, 0, 0, 1, 0], dtype=torch.float))
        self.conv1, self.conv2 = nn.Conv2d(1, 32, kernel_size=5), nn.Conv2d(32, 64, kernel_size=5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1, self.fc2 = nn.Linear(1024, 64), nn.Linear(64, 10)

    def stn(self, x):
        xs = self.localization(x)
        xs = xs.view(-1, 24 * 3 * 3)
        theta = self.fc_loc(xs)
        theta = theta.view(-1, 2, 3)
        grid = F.affine_grid(theta, x.size(), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    def forward(self, x):
        x = self.stn(x)
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = x.view(-1, 1024)
        return self.fc2(F.dropout(F.relu(self.fc1(x)), training=self.training))


class GraphConvBlock(nn.Module):
    """A 1x1 convolution to one map a partition, summed over neighbours, then a convolution over time."""

    def __init__(self, c_in, c_out, partitions, stride=1):
        super().__init__()
        self.k = partitions
        self.gcn = nn.Conv2d(c_in, c_out * partitions, 1)
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(c_out, c_out, (9, 1), (stride, 1), (4, 0)),
            nn.BatchNorm2d(c_out),
            nn.Dropout(0.5, inplace=True),
        )
        self.residual = nn.Sequential(nn.Conv2d(c_in, c_out, 1, (stride, 1)), nn.BatchNorm2d(c_out))

    def forward(self, x, adjacency):
        res = self.residual(x)
        x = self.gcn(x)
        n, kc, t, v = x.size()
        x = x.view(n, self.k, kc // self.k, t, v)
        x = torch.einsum("nkctv,kvw->nctw", x, adjacency)
        return F.relu(self.tcn(x.contiguous()) + res)


class STGCN(nn.Module):
    """Yan et al. 2018, "Spatial temporal graph convolutional networks". Input (1, 3, time, joints)."""

    def __init__(self, joints=9, partitions=3, classes=6):
        super().__init__()
        self.register_buffer("A", torch.rand(partitions, joints, joints) / joints)
        self.edge_importance = nn.Parameter(torch.rand(partitions, joints, joints) + 0.5)
        self.data_bn = nn.BatchNorm1d(3 * joints)
        rows = ((3, 32, 1), (32, 48, 2), (48, 64, 2))
        self.blocks = nn.ModuleList(GraphConvBlock(i, o, partitions, s) for i, o, s in rows)
        self.fcn = nn.Conv2d(64, classes, kernel_size=1)

    def forward(self, x):
        n, c, t, v = x.size()
        x = x.permute(0, 3, 1, 2).contiguous().view(n, v * c, t)
        x = self.data_bn(x)
        x = x.view(n, v, c, t).permute(0, 2, 3, 1).contiguous()
        for block in self.blocks:
            x = block(x, self.A * self.edge_importance)
        x = F.avg_pool2d(x, x.size()[2:])
        return self.fcn(x).view(n, -1)


class C3D(nn.Module):
    """Tran et al. 2015, "Learning spatiotemporal features with 3D convolutional networks", figure 3; four levels.

    Input (1, 3, frames, H, W).
    """

    def __init__(self, classes=8):
        super().__init__()
        self.conv1, self.pool1 = nn.Conv3d(3, 16, (3, 3, 3), padding=1), nn.MaxPool3d((1, 2, 2), (1, 2, 2))
        self.conv2, self.pool2 = nn.Conv3d(16, 32, (3, 3, 3), padding=1), nn.MaxPool3d((2, 2, 2), (2, 2, 2))
        self.conv3a, self.conv3b = nn.Conv3d(32, 64, 3, padding=1), nn.Conv3d(64, 64, 3, padding=1)
        self.bn3 = nn.BatchNorm3d(64)
        self.pool3 = nn.AvgPool3d(2)
        self.fc6, self.fc7 = nn.Linear(64 * 2 * 4 * 4, 64), nn.Linear(64, classes)

    def forward(self, x):
        h = self.pool1(F.relu(self.conv1(x)))
        h = self.pool2(F.relu(self.conv2(h)))
        h = self.pool3(F.relu(self.bn3(self.conv3b(F.relu(self.conv3a(h))))))
        h = h.view(-1, 64 * 2 * 4 * 4)
        return self.fc7(F.dropout(F.relu(self.fc6(h)), 0.5, self.training))
