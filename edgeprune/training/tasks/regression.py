"""Regression: mean squared error; judged by the mean absolute error."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves

from edgeprune.errors import BadInputError
from edgeprune.training.tasks.task import Metric, Task


class _Errors:
    def __init__(self) -> None:
        self.absolute, self.squared, self.count = 0.0, 0.0, 0

    def update(self, outputs: Any, targets: Any) -> None:
        for o, t in pairs(outputs, targets):
            difference = (o - t).double()
            self.absolute += float(difference.abs().sum())
            self.squared += float(difference.square().sum())
            self.count += difference.numel()

    def compute(self) -> dict[str, float]:
        count = max(self.count, 1)
        return {"mean absolute error": self.absolute / count, "mean squared error": self.squared / count}


def regression() -> Task:
    """Mean squared error of all outputs, in the unit of the targets; judged by the mean absolute error."""

    def loss(outputs: Any, targets: Any) -> Tensor:
        return torch.stack([F.mse_loss(o, t) for o, t in pairs(outputs, targets)]).mean()

    metric = Metric("mean absolute error", _Errors, unit="", higher_is_better=False)
    return Task("regression", metric, loss)


def pairs(outputs: Any, targets: Any) -> list[tuple[Tensor, Tensor]]:
    """Outputs and targets side by side; targets (N,) go with outputs (N, 1).

    Raises:
        BadInputError: they do not go together.
    """
    found = [o for o in tree_leaves(outputs) if isinstance(o, Tensor)]
    wanted = [t.to(torch.float32) for t in tree_leaves(targets) if isinstance(t, Tensor)]
    if len(found) != len(wanted) or any(
        o.numel() != t.numel() or len(o) != len(t) for o, t in zip(found, wanted, strict=True)
    ):
        shapes = [[tuple(t.shape) for t in side] for side in (found, wanted)]
        raise BadInputError(
            f"outputs of the shapes {shapes[0]} do not go with targets of the shapes {shapes[1]}",
            hint="give one target for each output, in its shape",
        )
    return [(o, t.reshape(o.shape)) for o, t in zip(found, wanted, strict=True)]
