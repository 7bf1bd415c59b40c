"""What a report says of how latency depends on widths."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from edgeprune.report.strict import Count, Evidence, Strict

Grid = Annotated[tuple[Count, ...], Field(min_length=2)]


class KernelTable(Strict):
    """Latency of one kernel over its widths, in the dense network's place, as the profile knows it.

    ``in`` and ``out`` ascend; ``latency_ms`` has a row for each width of ``in``, and ``timed`` the places (row, column)
    that were timed, alone or inside a network; the others are estimated.
    """

    node: str
    in_: Grid = Field(alias="in")
    out: Grid
    latency_ms: tuple[tuple[Annotated[float, Field(ge=0)], ...], ...]
    timed: tuple[tuple[Count, Count], ...]
    evidence: Evidence

    @model_validator(mode="after")
    def _of_one_shape(self) -> Self:
        if len(self.latency_ms) != len(self.in_) or any(len(row) != len(self.out) for row in self.latency_ms):
            raise ValueError(f"the table of {self.node} is not {len(self.in_)} x {len(self.out)}")
        if any(row >= len(self.in_) or column >= len(self.out) for row, column in self.timed):
            raise ValueError(f"the table of {self.node} was timed beyond its widths")
        if any(list(grid) != sorted(set(grid)) for grid in (self.in_, self.out)):
            raise ValueError(f"the widths of {self.node} do not ascend")
        return self
