"""Costs by interpolation, and the cheap change of one choice against a fresh evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from budget_problems import every_plan, full_widths, random_problem, slow_costs, small_problems, staircase
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.budget import Axis, Budget, Evaluator, Problem, Row, Table, Term, evaluate
from edgeprune.budget.interpolate import interpolate, tabulate
from edgeprune.budget.problem import Choice
from edgeprune.budget.search import Point
from edgeprune.errors import PlanError


def test_exact_at_grid_points_linear_between_clamped_outside():
    grid, table = np.array([8, 16, 32]), np.array([[0.1], [0.3], [0.7]])
    at = interpolate([grid], table, [np.array([8, 16, 32, 12, 24, 1, 99])])[:, 0]
    assert at[:3].tolist() == [0.1, 0.3, 0.7]  # to the last bit
    assert at[3:].tolist() == pytest.approx([0.2, 0.5, 0.1, 0.7])


def test_one_point_is_a_grid_too():
    assert interpolate([np.array([5])], np.array([[3.0]]), [np.array([1, 5, 9])])[:, 0].tolist() == [3.0] * 3


def test_a_table_at_all_combinations_is_that_of_each_point():
    grids = [np.array([8, 16, 32]), np.array([2, 3])]
    table = np.random.default_rng(0).random((3, 2, 2))
    totals = [np.array([8, 12, 16, 40]), np.array([1, 2, 3])]
    points = [m.ravel() for m in np.meshgrid(*totals, indexing="ij")]
    assert tabulate(grids, table, totals).reshape(-1, 2) == pytest.approx(interpolate(grids, table, points))
    assert tabulate(grids, table, grids) is table  # what lies on the grid is what it is


@settings(max_examples=40, deadline=None)
@given(problem=small_problems, data=st.data())
def test_agrees_with_the_definition(problem, data):
    widths = tuple(data.draw(st.sampled_from(c.levels)) for c in problem.choices)
    evaluator = Evaluator(problem)
    assert (evaluator.latency_ms(widths), evaluator.flash_bytes(widths)) == pytest.approx(slow_costs(problem, widths))
    levels = [c.levels.index(w) for c, w in zip(problem.choices, widths, strict=True)]
    assert evaluator.costs_at(levels) == pytest.approx(slow_costs(problem, widths))


def test_only_a_budget_of_ram_takes_rows_of_ram():
    problem = random_problem(2)
    row = Row("step", 100.0, (Table((Axis((0,)),), (np.array([8, 16]),), np.arange(2.0)),))
    problem = Problem(problem.choices, problem.terms, ram=(row,))
    free, limited = (Evaluator(problem, b) for b in (Budget(1.0), Budget(1.0, ram_bytes=1.0)))
    assert (len(free.base), len(limited.base)) == (2, 3)
    full = free.full_levels
    assert free.solution(full, "x") == limited.solution(full, "x") == Evaluator(problem).solution(full, "x")
    assert free.solution(full, "x").ram_bytes == 101.0


def test_a_batch_is_its_rows():
    problem = random_problem(4, noise=1.0)
    plans = list(every_plan(problem))
    batch = Evaluator(problem).costs(np.array(plans))
    assert batch == pytest.approx(np.array([slow_costs(problem, p) for p in plans]))


def test_an_axis_may_count_a_choice_twice():
    # concat(x, x): both halves follow one group.
    term = Term("k", (Axis((0, 0), 2),), (np.array([18, 34]),), np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    evaluator = Evaluator(Problem((Choice("g", (8, 12, 16), np.arange(3.0)),), (term,)))
    assert [evaluator.latency_ms((w,)) for w in (8, 12, 16)] == [1.0, 1.5, 2.0]


def test_a_width_that_is_no_level_has_no_saliency():
    with pytest.raises(PlanError, match="g has no level 9"):
        Evaluator(staircase([1, 2, 3, 4], [1.0] * 4)).saliency((9,))


@pytest.mark.parametrize("kept", [evaluate.MAX_TABLE, 1])
@settings(max_examples=30, deadline=None)
@given(problem=small_problems, data=st.data())
def test_deltas_after_any_walk_are_those_of_a_fresh_evaluation(kept, problem, data):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(evaluate, "MAX_TABLE", kept)
        walk_about(problem, data)


def walk_about(problem, data):
    evaluator = Evaluator(problem)
    point = Point(evaluator, evaluator.full_levels)
    for _ in range(4):
        for c in range(len(problem.choices)):
            widths = np.repeat([evaluator.widths(point.levels)], len(problem.choices[c].levels), axis=0)
            widths[:, c] = problem.choices[c].levels
            fresh = np.array([slow_costs(problem, w) for w in widths])
            assert point.costs + point.deltas(c) == pytest.approx(fresh)
            assert point.changes()[0][point.choice_of == c] == pytest.approx(point.deltas(c))
            assert point.changes()[1][point.choice_of == c] == pytest.approx(point.gains(c))
        c = data.draw(st.integers(0, len(problem.choices) - 1))
        point.move((c, data.draw(st.integers(0, len(problem.choices[c].levels) - 1))))
    assert point.costs == pytest.approx(slow_costs(problem, evaluator.widths(point.levels)))


def test_a_change_of_one_choice_evaluates_only_the_terms_it_touches(monkeypatch):
    problem = random_problem(1, groups=12)
    evaluator = Evaluator(problem)
    point = Point(evaluator, evaluator.full_levels)
    asked: list[int] = []
    original = evaluator.piece_costs
    monkeypatch.setattr(evaluator, "piece_costs", lambda t, w: asked.append(t) or original(t, w))
    touched = {i for i, piece in enumerate(evaluator.pieces) if 0 in piece.scope}
    assert len(touched) < len(evaluator.pieces)
    point.deltas(0)
    assert set(asked) == touched
    asked.clear()
    point.deltas(0)
    assert asked == []  # kept until a neighbour moves
    point.move((0, 0))
    assert set(asked) == touched
    assert full_widths(problem)[1:] == evaluator.widths(point.levels)[1:]
