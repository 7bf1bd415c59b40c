"""Classification of images or of pixels: cross entropy, and the share of right labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from edgeprune.errors import BadInputError
from edgeprune.models.outputs import as_logits
from edgeprune.training.distill import distil_loss
from edgeprune.training.tasks.task import Metric, Task

ACCURACY = "accuracy"


@dataclass(slots=True)
class RightLabels:
    """Share of examples whose largest logit is their label, 0 to 1 (of pixels, for segmentation)."""

    right: int = 0
    count: int = 0

    def update(self, outputs: Any, targets: Any) -> None:
        """Add logits (N, K) or (N, K, H, W) with labels (N,) or (N, H, W).

        Raises:
            BadInputError: shapes that do not belong together, or logits that are not finite.
        """
        logits, labels = np.asarray(only(outputs)), np.asarray(targets)
        if logits.shape[:1] + logits.shape[2:] != labels.shape:
            raise BadInputError(f"logits of the shape {logits.shape} do not go with labels of the shape {labels.shape}")
        if not np.isfinite(logits).all():
            raise BadInputError("the logits hold NaN or infinity", hint="the network or its weights are broken")
        self.right += int((logits.argmax(axis=1) == labels).sum())
        self.count += labels.size

    def compute(self) -> float:
        return self.right / self.count if self.count else float("nan")


def classification(label_smoothing: float = 0.0) -> Task:
    """Cross entropy of logits (N, K) or (N, K, H, W) and labels; judged by the share of right labels."""

    def loss(outputs: Any, targets: Any) -> Tensor:
        logits = as_logits(only(outputs))
        require_labels(targets, logits.shape[1])
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)

    return Task(
        "classification",
        Metric(ACCURACY, RightLabels),
        loss,
        distil=lambda s, t, temperature: distil_loss(as_logits(only(s)), as_logits(only(t)), temperature),
        # A softmax is undone once, for both losses together.
        prepared=lambda outputs: as_logits(only(outputs)),
    )


def learns_labels(task: Task) -> bool:
    """Whether a task is judged by the share of right labels."""
    return task.metric.start is RightLabels


def only(outputs: Any) -> Tensor:
    """The one output that holds logits: the outputs themselves, or the first of several.

    Raises:
        BadInputError: there is none.
    """
    while isinstance(outputs, tuple | list | dict) and outputs:
        outputs = next(iter(outputs.values())) if isinstance(outputs, dict) else outputs[0]
    if not isinstance(outputs, Tensor) or outputs.dim() < 2:
        raise BadInputError(
            "the network has no output of logits (N, classes, …)", hint="give another task, or one of your own"
        )
    return outputs


def require_labels(targets: Any, classes: int, ignored: int = -100) -> None:
    """Refuse targets that are no labels of so many classes.

    Raises:
        BadInputError
    """
    if not isinstance(targets, Tensor) or targets.is_floating_point():
        raise BadInputError("the targets are no integer labels", hint="give --task for what they are (docs/TASKS.md)")
    counted = targets[targets != ignored]
    if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < classes:
        raise BadInputError(
            f"labels from {int(counted.min())} to {int(counted.max())}, and the network tells {classes} classes apart",
            hint="load the network with num_classes",
            classes=classes,
        )
