"""Verify and re-solve: propose a plan, measure it, correct the aim by what was measured, propose again.

Pure: it knows neither networks nor devices, and serves the pruned network and the uniform baseline alike.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from edgeprune.budget.problem import TOLERANCE, Budget
from edgeprune.budget.reach import infeasible
from edgeprune.errors import InfeasibleBudgetError

P = TypeVar("P")
M = TypeVar("M")

STALE = 8
"""Most aims in a row that lead to plans which are known already: between two levels there is nothing."""
STEP = 0.01
"""First step from an aim that was kept, or not, where the correction gives none between those two."""
CLOSE = 0.004
"""Aims that lie nearer than this (relative) to one that was kept and one that was not are not worth a round."""


@dataclass(frozen=True, slots=True)
class Proposal(Generic[P]):
    """A plan, and what the tables say of it.

    Attributes:
        key: equal for equal plans.
        worth: what the search keeps the most of.
        dense: nothing is removed; more cannot be had.
    """

    plan: P
    key: Hashable
    latency_ms: float
    flash_bytes: float
    worth: float
    dense: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """What was measured of a plan: the use of each limit as a share of it (None: no such limit), and the verdicts."""

    latency_used: float | None
    latency_kept: bool
    flash_used: float | None
    flash_kept: bool

    @property
    def kept(self) -> bool:
        return self.latency_kept and self.flash_kept

    def full(self, fill: float) -> bool:
        """Whether some limit is used well."""
        return max(self.latency_used or 0.0, self.flash_used or 0.0) >= fill


@dataclass(frozen=True, slots=True)
class Round(Generic[P, M]):
    """One pass: ``correction`` is what the tables' latency has to be multiplied with, as far as it is known then."""

    number: int
    proposal: Proposal[P]
    measured: M
    judged: Judged
    correction: float


@dataclass(frozen=True, slots=True)
class Search(Generic[P, M]):
    """The loop.

    Attributes:
        propose: the best plan that the tables predict inside a budget; raises InfeasibleBudgetError.
        measure: builds and times the plan of a round.
        accept: the verdict on it.
        between: a plan between two, whatever the tables say of it; None if there is none.
    """

    propose: Callable[[Budget], Proposal[P]]
    measure: Callable[[int, Proposal[P]], M]
    accept: Callable[[M], Judged]
    between: Callable[[Proposal[P], Proposal[P]], Proposal[P] | None] = lambda low, high: None

    def run(
        self, budget: Budget, *, rounds: int, margin: float, fill: float
    ) -> tuple[Round[P, M] | None, list[Round[P, M]]]:
        """The round of most worth that keeps the budget, and all rounds; None if none keeps it.

        The aim in table milliseconds lies between the slowest plan that was kept and the quickest that was not; a
        measurement moves it by the ratio of measured to predicted. Bytes differ by a constant from the tables, so
        that aim moves by the difference. Where no plan is left between those two, or none that the tables are right
        about, plans are made between theirs.

        Args:
            margin: part of the latency limit that the first aim leaves free.
            fill: use of a limit from which a kept plan is good enough.

        Raises:
            InfeasibleBudgetError: the budget is below what the tables reach, and nothing was kept before.
        """
        done: dict[Hashable, Round[P, M]] = {}
        limit, flash = budget.latency_ms, budget.flash_bytes
        aim, extra = (None if limit is None else limit * (1 - margin)), 0.0
        kept_ms, over_ms, stale, correction, at_floor = 0.0, float("inf"), 0, 1.0, False
        while len(done) < rounds and stale < STALE:
            try:
                proposal = self.propose(Budget(aim, None if flash is None else flash - extra))
            except InfeasibleBudgetError as e:
                floor = e.details.get("latency_ms", float("inf"))
                if _best(done.values()) is not None:
                    break  # the margin is out of reach, the budget was not
                if at_floor or aim is None or limit is None or floor * correction > limit or floor >= over_ms:
                    raise _in_device_units(e, budget, correction, extra) from e
                aim, at_floor = floor * (1 + TOLERANCE), True
                continue
            known = done.get(proposal.key)
            if known is None:
                known = done[proposal.key] = self._tried(len(done) + 1, proposal, limit, correction)
                correction, stale = known.correction, 0
                if known.judged.kept and (proposal.dense or known.judged.full(fill)):
                    break
                if flash is not None and known.judged.flash_used is not None:
                    extra = known.judged.flash_used * flash - proposal.flash_bytes
            elif aim is None:
                break
            stale += 1
            if limit is None or aim is None:
                continue
            # Plans move in steps, aims do not: the aim itself is what is bounded.
            if known.judged.latency_kept:
                kept_ms = max(kept_ms, aim, known.proposal.latency_ms)
            else:
                over_ms = min(over_ms, aim, max(known.proposal.latency_ms, kept_ms))
            if over_ms <= kept_ms * (1 + CLOSE):
                break
            aim = limit * (1 - margin) / correction
            if not kept_ms < aim < over_ms:
                # A step that doubles while it leads to plans that are known: levels may lie far apart.
                step = STEP * 2**stale
                aim = min(kept_ms * (1 + step), (kept_ms + over_ms) / 2) if kept_ms else over_ms / (1 + step)
        while len(done) < rounds and (low := _best(done.values())) and not low.judged.full(fill):
            above = [r for r in done.values() if not r.judged.kept and r.proposal.worth > low.proposal.worth]
            high = min(above, key=lambda r: r.proposal.worth, default=None)
            between = None if high is None else self.between(low.proposal, high.proposal)
            if between is None or between.key in done:
                break
            done[between.key] = self._tried(len(done) + 1, between, limit, correction)
        return _best(done.values()), list(done.values())

    def _tried(self, number: int, proposal: Proposal[P], limit: float | None, correction: float) -> Round[P, M]:
        measured = self.measure(number, proposal)
        judged = self.accept(measured)
        if limit is not None and judged.latency_used is not None:
            correction = judged.latency_used * limit / proposal.latency_ms
        return Round(number, proposal, measured, judged, correction)


def _best(rounds: Iterable[Round[P, M]]) -> Round[P, M] | None:
    return max((r for r in rounds if r.judged.kept), key=lambda r: r.proposal.worth, default=None)


def _in_device_units(
    error: InfeasibleBudgetError, budget: Budget, correction: float, extra: float
) -> InfeasibleBudgetError:
    """The error of a solver, which knows the tables alone, in milliseconds and bytes of the device."""
    smallest = {"latency_ms": error.details.get("latency_ms", 0.0) * correction}
    smallest["flash_bytes"] = error.details.get("flash_bytes", 0.0) + extra
    return infeasible(budget, smallest)
