"""The two walks, on their own: what the solvers fall back on would hide a walk that stops short."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from budget_problems import random_problem, staircase

from edgeprune.budget import Axis, Budget, Evaluator, Problem
from edgeprune.budget.check import check_budget
from edgeprune.budget.search import Point, improve, reduce


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
