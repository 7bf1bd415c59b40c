"""Odd questions: hardly any room, hardly any time, hardly any numbers; and answers to other questions."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from edgeprune.budget import reach
from edgeprune.budget.effort import Effort
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.problem import Axis, Budget, Choice, Problem, Row, Stop, Table, Term, relative_gap
from edgeprune.budget.registry import get_solver
from edgeprune.budget.solving import PROBLEM, SOLUTION, Solved, solve
from edgeprune.errors import BadInputError, InfeasibleBudgetError, PlanError, ProfileError, UsageError

LEVELS = (8, 16, 24)


def grid(*widths: int) -> tuple[np.ndarray, ...]:
    return (np.array(widths, dtype=np.int64),)


def chain(count: int = 3, *, levels: tuple[int, ...] = LEVELS, ram: bool = False, seed: int = 0) -> Problem:
    """Groups one after the other, each with a kernel of its own; and a step of RAM between neighbours."""
    random = np.random.default_rng(seed)
    steps = np.cumsum(random.uniform(0.1, 1.0, (count, len(levels))), axis=1)
    choices = tuple(Choice(f"g{i}", levels, np.arange(1.0, len(levels) + 1)) for i in range(count))
    terms = tuple(Term(f"k{i}", (Axis((i,)),), grid(*levels), ms, 100 * ms) for i, ms in enumerate(steps))
    both = [(Axis((i,)), Axis((i + 1,))) for i in range(count - 1)]
    rows = tuple(
        Row(f"s{i}", 0.0, (Table(axes, grid(*levels) * 2, np.add.outer(*[np.array(levels, float) * 7] * 2)),))
        for i, axes in enumerate(both)
    )
    return Problem(choices, terms, 0.1, ram=rows if ram else ())


def least_ms(problem: Problem) -> float:
    evaluator = Evaluator(problem)
    return float(evaluator.costs(np.array([[c.levels[0] for c in problem.choices]]))[0, 0])


@pytest.mark.parametrize("solver", ["knapsack", "greedy", "lagrangian", "exact"])
@pytest.mark.parametrize("seed", range(40))
def test_a_limit_at_the_least_cost_leaves_one_plan(solver, seed):
    problem = chain(1 + seed % 3, seed=seed)
    for limit in (least_ms(problem), least_ms(problem) * (1 + 2e-16)):
        found = get_solver(solver).solve(problem, Budget(latency_ms=limit))
        assert found.widths == (8,) * len(problem.choices)


@pytest.mark.parametrize("solver", ["exact", "lagrangian"])
def test_hardly_any_time_gives_some_plan_where_there_is_one(solver):
    """One with a bound that holds, and a gap that says how much better another may be."""
    problem = chain(40, ram=True)
    limits = Budget(latency_ms=1.5 * least_ms(problem), ram_bytes=150.0)
    found = solve(problem, limits, solver, effort=Effort(1e-9)).solution
    assert found.stop is Stop.TIME_LIMIT
    assert found.latency_ms <= limits.values[0] * (1 + 1e-9)
    assert found.ram_bytes <= 150.0
    assert found.bound >= get_solver("exact").solve(problem, limits).saliency * (1 - 1e-9)


def test_what_is_out_of_reach_is_said_soon(monkeypatch):
    """The smallest RAM is looked for by bisection, which has an end of its own."""
    monkeypatch.setattr(reach, "GRACE_S", 0.2)
    problem = chain(40, ram=True)
    limits = Budget(latency_ms=0.5 * least_ms(problem), ram_bytes=1.0)
    with pytest.raises(InfeasibleBudgetError) as e:
        get_solver("exact").solve(problem, limits, effort=Effort(1e-9))
    assert e.value.details["proven"] is False
    assert "--time-limit" in e.value.hint
    assert "no plan keeps" not in e.value.message


def test_ctrl_c_while_the_smallest_ram_is_looked_for_is_ctrl_c(monkeypatch):
    def interrupted(self, *, boxes, advance=None):
        return Stop.INTERRUPTED

    problem = chain(6, ram=True, seed=3)
    floor = reach.Floor(Evaluator(problem))
    monkeypatch.setattr(reach, "_SAME", -1.0)  # so that it bisects in any case
    monkeypatch.setattr(reach.Search, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        floor.smallest()


def test_a_gap_is_a_share_of_something():
    assert relative_gap(2.0, 2.0) == relative_gap(1.0, 2.0) == 0.0
    assert relative_gap(3.0, 2.0) == 0.5
    assert relative_gap(1.0, 0.0) is None
    assert relative_gap(1.0, -1.0) is None
    assert relative_gap(1.0, 5e-324) is None


@pytest.mark.parametrize(
    ("error", "changed"),
    [
        (PlanError, lambda p: replace(p, choices=(replace(p.choices[0], levels=(8, 16, 1 << 40)), *p.choices[1:]))),
        (PlanError, lambda p: replace(p, choices=(replace(p.choices[0], saliency=np.array([1, 2, 1e200])),))),
        (ProfileError, lambda p: replace(p, base_latency_ms=1e200)),
        (ProfileError, lambda p: replace(p, terms=(replace(p.terms[0], latency_ms=np.array([1, 2, 1e200])),))),
        (ProfileError, lambda p: replace(p, terms=(replace(p.terms[0], axes=(Axis((0,), 1 << 40),)),))),
    ],
)
def test_figures_that_would_overflow_are_refused(error, changed):
    with pytest.raises(error):
        Evaluator(changed(chain()))


def test_groups_that_add_up_to_too_many_widths_are_refused():
    """Each of these would be a place in an array."""
    problem = chain(2, levels=(1, 1 << 24))
    both = Term("both", (Axis((0, 1)),), grid(2, 1 << 25), np.array([1.0, 2.0]), np.zeros(2))
    with pytest.raises(ProfileError, match="both: axis 0 adds up to"):
        Evaluator(replace(problem, terms=(*problem.terms, both)))


@pytest.mark.parametrize("limit", [1e-200, 1e200])
def test_limits_that_would_overflow_are_refused(limit):
    with pytest.raises(UsageError, match="makes no sense"):
        get_solver("exact").solve(chain(), Budget(latency_ms=limit))


@pytest.fixture
def run(tmp_path):
    """A folder with a question and its answer, and what alters them."""
    problem = chain(ram=True)
    solve(problem, Budget(latency_ms=1.6 * least_ms(problem))).save_in(tmp_path)
    Solved.load_from(tmp_path).check()

    def alter(name: str, change) -> None:
        data = json.loads((tmp_path / name).read_text())
        change(data)
        (tmp_path / name).write_text(json.dumps(data))

    return tmp_path, alter


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (PROBLEM, lambda d: d["budget"].update(latency_ms=99.0)),
        (PROBLEM, lambda d: d["choices"][0].update(saliency=[2.0, 4.0, 6.0])),
        (PROBLEM, lambda d: d.update(base_latency_ms=0.2)),
        (SOLUTION, lambda d: d.update(saliency=d["saliency"] * 1.01)),
        (SOLUTION, lambda d: d.update(ram_bytes=None)),
        (SOLUTION, lambda d: d.update(bound=d["bound"] / 2)),
        (SOLUTION, lambda d: d.update(bound=float("nan"))),
        (SOLUTION, lambda d: d.update(bound=10**400)),
        (SOLUTION, lambda d: d.update(steps=float("inf"))),
    ],
)
def test_an_answer_to_another_question_is_refused(run, name, change):
    folder, alter = run
    alter(name, change)
    with pytest.raises(BadInputError, match=SOLUTION):
        Solved.load_from(folder)


def test_infeasible_is_still_proven_with_its_numbers():
    problem = chain(ram=True)
    with pytest.raises(InfeasibleBudgetError, match="no plan keeps the budget") as e:
        get_solver("exact").solve(problem, Budget(latency_ms=0.5 * least_ms(problem)))
    assert e.value.details["proven"] is True
    assert e.value.details["latency_ms"] == pytest.approx(least_ms(problem))
