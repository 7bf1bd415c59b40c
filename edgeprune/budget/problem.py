"""The pruning problem as arrays: groups with saliency, terms with tables, a budget.

Choose one width k_g per group g: maximise sum_g s_g(k_g) subject to, for each budgeted resource,
``base + sum over terms T(widths) <= limit``; peak RAM is the largest of many such sums, one for each step of the
schedule, and all of them have to keep the limit. Nothing in this layer knows of torch or TVM.

Costs are arrays whose last axis has one place for each *row*: latency, flash, then the rows of peak RAM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.witness import Witness

RESOURCES = ("latency_ms", "flash_bytes", "ram_bytes")
"""What a budget may limit."""
ADDITIVE = RESOURCES[:2]
"""Those of which every term costs some, and which add up over the whole network."""


TOLERANCE = 1e-9
"""A sum of floats depends on its order; a difference this small (relative) must not decide whether a budget holds."""


def by_resource(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Costs of rows -> costs of resources, where RAM is the largest of its rows: (…, rows) -> (…, 3)."""
    steps = costs[..., len(ADDITIVE) :].max(axis=-1, keepdims=True, initial=0.0)
    return np.concatenate([costs[..., : len(ADDITIVE)], steps], axis=-1)


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits; ``None`` means the resource is not limited. At least one must be given to solve.

    Attributes:
        values: the limits as an array that follows :data:`RESOURCES`, infinite where nothing is limited.
        active: indices of the resources that are limited.
    """

    latency_ms: float | None = None
    flash_bytes: float | None = None
    ram_bytes: float | None = None
    values: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    active: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = [getattr(self, r) for r in RESOURCES]
        object.__setattr__(self, "values", np.array([np.inf if v is None else v for v in given], dtype=np.float64))
        object.__setattr__(self, "active", tuple(i for i, v in enumerate(given) if v is not None))

    def of_rows(self, count: int) -> NDArray[np.float64]:
        """The limit of each of ``count`` rows: that of latency, that of flash, and that of RAM for all others."""
        return self.values[np.minimum(np.arange(count), len(ADDITIVE))]

    def violation(self, costs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Relative excess, summed over resources; 0 where the budget holds. (…, rows) -> (…)."""
        total: NDArray[np.float64] = np.maximum(by_resource(costs) / (self.values * (1 + TOLERANCE)) - 1, 0).sum(
            axis=-1
        )
        return total

    def fits(self, costs: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether every limit holds. (…, rows) -> (…)."""
        return np.asarray(self.violation(costs) == 0)

    def to_json(self) -> dict[str, float]:
        """The limits by resource; only those there are."""
        return {RESOURCES[r]: float(self.values[r]) for r in self.active}


CHANNELS, PER_CENT = "channels", "%"


@dataclass(frozen=True, slots=True)
class Choice:
    """One width group as the solver sees it; or a kernel that comes in variants (element type, sparsity, family of
    schedules).

    Variants are numbered in the order of the saliency that they retain. A term in variants has one more axis,
    with the choice alone, and knows every number.

    Attributes:
        name: the width group's name.
        levels: widths that may be chosen, ascending; the last is the full width. The first is 0 for a choice
            of a block.
        saliency: retained saliency at each level, shape (len(levels),), non-decreasing.
        unit: what a width is a number of.
    """

    name: str
    levels: tuple[int, ...]
    saliency: NDArray[np.float64]
    unit: str = CHANNELS


@dataclass(frozen=True, slots=True)
class Axis:
    """A table axis: total width = ``base`` + sum of the chosen widths of ``choices`` (indices)."""

    choices: tuple[int, ...]
    base: int = 0


@dataclass(frozen=True, slots=True)
class Term:
    """What one kernel costs as a function of its total widths.

    Attributes:
        name: the kernel node's name.
        axes: one to four: those of its widths, and one more where the kernel goes with a block whose widths are
            none of its own.
        grids: ascending total widths at which the tables are known, one array per axis.
        latency_ms: shape (len(grids[0]), ...) ; same for ``flash_bytes``.
    Between grid points the cost is interpolated linearly; outside it is clamped to the edge. A kernel of width 0
    costs nothing.
    """

    name: str
    axes: tuple[Axis, ...]
    grids: tuple[NDArray[np.int64], ...]
    latency_ms: NDArray[np.float64]
    flash_bytes: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Table:
    """A quantity as a function of one or more total widths; between grid points and outside as for a :class:`Term`.

    Attributes:
        axes: one to four.
        grids: ascending total widths, one array per axis.
        values: shape (len(grids[0]), ...).
    """

    axes: tuple[Axis, ...]
    grids: tuple[NDArray[np.int64], ...]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """Bytes in use during one step of the schedule: ``base`` and what each live tensor or scratch takes.

    Attributes:
        name: the step's, usually the kernel node's name.
    """

    name: str
    base: float
    tables: tuple[Table, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """The pruning problem: choices, terms, and the constant cost.

    ``blocks``: indices of choices that are 0 together: one that is 0 lies in a block of which all are. Blocks may
    lie inside of one another, and any number of them may be removed.

    ``ram``: the steps of the schedule; peak RAM is the largest of their sums. Empty where nothing is known of it.
    """

    choices: tuple[Choice, ...]
    terms: tuple[Term, ...]
    base_latency_ms: float = 0.0
    base_flash_bytes: float = 0.0
    blocks: tuple[tuple[int, ...], ...] = ()
    ram: tuple[Row, ...] = ()


def relative_gap(bound: float, saliency: float) -> float | None:
    """By which share of ``saliency`` a bound is above it; None where that is no share of anything."""
    if bound <= saliency:
        return 0.0
    found = (bound - saliency) / saliency if saliency > 0 else math.inf
    return found if math.isfinite(found) else None


class Stop(StrEnum):
    """Why a solver stopped."""

    OPTIMAL = "optimal"
    GAP = "gap"
    HEURISTIC = "heuristic"
    TIME_LIMIT = "time limit"
    NODE_LIMIT = "node limit"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Solution:
    """A choice of widths and what it is predicted to cost.

    Attributes:
        ram_bytes: the peak over the steps of the schedule; None where the problem knows none.
        bound: a proven upper bound on retained saliency under the same budget; None where nothing was proven.
        witness: what proves the bound (:mod:`edgeprune.budget.certificate`).
        seconds: that the solver took. No part of a comparison.
    """

    widths: tuple[int, ...]
    saliency: float
    latency_ms: float
    flash_bytes: float
    method: str
    steps: int = 0
    bound: float | None = None
    ram_bytes: float | None = None
    stop: Stop = Stop.HEURISTIC
    witness: Witness | None = field(default=None, repr=False)
    seconds: float = field(default=0.0, compare=False)

    @property
    def gap(self) -> float | None:
        """By which share of its saliency another plan could be better at most; None where nothing was proven, and where
        the plan retains nothing that this could be a share of.
        """
        if self.bound is None:
            return None
        return relative_gap(self.bound, self.saliency)
