"""What a report says of learning: the data, the task, and the figure of its metric."""

from __future__ import annotations

from pydantic import Field

from edgeprune.report.strict import Count, Evidence, Strict


class Metric(Strict):
    """The figure of a task's metric, from the outputs of the network's program. ``others`` came from the same pass."""

    name: str
    value: float
    unit: str
    higher_is_better: bool
    evidence: Evidence
    samples: Count | None = None
    others: dict[str, float] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.evidence


class Data(Strict):
    """What the network was trained and judged on, and for which task.

    ``train`` and ``test`` count samples; ``images`` says how image files were read, and is empty for arrays.
    """

    name: str
    task: str
    train: Count
    test: Count
    images: str = ""
