"""Verify and re-solve: propose a plan, measure it, correct the aim by what was measured, propose again.

Pure: it knows neither networks nor devices, and serves the pruned network and the uniform baseline alike.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from math import inf
from typing import Generic, TypeVar

from edgeprune.budget.problem import TOLERANCE, Budget
from edgeprune.budget.reach import infeasible
from edgeprune.errors import InfeasibleBudgetError, UnsupportedOperatorError, VerificationError

P = TypeVar("P")
M = TypeVar("M")

STALE, STEP, FINER = 8, 0.01, 4
"""Most steps from one aim to the next that may lead to plans which are known, and the first of them; most steps back
from what the best plan leaves, among finer plans."""
NEAR = 1.1
"""How much more a plan may take, by the tables, than there is room for, to be one end of plans between two."""


@dataclass(frozen=True, slots=True)
class Proposal(Generic[P]):
    """A plan, and what the tables say of it.

    Attributes:
        key: equal for equal plans.
        worth: the objective of the search: retained saliency, for a pruned network.
        dense: nothing is removed, so no plan is worth more.
        estimated: some of its kernels were never timed, and may turn out not to build.
        ram_bytes: None where it is not known.
    """

    plan: P
    key: Hashable
    latency_ms: float
    flash_bytes: float
    worth: float
    dense: bool = False
    estimated: bool = False
    ram_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """Measured use of each limit by a plan, as a share of the limit (None: no such limit), and the verdicts."""

    latency_used: float | None
    latency_kept: bool
    flash_used: float | None
    flash_kept: bool
    ram_used: float | None = None
    ram_kept: bool = True

    @property
    def kept(self) -> bool:
        return self.latency_kept and self.flash_kept and self.ram_kept

    def uses(self, share: float) -> bool:
        """Whether the plan uses at least this share of some limit."""
        return max(self.latency_used or 0.0, self.flash_used or 0.0, self.ram_used or 0.0) >= share


@dataclass(frozen=True, slots=True)
class _Extra:
    """Bytes that a program was found to take beyond what the tables say."""

    flash: float = 0.0
    ram: float = 0.0

    @classmethod
    def of(cls, budget: Budget, proposal: Proposal[P], judged: Judged) -> _Extra:
        """What the program of a proposal took; nothing is known of what is not limited."""
        flash, ram = budget.flash_bytes, budget.ram_bytes
        return cls(
            0.0 if flash is None or judged.flash_used is None else judged.flash_used * flash - proposal.flash_bytes,
            0.0
            if ram is None or judged.ram_used is None or proposal.ram_bytes is None
            else judged.ram_used * ram - proposal.ram_bytes,
        )

    def room(self, budget: Budget) -> Budget:
        """The limits in bytes that the tables have to keep."""
        flash, ram = budget.flash_bytes, budget.ram_bytes
        return Budget(
            flash_bytes=None if flash is None else flash - self.flash,
            ram_bytes=None if ram is None else ram - self.ram,
        )


@dataclass(frozen=True, slots=True)
class Round(Generic[P, M]):
    """One pass of the search; ``correction`` is the factor from table latency to device latency, as known by then."""

    number: int
    proposal: Proposal[P]
    measured: M
    judged: Judged
    correction: float


@dataclass(frozen=True, slots=True)
class Search(Generic[P, M]):
    """The search loop: propose, measure, correct.

    Attributes:
        propose: the best plan that the tables predict inside a budget; raises InfeasibleBudgetError.
        measure: builds and times the plan of a round.
        accept: the verdict on it.
        between: a plan between two, whatever the tables say of it; None if there is none.
        finer: as ``propose``, of more plans, some kernels of which were not timed.
    """

    propose: Callable[[Budget], Proposal[P]]
    measure: Callable[[int, Proposal[P]], M]
    accept: Callable[[M], Judged]
    between: Callable[[Proposal[P], Proposal[P]], Proposal[P] | None] = lambda low, high: None
    finer: Callable[[Budget], Proposal[P]] | None = None

    def run(
        self, budget: Budget, *, rounds: int, margin: float, fill: float
    ) -> tuple[Round[P, M] | None, list[Round[P, M]]]:
        """The best round inside the budget, and all rounds; None if no round keeps the budget.

        A measurement moves the aim in table milliseconds by the ratio of measured to predicted; bytes differ from the
        tables by a constant. Where that leads to no plan that is better than the best so far, :meth:`_further` does.

        Args:
            margin: part of the latency limit that the first aim leaves free.
            fill: use of a limit from which a kept plan is good enough.

        Raises:
            InfeasibleBudgetError: the budget is below what the tables reach, and nothing was kept before.
            Whatever ``measure`` raises of a plan whose kernels were all timed.
        """
        done: dict[Hashable, Round[P, M]] = {}
        failed: set[Hashable] = set()
        limit, extra = budget.latency_ms, _Extra()
        aim = None if limit is None else limit * (1 - margin)
        correction, steps, at_floor = 1.0, 0, False
        while len(done) + len(failed) < rounds:
            best, lowest = _best(done.values()), min((r.proposal.latency_ms for r in done.values()), default=inf)
            room = extra.room(budget)
            proposal: Proposal[P] | None
            try:
                proposal = self.propose(replace(room, latency_ms=aim))
            except InfeasibleBudgetError as e:
                if best is not None:
                    break  # the margin is out of reach, the budget was not
                floor = e.details.get("latency_ms", inf)
                if at_floor or aim is None or limit is None or floor * correction > limit or floor >= lowest:
                    raise _in_device_units(e, budget, correction, extra) from e
                aim, at_floor = floor * (1 + TOLERANCE), True
                continue
            if best is not None and (proposal.key in done or proposal.worth <= best.proposal.worth):
                proposal = self._further(best, done, failed, room, min(margin, (1 - fill) / 2))
                if proposal is None:
                    break
            elif proposal.key in done or proposal.key in failed:
                steps += 1
                if aim is None or steps > STALE:
                    break
                # A step that doubles while it leads to plans that were tried: levels may lie far apart.
                aim = min(lowest, proposal.latency_ms) / (1 + STEP * 2**steps)
                continue
            try:
                found = self._tried(len(done) + 1, proposal, limit, correction)
            except (UnsupportedOperatorError, VerificationError):
                if not proposal.estimated:
                    raise
                failed.add(proposal.key)
                continue
            done[proposal.key] = found
            if found.judged.kept and (proposal.dense or found.judged.uses(fill)):
                break
            correction = found.correction
            extra = _Extra.of(budget, proposal, found.judged)
            if limit is not None:
                aim = limit * (1 - margin) / correction
        return _best(done.values()), list(done.values())

    def _further(
        self,
        best: Round[P, M],
        done: Mapping[Hashable, Round[P, M]],
        failed: Collection[Hashable],
        room: Budget,
        margin: float,
    ) -> Proposal[P] | None:
        """A better plan than the best one so far, if that leaves room in the budget: one that the tables offer for the
        room, one between the best plan and one over the budget that should fill the room, or one of finer widths.
        """
        worth, used = best.proposal.worth, best.judged.latency_used
        if not used:
            return None
        # The best plan's correction factor, taken for every plan.
        aim = best.proposal.latency_ms * (1 - margin) / used
        over = [r.proposal for r in done.values() if r.proposal.worth > worth and r.proposal.latency_ms <= aim * NEAR]
        between = [self.between(best.proposal, min(over, key=lambda p: p.worth))] if over else []
        offered = (
            self._offered(self.propose, replace(room, latency_ms=aim * (1 + STEP * step))) for step in range(STALE)
        )
        finer = (self._offered(self.finer, replace(room, latency_ms=aim * (1 - STEP * step))) for step in range(FINER))
        further = (p for p in chain(islice(offered, 1), between, finer, offered) if p and p.key not in {*done, *failed})
        return next((p for p in further if p.worth > worth), None)

    def _offered(self, propose: Callable[[Budget], Proposal[P]] | None, budget: Budget) -> Proposal[P] | None:
        """The solver's proposal, or None if no plan reaches the budget: with the margin, an aim may be out of reach."""
        try:
            return propose(budget) if propose else None
        except InfeasibleBudgetError:
            return None

    def _tried(self, number: int, proposal: Proposal[P], limit: float | None, correction: float) -> Round[P, M]:
        measured = self.measure(number, proposal)
        judged = self.accept(measured)
        if limit is not None and judged.latency_used is not None:
            correction = judged.latency_used * limit / proposal.latency_ms
        return Round(number, proposal, measured, judged, correction)


def _best(rounds: Iterable[Round[P, M]]) -> Round[P, M] | None:
    return max((r for r in rounds if r.judged.kept), key=lambda r: r.proposal.worth, default=None)


def _in_device_units(
    error: InfeasibleBudgetError, budget: Budget, correction: float, extra: _Extra
) -> InfeasibleBudgetError:
    """A solver's error, converted from figures of the tables into milliseconds and bytes of the device."""
    smallest = {"latency_ms": error.details.get("latency_ms", 0.0) * correction}
    smallest["flash_bytes"] = error.details.get("flash_bytes", 0.0) + extra.flash
    smallest["ram_bytes"] = error.details.get("ram_bytes", 0.0) + extra.ram
    return infeasible(budget, smallest, proven=error.details.get("proven", True))
