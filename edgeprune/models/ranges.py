"""The range of an input: what values the data of a network had, and from where on a value is anomalous."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from edgeprune.jsonable import Jsonable

MARGIN = 0.1
"""Share of the width of a range by which it is widened at either end. The data's own extremes would do for data of many
samples: of N samples and one more of the same kind, drawn in any order, the last has the largest value in one case of
N + 1. The margin is for small N, and for the noise of a sensor."""
_ROUNDING = 1e-6
"""Relative to the larger end: float32 rounds a value that is always the same."""


@dataclass(frozen=True, slots=True)
class InputRange(Jsonable):
    """Values of one input over the samples of a data set.

    Attributes:
        minimum, maximum: the smallest and the largest value of any element; finite.
        samples: how many samples were seen.
    """

    minimum: float
    maximum: float
    samples: int

    def __post_init__(self) -> None:
        """Raises ValueError for an order or a count that makes no sense; NaN makes none."""
        if not (float("-inf") < self.minimum <= self.maximum < float("inf") and self.samples > 0):
            raise ValueError(f"{self.minimum} to {self.maximum} of {self.samples} samples is no range")

    @property
    def margin(self) -> float:
        return MARGIN * (self.maximum - self.minimum) + _ROUNDING * max(abs(self.minimum), abs(self.maximum))

    @property
    def low(self) -> float:
        """Finite values below it are anomalous."""
        return max(self.minimum - self.margin, -_LARGEST)

    @property
    def high(self) -> float:
        """Finite values above it are anomalous."""
        return min(self.maximum + self.margin, _LARGEST)


_LARGEST = sys.float_info.max
