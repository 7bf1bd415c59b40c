"""Networks that make images: super-resolution, generators, autoencoders, style transfer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class SRBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        residual = self.conv1(x)
        residual = self.bn1(residual)
        residual = self.prelu(residual)
        residual = self.conv2(residual)
        residual = self.bn2(residual)
        return x + residual


class SRResNet(nn.Module):
    """Ledig et al. 2017, "Photo-realistic single image super-resolution", figure 4; half the widths, four blocks."""

    def __init__(self, c=32, blocks=4, scale=4):
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv2d(3, c, kernel_size=9, padding=4), nn.PReLU())
        self.trunk = nn.Sequential(*[SRBlock(c) for _ in range(blocks)])
        self.block7 = nn.Sequential(nn.Conv2d(c, c, kernel_size=3, padding=1), nn.BatchNorm2d(c))
        tail = []
        for _ in range(scale // 2):
            tail += [nn.Conv2d(c, c * 4, kernel_size=3, padding=1), nn.PixelShuffle(2), nn.PReLU(c)]
        tail.append(nn.Conv2d(c, 3, kernel_size=9, padding=4))
        self.block8 = nn.Sequential(*tail)

    def forward(self, x):
        block1 = self.block1(x)
        out = self.block7(self.trunk(block1))
        out = self.block8(block1 + out)
        return (torch.tanh(out) + 1) / 2


class ESPCN(nn.Module):
    """Shi et al. 2016, "Real-time single image and video super-resolution", figure 1, on luma; doubled widths."""

    def __init__(self, upscale_factor=3):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 128, (5, 5), (1, 1), (2, 2))
        self.conv2 = nn.Conv2d(128, 64, (3, 3), (1, 1), (1, 1))
        self.conv3 = nn.Conv2d(64, 64, (3, 3), (1, 1), (1, 1))
        self.conv4 = nn.Conv2d(64, upscale_factor**2, (3, 3), (1, 1), (1, 1))
        self.upscale_factor = upscale_factor

    def forward(self, x):
        x = torch.tanh(self.conv1(x))
        x = torch.tanh(self.conv2(x))
        x = x + F.tanh(self.conv3(x))
        return torch.sigmoid(F.pixel_shuffle(self.conv4(x), self.upscale_factor))


def weights_init(m):
    classname = m.__class__.__name__
    if classname.find("Conv") != -1:
        nn.init.normal_(m.weight.data, 0.0, 0.02)


class Generator(nn.Module):
    """Radford et al. 2016, "Unsupervised representation learning with DCGANs", figure 1; a quarter of the widths."""

    def __init__(self, nz=64, ngf=24, nc=3):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 8, 4, 1, 0, bias=False),
            nn.BatchNorm2d(ngf * 8),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 8, ngf * 4, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf * 4),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 4, ngf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False),
            nn.Tanh(),
        )
        self.apply(weights_init)

    def forward(self, input):
        return self.main(input)


class Discriminator(nn.Module):
    """Radford et al. 2016, section 3: strided convolutions and leaky ReLU, no pooling, no linear layer."""

    def __init__(self, ndf=24, nc=3):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(nc, ndf, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ndf * 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf * 2, ndf * 4, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ndf * 4),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf * 4, ndf * 8, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ndf * 8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf * 8, 1, 4, 1, 0, bias=False),
            nn.Sigmoid(),
        )
        self.apply(weights_init)

    def forward(self, input):
        return self.main(input).view(-1, 1).squeeze(1)


class LinearGenerator(nn.Module):
    """A generator of the other common kind: a linear layer unflattened to a map, then resize and convolve."""

    def __init__(self, nz=64, c=64, size=8):
        super().__init__()
        self.size, self.c = size, c
        self.l1 = nn.Sequential(nn.Linear(nz, c * size**2))
        self.conv_blocks = nn.Sequential(
            nn.BatchNorm2d(c),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(c, c, 3, stride=1, padding=1),
            nn.BatchNorm2d(c, 0.8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(c, c // 2, 3, stride=1, padding=1),
            nn.BatchNorm2d(c // 2, 0.8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(c // 2, 1, 3, stride=1, padding=1),
            nn.Tanh(),
        )

    def forward(self, z):
        out = self.l1(z)
        out = out.view(out.shape[0], self.c, self.size, self.size)
        return self.conv_blocks(out)


class AutoEncoder(nn.Module):
    """Masci et al. 2011, "Stacked convolutional auto-encoders": through a vector; grouped and padded transposes."""

    def __init__(self, latent=32):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ELU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ELU(inplace=True),
            nn.Conv2d(32, 64, 7),
        )
        self.to_latent = nn.Linear(64, latent)
        self.from_latent = nn.Linear(latent, 64)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(64, 32, 7),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 32, 3, stride=2, padding=1, output_padding=1, groups=4),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 16, 3, padding=1, groups=16),
            nn.Softplus(),
            nn.Conv2d(16, 1, 1),
        )

    def forward(self, x):
        z = self.to_latent(self.encoder(x).flatten(1))
        y = self.from_latent(z).unsqueeze(-1).unsqueeze(-1)
        return torch.sigmoid(self.decoder(y)), z


class ConvLayer(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride, upsample=None):
        super().__init__()
        self.upsample = upsample
        self.reflection_pad = nn.ReflectionPad2d(kernel_size // 2)
        self.conv2d = nn.Conv2d(in_channels, out_channels, kernel_size, stride)

    def forward(self, x):
        if self.upsample:
            x = F.interpolate(x, mode="nearest", scale_factor=self.upsample)
        return self.conv2d(self.reflection_pad(x))


class StyleTransfer(nn.Module):
    """Johnson et al. 2016, "Perceptual losses", with instance norm (Ulyanov et al. 2016); half the widths."""

    class Residual(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.conv1, self.in1 = ConvLayer(c, c, 3, 1), nn.InstanceNorm2d(c, affine=True)
            self.conv2, self.in2 = ConvLayer(c, c, 3, 1), nn.InstanceNorm2d(c, affine=True)

        def forward(self, x):
            out = F.relu(self.in1(self.conv1(x)))
            return self.in2(self.conv2(out)) + x

    def __init__(self, blocks=3):
        super().__init__()
        self.conv1, self.in1 = ConvLayer(3, 16, 9, 1), nn.InstanceNorm2d(16, affine=True)
        self.conv2, self.in2 = ConvLayer(16, 32, 3, 2), nn.InstanceNorm2d(32, affine=True)
        self.conv3, self.in3 = ConvLayer(32, 64, 3, 2), nn.InstanceNorm2d(64, affine=True)
        self.res = nn.Sequential(*(self.Residual(64) for _ in range(blocks)))
        self.deconv1, self.in4 = ConvLayer(64, 32, 3, 1, upsample=2), nn.InstanceNorm2d(32, affine=True)
        self.deconv2, self.in5 = ConvLayer(32, 16, 3, 1, upsample=2), nn.InstanceNorm2d(16)
        self.deconv3 = ConvLayer(16, 3, 9, 1)
        self.relu = nn.ReLU()

    def forward(self, x):
        y = self.relu(self.in1(self.conv1(x)))
        y = self.relu(self.in2(self.conv2(y)))
        y = self.relu(self.in3(self.conv3(y)))
        y = self.res(y)
        y = self.relu(self.in4(self.deconv1(y)))
        y = self.relu(self.in5(self.deconv2(y)))
        return self.deconv3(y)
