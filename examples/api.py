"""The Python API on this computer in under a minute: a network and images of one's own, a fake board, no download.

The board is ``fake:``: real programs run, on a virtual clock, so every latency below is simulated. For a real board,
give its target and URL: ``target="rpi4", device="ssh://pi@board"``.

    python examples/api.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import edgeprune


class Net(nn.Module):
    """Three convolutions, one of them in a residual block: (N, 1, 12, 12) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(16, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.outer = nn.Sequential(nn.Conv2d(32, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = torch.relu(x + self.outer(self.inner(x)))
        scores: Tensor = self.head(x.mean((2, 3)))
        return scores


def images(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise with a stripe that lies across, upright or along a diagonal: four classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    x = 0.4 * torch.randn((n, 1, 12, 12), generator=generator)
    places = torch.randint(3, 9, (n,), generator=generator)
    for image, label, at in zip(x, labels.tolist(), places.tolist(), strict=True):
        steps = torch.arange(12)
        rows = (torch.full((12,), at), steps, steps, 11 - steps)[label]
        columns = (steps, torch.full((12,), at), steps, steps)[label]
        image[0, rows, columns] += 2.0
    return x, labels


def main(folder: Path) -> None:
    torch.manual_seed(0)
    net, (x, y), test = Net(), images(800, 1), images(200, 2)
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(12):
        for rows in torch.randperm(len(x)).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimiser.step()

    board = {"device": f"fake:{folder / 'board'}", "store": folder / "profiles.sqlite3"}
    profile = edgeprune.profile(net, example_inputs=(1, 1, 12, 12), tune=1, **board)
    print(profile)
    profile.plot(profile.layers()[1].name).savefig(folder / "layer.png")
    profile.export(folder / "table.jsonl")

    fit = edgeprune.fit(
        net,
        example_inputs=(1, 1, 12, 12),
        latency="60%",
        data=(x, y, *test),
        out=folder / "run",
        tune=1,
        baseline=False,
        **board,
    )
    print(fit)
    fit.plot().savefig(folder / "milliseconds.png")
    print("installed:", edgeprune.bench(board["device"], repeats=5))
    print("again from the folder:", repr(edgeprune.load_run(folder / "run", model=net, example_inputs=(1, 1, 12, 12))))
    print("report:", fit.paths["report_html"])


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/api").resolve()
    place.mkdir(parents=True, exist_ok=True)
    main(place)
