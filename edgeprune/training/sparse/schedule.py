"""How the share of what is gone grows over a training."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.errors import UsageError
from edgeprune.methods import chosen

SCHEDULES = ("cubic", "linear", "geometric", "once")


@dataclass(frozen=True, slots=True)
class Schedule:
    """From 0 to ``final`` over the first part of a training, ``ramp`` of its steps; what follows trains what is left.

    ``cubic`` takes much at first, while there is much to spare (Zhu and Gupta 2017, arXiv:1710.01878): 1 - (1 - t)^3
    of the final share; ``linear`` takes t of it; ``geometric`` leaves (1 - final)^t, the same part of the rest in each
    step (Frankle and Carbin 2019, arXiv:1803.03635); ``once`` takes all at the start.

    Attributes:
        final: the share that is gone at the end, 0 to below 1.
    """

    name: str
    final: float
    ramp: float = 0.6

    def __post_init__(self) -> None:
        chosen("a sparsity or of passes", "schedule", self.name, SCHEDULES)
        for what, value, right in (
            ("share that goes", self.final, 0 <= self.final < 1),
            ("ramp of a schedule", self.ramp, 0 < self.ramp <= 1),
        ):
            if not right:
                raise UsageError(f"the {what} cannot be {value:g}", hint="it is a share: from 0 to below 1")

    def share(self, part: float) -> float:
        """What is gone when a part of the training, 0 to 1, is over."""
        t = min(1.0, part / self.ramp)
        if self.name == "once" or t == 1:
            return self.final
        if self.name == "linear":
            return self.final * t
        if self.name == "geometric":
            return 1 - float((1 - self.final) ** t)
        return self.final * (1 - (1 - t) ** 3)
