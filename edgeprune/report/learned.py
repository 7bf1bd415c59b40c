"""What a report says of learning: the data, the task, and the figure of its metric."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

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


class Noise(Strict):
    """The metric under Gaussian noise in the inputs; ``strength`` is relative to their standard deviation."""

    strength: Annotated[float, Field(gt=0)]
    value: float


TORCH: Literal["torch"] = "torch"
"""Evidence of what torch computed on this computer with the weights of a network, and no program."""


class Robustness(Strict):
    """The metric of one network under noise, and on either half of the data: at most ``samples`` of each.

    ``gap`` is how much better the training half is scored than the test half. ``train`` and ``gap`` are null where the
    training half had no targets of its own.
    """

    metric: str
    unit: str
    higher_is_better: bool
    evidence: Evidence | Literal["torch"]
    samples: Count
    test: float
    train: float | None = None
    gap: float | None = None
    noise: tuple[Noise, ...] = ()

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if (self.train is None) is not (self.gap is None):
            raise ValueError("a gap is one between two halves: train and gap go together")
        if [n.strength for n in self.noise] != sorted({n.strength for n in self.noise}):
            raise ValueError("the strengths of noise do not ascend")
        return self


class Data(Strict):
    """What the network was trained and judged on, and for which task.

    ``train`` and ``test`` count samples; ``images`` says how image files were read, and is empty for arrays.
    """

    name: str
    task: str
    train: Count
    test: Count
    images: str = ""
