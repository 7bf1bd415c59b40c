"""The multiple-choice knapsack inside the knapsack solver."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from budget_problems import random_problem
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.budget import Budget, Evaluator
from edgeprune.budget.check import check_budget
from edgeprune.budget.knapsack import _linear_step, best_levels
from edgeprune.budget.search import Point


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), groups=st.integers(1, 4), room=st.floats(0.01, 1.2))
def test_never_overspends_and_is_optimal_up_to_the_rounding_of_costs(seed, groups, room):
    rng = np.random.default_rng(seed)
    values = [rng.random(int(rng.integers(1, 5))) for _ in range(groups)]
    costs = [rng.standard_normal(v.shape) for v in values]
    low, high = sum(c.min() for c in costs), sum(c.max() for c in costs)
    capacity = low + room * (high - low)

    def best(limit):
        plans = product(*(range(len(v)) for v in values))
        spent = ((p, sum(c[k] for c, k in zip(costs, p, strict=True))) for p in plans)
        fitting = [sum(v[k] for v, k in zip(values, p, strict=True)) for p, s in spent if s <= limit]
        return max(fitting, default=-np.inf)

    found = best_levels(values, costs, capacity)
    assert sum(c[k] for c, k in zip(costs, found, strict=True)) <= capacity + 1e-6 * (high - low + 1)
    value = sum(v[k] for v, k in zip(values, found, strict=True))
    assert value >= best(capacity - groups * (capacity - low) / 2048) - 1e-9


def test_the_cheapest_levels_where_nothing_fits():
    costs = [np.array([3.0, 1.0, 2.0]), np.array([5.0, 6.0])]
    assert best_levels([np.arange(3.0), np.arange(2.0)], costs, 5.9) == [1, 0]


def test_a_whole_number_of_bins_fits_to_the_last_one():
    # 0.1 * 3 is a little over 0.3; four groups at a quarter of the room each must still fit.
    costs = [np.array([0.0, 0.1 * 3])] * 4
    assert best_levels([np.array([0.0, 1.0])] * 4, costs, 1.2) == [1, 1, 1, 1]


@pytest.mark.parametrize("seed", range(8))
def test_a_step_keeps_both_limits_as_far_as_costs_are_linear(seed):
    evaluator = Evaluator(random_problem(seed, groups=6))
    point = Point(evaluator, evaluator.full_levels)
    cheapest = np.sum([point.deltas(c).min(axis=0) for c in range(6)], axis=0)
    # Latency is easy, flash is hard: without its price the step would overspend flash.
    limits = check_budget(Budget(*(point.costs + cheapest * np.array([0.2, 0.7]))))
    chosen = _linear_step(point, limits.of_rows(2))
    linear = point.costs + np.sum([point.deltas(c)[k] for c, k in enumerate(chosen)], axis=0)
    assert (linear <= limits.of_rows(2) * (1 + 1e-9)).all()
    assert point.saliency + sum(point.gains(c)[k] for c, k in enumerate(chosen)) > 0
