"""Early stopping: the epoch that is best on samples held out of the training half, and when none gets better.

The test half is not asked: a figure that chose the weights is no figure of what they are worth elsewhere (Prechelt
1998, "Early Stopping - But When?").

With one cycle, the learning rate rises first and figures fall with it, and companions take weights away meanwhile. So
an epoch counts once both are over: it may be chosen, and it is waited for.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from edgeprune.errors import UsageError
from edgeprune.training.evaluate import evaluate
from edgeprune.training.halves import Half
from edgeprune.training.tasks.task import Score, Task

VALIDATION = 0.1
"""The share of the training half that is held out."""


def check_early_stop(patience: int | None, share: float) -> None:
    """Raises UsageError for a patience in epochs, or a share of samples that are held out, that make no sense."""
    if patience is not None and patience < 1:
        raise UsageError(f"early stop after {patience} epochs makes no sense", hint="give 1 or more, or leave it away")
    if not 0 < share <= 0.5:
        raise UsageError(f"a share of {share:g} of the training half cannot be held out", hint="give 0.1, say")


class HeldOut:
    """Samples that no step sees, and the weights of the epoch that was best on them.

    Args:
        patience: epochs without a better figure after which a training ends; 0: nothing is chosen.
    """

    def __init__(self, half: Half, task: Task, patience: int) -> None:
        self.half, self.task, self.patience = half, task, patience
        self.chosen, self._best, self._waited = 0, -math.inf, 0
        self._weights: dict[str, Tensor] = {}

    def score(self, module: nn.Module) -> Score:
        return evaluate(module, self.half, self.task)

    def judge(self, module: nn.Module, score: Score, epoch: int, *, counts: bool) -> None:
        """Take note of an epoch.

        Args:
            epoch: its number, from 1.
            counts: whether its weights may be chosen.
        """
        if not self.patience or not counts:
            return
        value = score.value if score.higher_is_better else -score.value
        self._waited += 1
        if value > self._best:
            self.chosen, self._best, self._waited = epoch, value, 0
            self._weights = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @property
    def over(self) -> bool:
        """Whether the training has waited for long enough."""
        return 0 < self.patience <= self._waited

    def put_back(self, module: nn.Module) -> None:
        """Give the module the weights of the epoch that was chosen, if one was."""
        if self._weights:
            module.load_state_dict(self._weights)

    def state(self) -> dict[str, Any]:
        best = self._best if self.chosen else None
        return {"chosen": self.chosen, "best": best, "waited": self._waited, "weights": self._weights}

    def restore(self, state: dict[str, Any]) -> None:
        self.chosen, self._waited, self._weights = state["chosen"], state["waited"], state["weights"]
        self._best = -math.inf if state["best"] is None else state["best"]
