"""What each width of a group retains: the summed importance of its channels, or the loss that was measured there.

A sum over groups is the solver's objective, so a curve is all that it sees of importance. Scores still say which
channels of a group go first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import BadInputError
from edgeprune.importance.criterion import Scores

Curves = dict[str, NDArray[np.float64]]
"""Group name -> what each of its widths 0 … size retains, shape (size + 1,), at least 0, non-decreasing."""

IMPORTANCE, LOSS = OBJECTIVES = ("importance", "loss")
"""What a plan retains: the summed importance of its channels; or what was measured of the loss."""


@dataclass(frozen=True, slots=True)
class Saliency:
    """What channels and widths are worth.

    Attributes:
        scores: by which the channels of a group are ranked.
        curves: what the widths of a group retain; groups share a unit, whatever it is.
        objective: how the curves were made, one of :data:`OBJECTIVES`.
    """

    scores: Scores
    curves: Curves
    objective: str = IMPORTANCE

    @classmethod
    def summed(cls, scores: Scores) -> Saliency:
        """A width retains the sum of its largest scores.

        Raises:
            BadInputError: scores that are negative or not finite.
        """
        return cls(scores, {name: _summed(name, values) for name, values in scores.items()})


def _summed(name: str, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    right = np.isfinite(scores) & (scores >= 0)
    if not right.all():
        raise BadInputError(
            f"the saliency of width group '{name}' is negative or not finite for channel {int(np.argmin(right))}",
            hint="use a criterion that is never negative, or shift its scores",
            group=name,
        )
    found: NDArray[np.float64] = np.append(0.0, np.cumsum(np.sort(scores)[::-1]))
    return found
