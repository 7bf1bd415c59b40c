"""A network of 1x1 convolutions, of whose blocks of weights a few are worth much, and data that it can learn."""

import torch
from torch import Tensor, nn

from edgeprune.graph.ops.convolution import BLOCK


def pointwise(read: int, written: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(read, written, 1, bias=False), nn.BatchNorm2d(written), nn.ReLU())


class Net(nn.Module):
    """(N, 3, 8, 8) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), pointwise(32, 64), pointwise(64, 64))
        self.pool, self.head = nn.MaxPool2d(8), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(self.body(x)).flatten(1))
        return logits


def net() -> nn.Module:
    torch.manual_seed(0)
    made = Net()
    for block in (made.body[2], made.body[3]):
        assert isinstance(block, nn.Sequential)
        layer = block[0]
        assert isinstance(layer, nn.Conv2d)
        with torch.no_grad():
            rows = len(layer.weight) // BLOCK
            worth = (torch.rand(rows, layer.in_channels) < 0.4).float() * 0.95 + 0.05
            layer.weight *= worth.repeat_interleave(BLOCK, 0)[..., None, None]
    return made.eval()


def data() -> dict[str, Tensor]:
    """Which of four columns is bright."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 4, (320,), generator=generator)
    x = torch.randn(320, 3, 8, 8, generator=generator) * 0.3
    x[torch.arange(320), 0, :, 2 * y] += 1.5
    x[torch.arange(320), y % 3, y] += 1.0
    return {"x_train": x[:256], "y_train": y[:256], "x_test": x[256:], "y_test": y[256:]}


class Removable(nn.Module):
    """(N, 3, 8, 8) -> (N, 4), with a branch of 1x1 convolutions that may go whole, added in the kernel of another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 32, 3, padding=1), nn.Linear(32, 4)
        self.main = nn.Conv2d(32, 32, 1)
        self.branch = nn.Sequential(nn.Conv2d(32, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.branch(x) + self.main(x))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def removable() -> nn.Module:
    torch.manual_seed(0)
    return Removable().eval()
