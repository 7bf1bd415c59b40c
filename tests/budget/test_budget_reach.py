"""The floor: smallest reachable costs and feasible points, against enumeration."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from budget_problems import every_plan, full_widths, holds, random_problem, slow_costs, small_problems
from hypothesis import given, settings

from edgeprune.budget import Budget, Evaluator
from edgeprune.budget.bounding import Search
from edgeprune.budget.check import check_budget
from edgeprune.budget.reach import Floor, infeasible, reach
from edgeprune.errors import InfeasibleBudgetError


@settings(max_examples=40, deadline=None)
@given(problem=small_problems)
def test_smallest_reachable_is_what_enumeration_finds(problem):
    costs = np.array([slow_costs(problem, w) for w in every_plan(problem)]).min(axis=0)
    smallest = Floor(Evaluator(problem)).smallest()
    assert list(smallest.values()) == pytest.approx(costs)
    assert list(smallest) == ["latency_ms", "flash_bytes"]


def test_without_elimination_the_floor_is_an_upper_bound_and_says_so():
    problem = random_problem(3, groups=6, levels=3, noise=1.0)
    floor = Floor(Evaluator(problem), max_cells=1)
    assert not floor.exact
    exact = min(slow_costs(problem, w)[0] for w in every_plan(problem))
    found = floor.smallest()["latency_ms"]
    assert exact * (1 - 1e-9) <= found <= slow_costs(problem, full_widths(problem))[0]


@pytest.mark.parametrize("seed", range(20))
def test_two_limits_are_met_together_where_they_can_be(seed):
    problem = random_problem(seed, groups=3, noise=1.0)
    evaluator = Evaluator(problem)
    costs = np.array([slow_costs(problem, w) for w in every_plan(problem)])
    # The tightest balanced pair of limits that some plan meets.
    scale = costs.max(axis=0)
    t = (costs / scale).max(axis=1).min()
    budget = Budget(*(float(x) for x in scale * t * 1.02))
    point = reach(evaluator, check_budget(budget))
    assert holds(problem, budget, evaluator.widths(point.levels))


@pytest.mark.parametrize("seed", [116, 150, 164, 211])
def test_two_limits_that_pull_apart_are_met_at_the_right_mix(seed):
    # Flash here has nothing to do with latency; equal weights lead astray and single changes do not lead back.
    problem = random_problem(seed, noise=1.5)
    rng = np.random.default_rng(seed)
    flash = [100 * np.exp(1.5 * rng.standard_normal(t.flash_bytes.shape)) for t in problem.terms]
    terms = tuple(replace(t, flash_bytes=f) for t, f in zip(problem.terms, flash, strict=True))
    problem = replace(problem, terms=terms)
    costs = np.array([slow_costs(problem, w) for w in every_plan(problem)])
    t = (costs / costs.max(axis=0)).max(axis=1).min()
    budget = Budget(*(float(x) for x in costs.max(axis=0) * t * 1.02))
    evaluator = Evaluator(problem)
    assert holds(problem, budget, evaluator.widths(reach(evaluator, check_budget(budget)).levels))


def test_two_limits_out_of_reach_together_report_both():
    problem = random_problem(0)
    low = Floor(Evaluator(problem)).smallest()
    with pytest.raises(InfeasibleBudgetError) as caught:
        reach(Evaluator(problem), check_budget(Budget(low["latency_ms"] * 0.9, low["flash_bytes"] * 2)))
    assert caught.value.details["latency_ms"] == pytest.approx(low["latency_ms"])
    assert caught.value.details["flash_bytes"] == pytest.approx(low["flash_bytes"])
    assert caught.value.details["budget"]["latency_ms"] == pytest.approx(low["latency_ms"] * 0.9)
    assert math.isfinite(caught.value.details["flash_bytes"])


def test_a_plan_that_is_inside_by_chance_is_walked_up_where_no_walk_comes_in():
    """Steps of RAM that peak alike: no single change lowers the largest, so only the leanest plan is inside."""
    problem = random_problem(3, groups=4)
    evaluator = Evaluator(problem)
    search = Search(evaluator, Budget(latency_ms=1e9))
    search.incumbent.offer((0, 0, 0, 0))
    search._first_plans([])
    assert search.incumbent.levels == evaluator.full_levels


@pytest.mark.parametrize(
    ("limits", "smallest", "message"),
    [
        (
            {"latency_ms": 1.5},
            {"latency_ms": 2.25},
            "keeps the budget: a latency of 1.5 ms (smallest reachable: 2.25 ms)",
        ),
        (
            {"latency_ms": 1.5, "ram_bytes": 4e4},
            {"latency_ms": 1.2, "ram_bytes": 52_000},
            "keeps the budget: 40.0 kB of RAM (smallest reachable: 52.0 kB)",
        ),
        (
            {"latency_ms": 1.5, "flash_bytes": 4e4, "ram_bytes": 9e3},
            {"latency_ms": 1.6, "flash_bytes": 5e4, "ram_bytes": 1.0},
            "a latency of 1.5 ms (smallest reachable: 1.6 ms) and 40.0 kB of flash (smallest reachable: 50.0 kB)",
        ),
        (
            {"latency_ms": 1.5, "flash_bytes": 4e4},
            {"latency_ms": 1.4, "flash_bytes": 3e4},
            "no plan keeps a latency of 1.5 ms and 40.0 kB of flash together, but each alone",
        ),
        ({"ram_bytes": 40_001.0}, {"ram_bytes": 40_003.0}, "(smallest reachable: 40003 bytes, not 40001)"),
    ],
)
def test_the_message_names_the_limits_that_are_out_of_reach(limits, smallest, message):
    error = infeasible(Budget(**limits), {"latency_ms": 0.0, "flash_bytes": 0.0, "ram_bytes": 0.0, **smallest})
    assert message in error.message
    assert error.details["budget"] == limits
    assert error.details.items() >= {name: smallest[name] for name in limits}.items()


def test_a_search_that_was_given_up_says_all_limits():
    limits, smallest = Budget(latency_ms=1.5, ram_bytes=4e4), {"latency_ms": 1.2, "ram_bytes": 39e3}
    error = infeasible(limits, smallest, proven=False)
    assert "1.5 ms (smallest reachable: 1.2 ms) and 40.0 kB of RAM (smallest reachable: 39.0 kB)" in error.message
    assert "--time-limit" in error.hint
