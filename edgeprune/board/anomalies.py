"""Anomalous samples: what the native program says of inputs that its network was not made for (docs/BOARD.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeprune.errors import AnomalousInputError, UsageError
from edgeprune.jsonable import Jsonable

GUARD, REFUSE, FLAG, OFF = "guard", "refuse", "flag", "off"
MODES = (GUARD, REFUSE, FLAG, OFF)
"""What is done with an anomalous sample: refused if it is not finite, else flagged; refused; flagged; nothing."""
KEY = "anomaly"


@dataclass(frozen=True, slots=True)
class Anomaly(Jsonable):
    """One input of one sample that is anomalous.

    Attributes:
        sample: which of the stacked samples, from 0.
        input: name of the input.
        value: the first value that is not finite, else the first outside the range.
        element: its place in the sample, row-major; ``position`` is the same as an index of each dimension.
        not_finite, outside: how many values are NaN or infinite, and how many are finite and outside the range.
        range: finite values below the first or above the second are outside; None where no data were known.
    """

    sample: int
    input: str
    value: float
    element: int
    position: tuple[int, ...]
    not_finite: int
    outside: int
    range: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields; JSON has no NaN and no infinity, so these are strings."""
        said = Jsonable.to_json(replace(self, value=0.0))
        return {**said, "value": self.value if math.isfinite(self.value) else str(self.value)}

    def __str__(self) -> str:
        place = f"{self.value:g} at {list(self.position)} of sample {self.sample}"
        if self.not_finite:
            return f"input {self.input!r} holds {self.not_finite} values that are NaN or infinite: {place}"
        low, high = self.range or (-math.inf, math.inf)
        return f"input {self.input!r} holds {self.outside} values outside {low:g} to {high:g}: {place}"


def require_mode(mode: str) -> None:
    """Raises UsageError for a word that is no mode."""
    if mode not in MODES:
        raise UsageError(f"{mode!r} says nothing of anomalies", hint=f"give one of {', '.join(MODES)}")


def anomalies_in(stdout: str) -> tuple[Anomaly, ...]:
    """The anomalous samples that a program printed, in its order; lines that say something else are left out."""
    found = []
    for line in stdout.splitlines():
        try:
            said = json.loads(line)[KEY]
            found.append(Anomaly.from_json({**said, "value": float(said["value"])}))
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    return tuple(found)


def refused(found: Sequence[Anomaly], mode: str, stderr: str) -> AnomalousInputError:
    """The error for samples that the program refused."""
    decisive = [a for a in found if a.not_finite or mode == REFUSE]
    said = str(decisive[0]) if decisive else stderr.strip()
    return AnomalousInputError(
        f"{said}; nothing was computed",
        hint="see where these values come from; anomalies that are only flagged are computed all the same",
        anomalies=[a.to_json() for a in found],
    )
