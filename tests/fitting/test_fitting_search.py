"""The fit loop with a made-up device: plans are widths, tables are wrong by a factor, verdicts are exact."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.budget.problem import Budget
from edgeprune.compiler.failures import KernelBuildError
from edgeprune.errors import InfeasibleBudgetError
from edgeprune.fitting.reference import patience_of_round
from edgeprune.fitting.search import Judged, Proposal, Search


class World:
    """Plans are widths 1 to 100. The tables say ``width`` ms and ``10 * width`` bytes; the device says otherwise."""

    def __init__(self, ms=lambda w: w, size=lambda w: 10 * w, budget=None, step=1, narrowest=1):
        self.ms, self.size, self.budget = ms, size, budget or Budget(latency_ms=50.0)
        self.levels = [*range(narrowest, 100, step), 100]
        self.measured: list[int] = []

    def propose(self, budget: Budget) -> Proposal[int]:
        fitting = [
            w
            for w in self.levels
            if (budget.latency_ms is None or w <= budget.latency_ms)
            and (budget.flash_bytes is None or 10 * w <= budget.flash_bytes)
        ]
        if not fitting:
            raise InfeasibleBudgetError("no", latency_ms=float(self.levels[0]), flash_bytes=10.0 * self.levels[0])
        width = max(fitting)
        return Proposal(width, width, float(width), 10.0 * width, float(width), dense=width == 100)

    def between(self, low: Proposal[int], high: Proposal[int]) -> Proposal[int] | None:
        width = (low.plan + high.plan) // 2
        return None if width == low.plan else Proposal(width, width, float(width), 10.0 * width, float(width))

    def measure(self, number: int, proposal: Proposal[int]) -> int:
        assert number == len(self.measured) + 1
        self.measured.append(proposal.plan)
        return proposal.plan

    def accept(self, width: int) -> Judged:
        latency, flash = self.budget.latency_ms, self.budget.flash_bytes
        time = None if latency is None else self.ms(width) / latency
        room = None if flash is None else self.size(width) / flash
        return Judged(time, time is None or time <= 1, room, room is None or room <= 1)

    def run(self, rounds=6, margin=0.02, fill=0.96):
        search = Search(self.propose, self.measure, self.accept, self.between)
        return search.run(self.budget, rounds=rounds, margin=margin, fill=fill)


def test_tables_that_are_right_take_one_round():
    best, rounds = World().run()
    assert (best.proposal.plan, len(rounds), rounds[0].correction) == (49, 1, pytest.approx(1))


@pytest.mark.parametrize("factor", [0.5, 0.8, 0.95, 1.05, 1.3, 2.5])
def test_tables_that_are_wrong_by_a_factor_take_two_or_three(factor):
    world = World(lambda w: factor * w)
    best, rounds = world.run()
    assert len(rounds) <= 3
    assert 0.96 <= world.ms(best.proposal.plan) / 50 <= 1 or best.proposal.dense


def test_a_device_that_does_not_follow_the_tables_is_bracketed():
    world = World(lambda w: 20 + 0.9 * w if w > 30 else 0.5 * w)
    best, _ = world.run(rounds=10)
    assert best.proposal.plan in (30, 31, 32, 33), "the widest plan that it keeps, or one just under"
    assert len(world.measured) == len(set(world.measured)), "no plan is measured twice"


def test_the_plan_of_most_worth_is_kept_not_the_last():
    world = World(lambda w: {49: 30.0}.get(w, 60.0))
    best, rounds = world.run(rounds=3)
    assert best.proposal.plan == 49
    assert [r.judged.kept for r in rounds] == [True, False, False]


def test_where_the_tables_know_no_plan_between_two_one_is_made_of_them():
    # The tables know widths 8, 16 … alone, and call them equally fast: 40 leaves room, 48 is too slow.
    world = World(lambda w: 1.1 * w, step=8, narrowest=8)
    best, rounds = world.run(rounds=8)
    assert [r.proposal.plan for r in rounds] == [48, 40, 44]
    assert best is rounds[-1], "it fills the budget: no other round is spent"


def test_a_plan_that_is_quicker_than_the_tables_say_is_found_beyond_one_that_is_slower():
    # 48 is far too slow, and wider ones are quick: the tables are wrong by another factor for each plan.
    world = World(lambda w: {48: 55.0, 49: 55.0}.get(w, 0.8 * w), step=1)
    best, _ = world.run(rounds=8)
    assert best.proposal.plan == 61
    assert 0.96 <= 0.8 * 61 / 50 <= 1


def test_an_aim_that_nothing_reaches_any_more_ends_the_search_and_not_the_fit():
    """What a plan measures moves both limits, and together they may be out of reach where each was not."""
    used = {44: 0.92, 45: 1.05}
    offers = iter((44, 45, 40))

    def propose(budget: Budget) -> Proposal[int]:
        for width in offers:
            return Proposal(width, width, float(width), 10.0 * width, float(width))
        raise InfeasibleBudgetError("both together")

    search = Search(propose, lambda _, p: p.plan, lambda w: Judged(used[w], used[w] <= 1, 0.5, True))
    best, rounds = search.run(Budget(50.0, 1000.0), rounds=20, margin=0.05, fill=0.97)
    assert best.proposal.plan == 44
    assert len(rounds) == 2


def test_where_nothing_lies_between_a_finer_plan_is_tried():
    # The tables offer 40, then 48, which is too slow; the finer ones know 42, 44 and 46.
    world = World(lambda w: 1.1 * w, step=8, narrowest=8)
    fine = World(step=2, narrowest=8)
    search = Search(world.propose, world.measure, world.accept, finer=fine.propose)
    best, _ = search.run(Budget(latency_ms=50.0), rounds=8, margin=0.02, fill=0.96)
    assert world.measured == [48, 40, 44]
    assert best.proposal.plan == 44


def test_a_kernel_that_nobody_timed_and_that_cannot_be_had_costs_a_round_and_not_the_fit():
    world = World(lambda w: 1.1 * w, step=8, narrowest=8)

    def between(low, high):
        found = world.between(low, high)
        return found and replace(found, estimated=True)

    def measure(number: int, proposal: Proposal[int]) -> int:
        if proposal.plan in refused:
            raise KernelBuildError("no")
        return world.measure(number, proposal)

    refused = {44}
    search = Search(world.propose, measure, world.accept, between)
    best, rounds = search.run(world.budget, rounds=8, margin=0.02, fill=0.96)
    assert [r.proposal.plan for r in rounds] == [48, 40]
    assert best is rounds[1]
    refused = {48}
    world.measured.clear()
    with pytest.raises(KernelBuildError):  # one that was timed
        search.run(world.budget, rounds=8, margin=0.02, fill=0.96)


def test_halving_ends_where_nothing_lies_between():
    world = World(lambda w: 40.0 if w <= 43 else 60.0, step=8, narrowest=8)
    best, rounds = world.run(rounds=100)
    assert best.proposal.plan == 43
    assert len(rounds) < 10


def test_what_a_program_allocates_beyond_the_tables_moves_the_limit_of_ram():
    """Two limits: the tables know the time, and every program allocates 30 bytes more than they say."""
    budget = Budget(latency_ms=60.0, ram_bytes=500.0)

    def propose(limits: Budget) -> Proposal[int]:
        width = min(int(limits.latency_ms), int(limits.ram_bytes) // 10)
        return Proposal(width, width, float(width), 1.0, float(width), ram_bytes=10.0 * width)

    def accept(width: int) -> Judged:
        ram = (10 * width + 30) / 500
        return Judged(width / 60, width <= 60, None, True, ram, ram <= 1)

    search = Search(propose, lambda _, p: p.plan, accept)
    best, rounds = search.run(budget, rounds=8, margin=0.02, fill=0.97)
    assert [(r.proposal.plan, r.judged.kept) for r in rounds] == [(50, False), (47, True)]
    assert best is rounds[1], "it fills the RAM: no other round is spent"


def test_nothing_kept_is_said():
    best, rounds = World(lambda w: 1000.0).run(rounds=1)
    assert best is None
    assert len(rounds) == 1


def test_a_budget_below_the_tables_is_infeasible_before_anything_is_measured():
    world = World(budget=Budget(latency_ms=10.0), narrowest=20)
    with pytest.raises(InfeasibleBudgetError) as caught:
        world.run()
    assert not world.measured
    assert caught.value.details["latency_ms"] == 20
    assert caught.value.details["budget"] == {"latency_ms": 10.0}


def test_a_budget_that_only_the_device_does_not_reach_is_infeasible_in_its_milliseconds():
    world = World(lambda w: 3.0 * w, budget=Budget(latency_ms=21.0), narrowest=10)
    with pytest.raises(InfeasibleBudgetError) as caught:
        world.run()
    assert world.measured == [20]
    assert caught.value.details["latency_ms"] == pytest.approx(30)


def test_a_margin_out_of_reach_is_given_up_before_the_budget_is():
    world = World(budget=Budget(latency_ms=10.1), narrowest=10)
    best, _ = world.run(margin=0.05)
    assert best.proposal.plan == 10


def test_the_dense_network_ends_the_search_where_it_keeps_the_budget():
    best, rounds = World(budget=Budget(latency_ms=500.0)).run()
    assert best.proposal.dense
    assert len(rounds) == 1


def test_bytes_move_the_aim_by_their_difference():
    world = World(size=lambda w: 10 * w + 77, budget=Budget(flash_bytes=600.0))
    best, rounds = world.run()
    assert [r.proposal.plan for r in rounds] == [60, 52]
    assert best.proposal.plan == 52


def test_two_limits_hold_together():
    world = World(lambda w: 1.2 * w, lambda w: 10 * w + 50, Budget(latency_ms=50.0, flash_bytes=300.0))
    best, _ = world.run()
    assert best.proposal.plan == 25


@settings(max_examples=200, deadline=None)
@given(st.floats(0.3, 3), st.floats(-10, 10), st.integers(1, 15), st.floats(15, 120), st.integers(1, 8), st.randoms())
def test_whatever_the_device_does_what_is_kept_keeps_and_nothing_is_measured_twice(
    factor, offset, step, limit, rounds, random
):
    noise = {w: random.uniform(0.9, 1.1) for w in range(1, 101)}
    world = World(lambda w: max(0.1, (factor * w + offset) * noise[w]), budget=Budget(latency_ms=limit), step=step)
    try:
        best, done = world.run(rounds=rounds)
    except InfeasibleBudgetError:
        assert not any(world.accept(w).kept for w in world.measured)
        return
    assert len(done) <= rounds
    assert len(world.measured) == len(set(world.measured))
    kept = [w for w in world.measured if world.accept(w).kept]
    assert (best.proposal.plan if best else None) == max(kept, default=None)


def test_a_search_is_patient_with_its_first_plans_and_short_with_all_that_follow():
    spent, given = 0.0, []
    for _ in range(8):
        given.append(patience_of_round(60.0, spent))
        spent += given[-1]
    assert given == [30, 30, 30, 5, 5, 5, 5, 5]
    assert patience_of_round(60.0, 80.0) == 10
    assert patience_of_round(2.0, 0.0) == 2, "never more than was asked for"
