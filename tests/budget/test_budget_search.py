"""The two walks, on their own: what the solvers fall back on would hide a walk that stops short."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from budget_problems import NESTED, random_problem, staircase

from edgeprune.budget import Axis, Budget, Evaluator, Problem
from edgeprune.budget.check import check_budget
from edgeprune.budget.incumbent import climb
from edgeprune.budget.search import Point, improve, reduce, trade


def walk(problem, latency_ms):
    evaluator, limits = Evaluator(problem), check_budget(Budget(latency_ms=latency_ms))
    point = Point(evaluator, evaluator.full_levels)
    return point, reduce(point, limits), limits


@pytest.mark.parametrize(
    ("latency_ms", "limit", "level", "steps"),
    [
        ([1.0, 4.0, 4.0, 4.0], 1.5, 0, 1),  # a plateau is crossed in one step
        ([1.0, 9.0, 8.0, 4.0], 1.5, 0, 1),  # a hill too
        ([1.0, 2.0, 3.0, 4.0], 2.5, 1, 2),  # no further than needed
        ([2.0, 5.0, 2.5, 9.0], 3.0, 2, 1),  # the wider and faster one
        ([1.0, 2.0, 3.0, 4.0], 4.0, 3, 0),
    ],
)
def test_down_crosses_what_is_not_monotone(latency_ms, limit, level, steps):
    # Saliency falls off fast, so that a small loss is tried before a large one.
    point, taken, _ = walk(staircase([1, 8, 12, 13], latency_ms), limit)
    assert (point.levels, taken) == ([level], steps)


def test_down_stops_where_nothing_helps_and_says_so():
    point, taken, _ = walk(staircase([1, 2, 3, 4], [3.0, 3.5, 2.0, 4.0]), 1.0)
    assert taken is None
    assert point.levels == [2]


def test_what_costs_nothing_is_given_up_first():
    lossy, free = staircase([1, 2, 3, 4], [1.0, 2.0, 3.0, 9.0]), staircase([1, 1, 1, 1], [1.0, 2.0, 3.0, 4.0])
    term = replace(free.terms[0], name="k2", axes=(Axis((1,)),))
    both = Problem((lossy.choices[0], replace(free.choices[0], name="h")), (lossy.terms[0], term))
    # One level of the lossy group removes more than all of the free one, and loses more.
    point, taken, _ = walk(both, 10.5)
    assert (point.levels, taken) == ([3, 0], 1)


def test_up_regains_the_most_first_and_never_leaves_the_budget():
    problem = random_problem(9, groups=5, levels=5)
    evaluator = Evaluator(problem)
    limits = check_budget(Budget(latency_ms=evaluator.latency_ms(evaluator.widths(evaluator.full_levels)) * 0.7))
    point = Point(evaluator, [0] * 5)
    before = point.saliency
    assert improve(point, limits) > 0
    assert point.saliency > before
    assert limits.fits(point.costs)
    assert improve(point, limits) == 0
    for c in range(5):
        fits = limits.fits(point.costs + point.deltas(c))
        assert not (fits & (point.gains(c) > 0)).any()
        assert np.isfinite(point.deltas(c)).all()


def halved(problem):
    """A problem, half of its latency as a budget, and the first plan that keeps it."""
    evaluator = Evaluator(problem)
    full = evaluator.latency_ms(evaluator.widths(evaluator.full_levels))
    limits = check_budget(Budget(latency_ms=full * 0.5))
    point = Point(evaluator, evaluator.full_levels)
    assert reduce(point, limits) is not None
    return point, limits


def knapsack(seed):
    """Groups that share no kernel."""
    rng = np.random.default_rng(seed)
    parts = [staircase(np.cumsum(rng.random(4)), np.cumsum(0.1 + rng.random(4))) for _ in range(8)]
    choices = tuple(replace(p.choices[0], name=f"g{i}") for i, p in enumerate(parts))
    return Problem(choices, tuple(replace(p.terms[0], axes=(Axis((i,)),)) for i, p in enumerate(parts)))


def test_prices_make_the_search_for_pairs_quicker_and_change_nothing_else():
    improved = 0
    for seed in range(40):
        point, limits = halved(knapsack(seed))
        ends = []
        for price in (None, 0.0, 0.3, 3.0, 300.0):
            end = point.copy()
            climb(end, limits, None if price is None else np.array([price, 0.0]))
            ends.append(end.levels)
        assert all(levels == ends[0] for levels in ends), seed
        single = point.copy()
        improve(single, limits)
        improved += ends[0] != single.levels
    assert improved > 5


def test_out_of_time_a_walk_leaves_what_it_has():
    point, limits = halved(random_problem(3, groups=6, levels=6, blocks=NESTED))
    levels = list(point.levels)
    assert improve(point, limits, until=0.0) == 0
    climb(point, limits, until=0.0)
    assert point.levels == levels
    assert trade(point, limits, until=0.0) is point


def test_a_copy_goes_its_own_way():
    point, _ = halved(random_problem(5, groups=4))
    before, levels = point.costs, list(point.levels)
    other = point.copy()
    for choice in range(4):
        other.move((choice, 0))
    assert point.levels == levels
    assert point.costs.tolist() == before.tolist()
    fresh = Point(point.evaluator, [0] * 4)
    assert other.changes()[0] == pytest.approx(fresh.changes()[0])
