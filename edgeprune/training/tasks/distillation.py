"""Distillation as a task: no labels; the pruned network should give what the dense one gives, output by output."""

from __future__ import annotations

from typing import Any

from edgeprune.training.distill import looks_like_classes, real_pairs
from edgeprune.training.tasks.task import Metric, Task

AGREEMENT = "agreement with the dense network"


class _Agreement:
    """Of each output: for (N, K), the share of samples with the same largest entry; else one less the norm of the
    difference relative to the dense network's, at least 0. The mean over outputs.
    """

    def __init__(self) -> None:
        self.same: dict[int, tuple[int, int]] = {}
        self.norms: dict[int, tuple[float, float]] = {}

    def update(self, outputs: Any, targets: Any) -> None:
        for number, (ours, dense) in enumerate(real_pairs(outputs, targets)):
            if looks_like_classes(dense):
                same, count = self.same.get(number, (0, 0))
                self.same[number] = same + int((ours.argmax(1) == dense.argmax(1)).sum()), count + len(dense)
            else:
                apart, whole = self.norms.get(number, (0.0, 0.0))
                apart += float((ours - dense).double().square().sum())
                self.norms[number] = apart, whole + float(dense.double().square().sum())

    def compute(self) -> float:
        shares = [same / count for same, count in self.same.values()]
        shares += [max(0.0, 1 - (d / w) ** 0.5) if w else float(d == 0) for d, w in self.norms.values()]
        return sum(shares) / len(shares) if shares else float("nan")


def distillation() -> Task:
    """Label-free: all real outputs are drawn to the dense network's (:func:`edgeprune.training.distill.match`)."""
    return Task("distillation", Metric(AGREEMENT, _Agreement), targets="dense")
