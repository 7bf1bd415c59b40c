"""VGG-11 with batch norm: Simonyan and Zisserman 2015, arXiv:1409.1556, table 1, column A."""

from __future__ import annotations

from torch import Tensor, nn

from edgeprune.models.zoo.layers import conv_bn, scaled

_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class VGG(nn.Module):
    def __init__(self, num_classes: int, in_channels: int, width: float, image: int, hidden: int) -> None:
        super().__init__()
        self.features = nn.Sequential()
        c = in_channels
        for stage in _STAGES:
            for channels in stage:
                c_out = scaled(channels, width)
                self.features.append(conv_bn(c, c_out, 3))
                c = c_out
            self.features.append(nn.MaxPool2d(2))
        self.classifier = nn.Sequential(
            nn.Linear(c * (image // 32) ** 2, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


def vgg11_bn(
    *, num_classes: int = 10, in_channels: int = 3, width: float = 1.0, image: int = 32, hidden: int = 512
) -> nn.Module:
    """Input 3 x ``image`` x ``image``. One hidden layer instead of the paper's two.

    Raises:
        ValueError: an image side that five halvings do not divide.
    """
    if image < 32 or image % 32:
        raise ValueError(f"image must be a multiple of 32, not {image}")
    return VGG(num_classes, in_channels, width, image, hidden)
