"""Seconds it takes to read a network: width groups and kernels, export excluded.

    python benchmarks/analysis.py [--json]

resnet50 (bar 5 s), DenseNet-121 and a chain of 1,000 residual layers (bars 20 s), **measured**, the best of three.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from edgeprune.graph.cutting.cut import cut
from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace
from edgeprune.models.zoo import build

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from architectures.residual import DenseNet

ROUNDS = 3
T = TypeVar("T")


class Chain(nn.Module):
    """``depth`` residual layers, one behind the other."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = x + torch.relu(layer(x))
        return x


@dataclass(frozen=True)
class Row:
    network: str
    nodes: int
    groups: int
    kernels: int
    analyse_s: float
    cut_s: float
    export_s: float
    bar_s: float
    evidence: str = "measured"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [
        row("resnet50", build("resnet50"), 224, 5),
        row("densenet121", DenseNet(growth=32, blocks=(6, 12, 24, 16), num_classes=1000).eval(), 224, 20),
        row("1,000 residual layers", Chain(1000).eval(), 8, 20),
    ]
    if options.json:
        print(json.dumps([asdict(r) for r in rows], indent=1))
    for r in () if options.json else rows:
        print(
            f"{r.network:24}{r.nodes:6} nodes{r.groups:6} groups{r.kernels:6} kernels   groups {r.analyse_s:7.3f} s   "
            f"kernels {r.cut_s:7.3f} s   (bar {r.bar_s:.0f} s; export {r.export_s:.1f} s)"
        )
    return 0


def row(name: str, module: nn.Module, side: int, bar: float) -> Row:
    begin = time.perf_counter()
    program = trace(module, (torch.zeros(1, 3, side, side),))
    export = time.perf_counter() - begin
    analysis, groups = timed(lambda: analyse(program))
    graph, kernels = timed(lambda: cut(program, analysis))
    nodes = len(program.graph.nodes)
    return Row(name, nodes, len(analysis.graph.groups), len(graph.nodes), groups, kernels, export, bar)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """The result, and the seconds of the quickest of several rounds."""
    seconds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - begin)
    return result, min(seconds)


if __name__ == "__main__":
    sys.exit(main())
