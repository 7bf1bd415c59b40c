"""The strength of a penalty: it follows the sparsity that was reached and the accuracy that is left."""

from __future__ import annotations

from typing import Any

from edgeprune.errors import UsageError
from edgeprune.training.tasks.task import Score

_RANGE = 1000.0
"""How much stronger it may become over all steps in which it follows."""
_BACK = 0.5


class Strength:
    """Multiplied up while less is gone than was planned by now, down while more is.

    Where the task's figure falls by more than ``drop`` below its best, the strength is halved, and does not grow until
    the figure is back.

    Args:
        value: the strength at the start.
        target: the share that is gone at the end; 0: the strength stays as it is.
        drop: the most that the task's figure may lose, in its own unit; 0: it is not looked at.
    """

    def __init__(self, value: float, target: float, drop: float = 0.0) -> None:
        for what, number, right in (
            ("strength", value, value > 0),
            ("target", target, 0 <= target < 1),
            ("drop", drop, drop >= 0),
        ):
            if not right:
                raise UsageError(f"the {what} of a sparsity cannot be {number:g}")
        self.value, self.target, self.drop = value, target, drop
        self._best: float | None = None
        self._factor = _factor(100)
        self.held = False
        """Whether accuracy is too low at present for more to go."""

    @property
    def judges(self) -> bool:
        """Whether it goes by the task's figure."""
        return bool(self.drop)

    def state(self) -> dict[str, Any]:
        return {"value": self.value, "best": self._best, "held": self.held}

    def restore(self, state: dict[str, Any]) -> None:
        self.value, self._best, self.held = state["value"], state["best"], state["held"]

    def begin(self, steps: int) -> None:
        """Told how many steps it has to get there."""
        self._factor = _factor(steps)

    def follow(self, gone: float, planned: float) -> None:
        """Take note of the share that is gone, beside the share that should be by now."""
        if self.target:
            self.value *= self._factor if gone < planned and not self.held else 1 / self._factor

    def judge(self, score: Score) -> None:
        """Take note of the task's figure after an epoch."""
        value = score.value if score.higher_is_better else -score.value
        self._best = value if self._best is None else max(self._best, value)
        self.held = bool(self.drop) and value < self._best - self.drop
        if self.held:
            self.value *= _BACK


def _factor(steps: int) -> float:
    return min(1.5, float(_RANGE ** (1 / max(1, steps))))
