"""What a training tells: the figures of its epochs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from edgeprune.training.tasks.task import Score


@dataclass(slots=True)
class History:
    """One entry per epoch: mean training loss, and the figure of the task's metric on the test half.

    Attributes:
        accuracy: where the metric is the share of right labels, 0 to 1; else empty.
        metric: the figures of any other metric, which is called ``metric_name``.
        validation: the figures of samples that were held out of the training half; empty where none were.
        chosen: the epoch whose weights were kept, counted from 1; 0: the last one, since none was chosen.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    metric: list[float] = field(default_factory=list)
    metric_name: str = ""
    validation: list[float] = field(default_factory=list)
    chosen: int = 0

    def add(self, loss: float, score: Score, held_out: Score | None) -> str:
        """Add an epoch; returns its figures in words."""
        self.loss.append(loss)
        (self.metric if self.metric_name else self.accuracy).append(score.value)
        said = f"loss {loss:.4f}, {score.name} {score.value:.4f}"
        if held_out is None:
            return said
        self.validation.append(held_out.value)
        return f"{said}, held out {held_out.value:.4f}"

    def to_json(self) -> dict[str, Any]:
        said = asdict(self)
        left_out = ("accuracy",) if self.metric_name else ("metric", "metric_name")
        chosen = () if self.chosen else ("chosen",)
        unseen = () if self.validation else ("validation",)
        return {k: v for k, v in said.items() if k not in (*left_out, *chosen, *unseen)}
