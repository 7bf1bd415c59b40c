"""The pruning problem as arrays: groups with saliency, terms with tables, a budget.

Choose one width k_g per group g: maximise sum_g s_g(k_g) subject to, for each budgeted resource,
``base + sum over terms T(widths) <= limit``. Nothing in this layer knows of torch or TVM.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

RESOURCES = ("latency_ms", "flash_bytes")


TOLERANCE = 1e-9
"""A sum of floats depends on its order; a difference this small (relative) must not decide whether a budget holds."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits; ``None`` means the resource is not limited. At least one must be given to solve.

    Attributes:
        values: the limits as an array that follows :data:`RESOURCES`, infinite where nothing is limited.
        active: indices of the resources that are limited.
    """

    latency_ms: float | None = None
    flash_bytes: float | None = None
    values: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    active: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = [getattr(self, r) for r in RESOURCES]
        object.__setattr__(self, "values", np.array([np.inf if v is None else v for v in given], dtype=np.float64))
        object.__setattr__(self, "active", tuple(i for i, v in enumerate(given) if v is not None))

    def violation(self, costs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Relative excess, summed over resources; 0 where the budget holds. (…, 2) -> (…)."""
        excess: NDArray[np.float64] = np.maximum(costs / (self.values * (1 + TOLERANCE)) - 1, 0).sum(axis=-1)
        return excess

    def fits(self, costs: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether every limit holds. (…, 2) -> (…)."""
        return np.asarray(self.violation(costs) == 0)

    def to_json(self) -> dict[str, float]:
        """The limits by resource; only those there are."""
        return {RESOURCES[r]: float(self.values[r]) for r in self.active}


@dataclass(frozen=True, slots=True)
class Choice:
    """One width group as the solver sees it.

    Attributes:
        name: the width group's name.
        levels: widths that may be chosen, ascending; the last is the full width. The first is 0 for a choice
            of a block.
        saliency: retained saliency at each level, shape (len(levels),), non-decreasing.
    """

    name: str
    levels: tuple[int, ...]
    saliency: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Axis:
    """A table axis: total width = ``base`` + sum of the chosen widths of ``choices`` (indices)."""

    choices: tuple[int, ...]
    base: int = 0


@dataclass(frozen=True, slots=True)
class Term:
    """What one kernel costs as a function of its one or two total widths.

    Attributes:
        name: the kernel node's name.
        axes: one or two axes, and one more where the kernel goes with a block whose widths are none of its own.
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
    """

    choices: tuple[Choice, ...]
    terms: tuple[Term, ...]
    base_latency_ms: float = 0.0
    base_flash_bytes: float = 0.0
    blocks: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Solution:
    """A choice of widths and what it is predicted to cost.

    ``bound`` is a proven upper bound on retained saliency under the same budget, ``None`` where
    the method proves nothing.
    """

    widths: tuple[int, ...]
    saliency: float
    latency_ms: float
    flash_bytes: float
    method: str
    steps: int = 0
    bound: float | None = None
