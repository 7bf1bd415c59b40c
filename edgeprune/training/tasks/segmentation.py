"""Segmentation: cross entropy of pixels, mean intersection over union, and the share of right pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeprune.models.outputs import as_logits
from edgeprune.training.distill import distil_loss
from edgeprune.training.tasks.classification import only, require_labels
from edgeprune.training.tasks.task import Metric, Task


@dataclass(slots=True)
class Confusion:
    """Pixels by their class and the class that the network names; the mean IoU over classes that occur in either."""

    ignored: int
    table: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))

    def update(self, outputs: Any, targets: Any) -> None:
        """Add logits (N, K, h, w) with labels (N, H, W); smaller logits are enlarged first, as in training."""
        logits = resized(only(outputs), targets)
        classes = logits.shape[1]
        require_labels(targets, classes, self.ignored)
        if not len(self.table):
            self.table = torch.zeros(classes, classes, dtype=torch.long)
        seen = targets != self.ignored
        pairs = targets[seen] * classes + logits.argmax(1)[seen]
        self.table += torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def compute(self) -> dict[str, float]:
        right = self.table.diagonal().double()
        union = self.table.sum(0) + self.table.sum(1) - self.table.diagonal()
        found = union > 0
        mean = float((right[found] / union[found]).mean()) if bool(found.any()) else float("nan")
        return {"mean IoU": mean, "pixel accuracy": float(right.sum() / max(int(self.table.sum()), 1))}


def segmentation(ignored: int = 255) -> Task:
    """Cross entropy of logits (N, K, h, w) and labels (N, H, W); judged by the mean IoU.

    Args:
        ignored: the label of pixels that count nowhere.
    """

    def loss(outputs: Any, targets: Any) -> Tensor:
        logits = as_logits(resized(only(outputs), targets))
        require_labels(targets, logits.shape[1], ignored)
        return F.cross_entropy(logits, targets, ignore_index=ignored)

    return Task(
        "segmentation",
        Metric("mean IoU", lambda: Confusion(ignored)),
        loss,
        distil=lambda s, t, temperature: distil_loss(as_logits(only(s)), as_logits(only(t)), temperature),
    )


def resized(logits: Tensor, targets: Tensor) -> Tensor:
    """Logits in the size of their labels, interpolated."""
    if logits.shape[2:] == targets.shape[1:]:
        return logits
    return F.interpolate(logits, targets.shape[1:], mode="bilinear", align_corners=False)
