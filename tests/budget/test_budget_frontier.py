"""The frontier of small problems against enumeration, bounds under other budgets, hypervolume and knees."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from budget_problems import random_problem, staircase
from test_budget_properties import enumerated, varied

from edgeprune.budget import Budget, Evaluator, Stop, get_solver
from edgeprune.budget.certificate import verify
from edgeprune.budget.effort import Effort
from edgeprune.budget.frontier import coarse_to_fine, sweep
from edgeprune.budget.pareto import hypervolume, knees, non_dominated
from edgeprune.budget.problem import RESOURCES
from edgeprune.budget.proven import Proven
from edgeprune.budget.reach import Floor
from edgeprune.budget.tree import Tree
from edgeprune.errors import PlanError, UsageError, VerificationError
from edgeprune.progress import SILENT


def cases(seeds):
    """Problems, and one or two resources of each; RAM where it is known."""
    for seed in seeds:
        problem = varied(seed)
        known = RESOURCES if problem.ram else RESOURCES[:2]
        against = [(known[seed % len(known)],), list(combinations(known, 2))[seed % len(list(combinations(known, 2)))]]
        for chosen in against:
            yield seed, problem, chosen


def best_inside(costs: np.ndarray, saliency: np.ndarray, limits: np.ndarray) -> float:
    """By enumeration; -inf where no plan fits."""
    return float(saliency[(costs <= limits * (1 + 1e-9)).all(axis=1)].max(initial=-np.inf))


@pytest.mark.parametrize(
    ("solver", "seeds"),
    [("lagrangian", range(10)), ("exact", range(10, 14)), ("greedy", range(14, 18)), ("brute_force", range(18, 22))],
)
def test_points_keep_their_limits_and_no_plan_is_above_its_bound(solver, seeds):
    for seed, problem, against in cases(seeds):
        costs, saliency = enumerated(problem)
        costs = costs[:, [RESOURCES.index(r) for r in against]]
        front = sweep(problem, against, count=6, solver=solver)
        assert front.stop is None
        assert front.asked == front.wanted
        for point in front.points:
            own = np.array([getattr(point.solution, r) for r in against])
            best = best_inside(costs, saliency, own)
            assert point.solution.saliency <= best + 1e-9, seed
            assert point.solution.bound >= best - 1e-9, seed
            assert point.budget.to_json() == dict(zip(against, own, strict=True))
            if solver != "brute_force":
                verify(problem, point.budget, point.solution)
        # Nothing on it is beaten by anything else on it.
        for a, b in combinations(range(len(front.points)), 2):
            for x, y in ((a, b), (b, a)):
                assert (front.costs[x] < front.costs[y]).any() or front.saliency[x] > front.saliency[y], seed
        anywhere = costs.min(axis=0) + np.random.default_rng(seed).random((20, len(against))) * np.ptp(costs, axis=0)
        for limits, bound in zip(anywhere, front.bound_at(anywhere), strict=True):
            assert bound >= best_inside(costs, saliency, limits) - 1e-9, seed
        every = non_dominated(costs, saliency)
        reference = np.array([getattr(front.widest, r) for r in against])
        ones = np.ones(len(against))
        whole = hypervolume(costs[every] / reference, saliency[every] / saliency.max(), ones)
        assert front.hypervolume <= whole + 1e-9, seed
        assert front.hypervolume_bound >= whole - 1e-9, seed


def test_exact_points_are_those_of_enumeration():
    for seed in range(6):
        problem = varied(seed)
        resource = seed % (3 if problem.ram else 2)
        costs, saliency = enumerated(problem)
        costs = costs[:, [resource]]
        front = sweep(problem, (RESOURCES[resource],), count=5, solver="exact")
        for cost, kept in zip(front.costs, front.saliency, strict=True):
            assert kept == pytest.approx(best_inside(costs, saliency, cost), rel=1e-9, abs=1e-12), seed
        for limit in np.linspace(costs.min(), getattr(front.widest, RESOURCES[resource]), 5):
            found = front.saliency[front.costs[:, 0] <= limit * (1 + 1e-9)].max()
            assert found == pytest.approx(best_inside(costs, saliency, np.array([limit])), rel=1e-9), seed


def test_where_tables_are_split_the_bounds_hold_all_the_same(monkeypatch):
    for part in (Tree, Floor):
        monkeypatch.setattr(part.__init__, "__kwdefaults__", {"max_cells": 1})
    problem = random_problem(7, groups=8, levels=2, noise=0.3)
    costs, saliency = enumerated(problem)
    front = sweep(problem, ("latency_ms", "flash_bytes"), count=9)
    assert not front.floor_proven
    every = non_dominated(costs[:, :2], saliency)
    reference = np.array([front.widest.latency_ms, front.widest.flash_bytes])
    whole = hypervolume(costs[every, :2] / reference, saliency[every] / saliency.max(), np.ones(2))
    assert front.hypervolume <= whole + 1e-9 <= front.hypervolume_bound + 2e-9
    for own, bound in zip(front.costs, (p.solution.bound for p in front.points), strict=True):
        assert bound >= best_inside(costs[:, :2], saliency, own) - 1e-9


def test_saliency_rises_along_one_resource():
    front = sweep(random_problem(1, groups=8, levels=8, noise=0.3), count=12)
    assert len(front.points) > 8
    assert (np.diff(front.costs[:, 0]) > 0).all()
    assert (np.diff(front.saliency) > 0).all()
    assert front.saliency[-1] == front.widest.saliency
    assert front.worst_gap < 0.05


def test_plans_between_limits_are_better_than_the_solver_alone():
    problem = random_problem(1, groups=8, levels=8, noise=0.3)
    front = sweep(problem, count=6, solver="uniform")
    assert "local search" in {p.solution.method for p in front.points}
    alone = get_solver("uniform")
    low, high = front.smallest["latency_ms"], front.widest.latency_ms
    for limit in np.linspace(low, high, 6)[1:]:
        found = front.saliency[front.costs[:, 0] <= limit * (1 + 1e-9)].max()
        assert found >= alone.solve(problem, Budget(latency_ms=float(limit))).saliency
    assert front.worst_gap < 0.1


def test_two_resources_show_what_one_does_not():
    problem = random_problem(3, groups=8, levels=8)
    both = sweep(problem, ("latency_ms", "flash_bytes"), count=25)
    alone = sweep(problem, ("latency_ms",), count=5)
    costs = np.array([[p.solution.latency_ms, p.solution.flash_bytes] for p in alone.points])
    reference = np.array([both.widest.latency_ms, both.widest.flash_bytes])
    share = alone.saliency / alone.widest.saliency
    assert both.hypervolume > hypervolume(costs / reference, share, np.ones(2))
    assert sum(p.knee for p in both.points) == 1


# -- bounds under other budgets --------------------------------------------------------------------


def test_a_bound_that_is_carried_to_another_budget_is_proven_there():
    carried = tight = 0
    for seed in range(12):
        problem = varied(seed)
        costs, saliency = enumerated(problem)
        rng = np.random.default_rng(seed)
        middle = costs.min(axis=0) + 0.5 * np.ptp(costs, axis=0)
        ram = {"ram_bytes": float(middle[2])} if problem.ram else {}
        budget = Budget(float(middle[0]), float(middle[1]), **ram)
        if best_inside(costs, saliency, budget.values) == -np.inf:
            continue
        found = get_solver("exact").solve(problem, budget)
        proven = Proven.of(budget, found.bound, found.witness)
        for factor in (1.0, *(0.6 + 0.9 * rng.random(4))):
            other = Budget(**{r: v * factor ** rng.random() for r, v in budget.to_json().items()})
            (bound,) = proven.at(other.values[None])
            best = best_inside(costs, saliency, other.values)
            if best == -np.inf or bound == np.inf:
                continue
            assert bound >= best - 1e-9, seed
            plan = get_solver("exact").solve(problem, other)
            claim = replace(plan, bound=max(float(bound), plan.saliency), witness=proven.moved(other))
            verify(problem, other, claim)
            carried += 1
            # The prices prove no less than the witness says, so something must be found wrong below it.
            if bound > best + 1e-3:
                try:
                    verify(problem, other, replace(claim, bound=(best + float(bound)) / 2))
                except VerificationError:
                    tight += 1
    assert carried > 15
    assert tight > 3


def test_a_bound_says_nothing_of_a_budget_without_its_limit():
    problem = varied(11)
    full = Evaluator(problem).costs(np.array([[c.levels[-1] for c in problem.choices]]))[0]
    budget = Budget(latency_ms=float(full[0]) * 0.7)
    found = get_solver("lagrangian").solve(problem, budget)
    proven = Proven.of(budget, found.bound, found.witness)
    assert proven.at(np.array([[np.inf, full[1], np.inf]])) == np.inf
    narrower = proven.at(np.array([[budget.latency_ms, full[1] / 2, np.inf]]))
    assert narrower == pytest.approx(found.bound)
    known = Proven.of(budget, found.bound, None)
    assert known.at(budget.values[None]) == known.at(budget.values[None] * 0.9) == found.bound
    assert known.at(budget.values[None] * 1.1) == np.inf
    assert known.moved(budget) is None


# -- hypervolume, domination, knees ------------------------------------------------------------------


@pytest.mark.parametrize("resources", [1, 2])
def test_the_hypervolume_is_the_count_of_unit_cells(resources):
    rng = np.random.default_rng(resources)
    for _ in range(20):
        costs = rng.integers(0, 9, (6, resources)).astype(float)
        values = rng.integers(-1, 8, 6).astype(float)
        cells = 0
        for at in np.ndindex(*[8] * resources, 8):
            corner = np.array(at)
            cells += bool(((costs <= corner[:-1]).all(axis=1) & (values >= corner[-1] + 1)).any())
        assert hypervolume(costs, values, np.full(resources, 8.0)) == cells


def test_of_equal_plans_the_first_stays():
    costs = np.array([[2.0], [1.0], [1.0], [3.0], [3.0]])
    assert non_dominated(costs, np.array([5.0, 4.0, 4.0, 5.0, 6.0])).tolist() == [1, 0, 4]


def test_the_knee_of_a_curve_is_where_it_bends():
    x = np.linspace(0, 10, 21)[:, None]
    assert knees(x, np.minimum(3 * x[:, 0], 9 + 0.1 * (x[:, 0] - 3))) == [6]
    stairs = np.interp(x[:, 0], [0, 1, 4, 5, 10], [0, 5, 5.2, 9, 10])
    assert knees(x, stairs) == [2, 10]
    assert knees(x, 2 * x[:, 0]) == []
    assert knees(x[:2], x[:2, 0]) == []
    assert knees(x, x[:, 0] ** 2) == []
    assert knees(np.ones((4, 1)), np.arange(4.0)) == []


def test_the_knee_of_a_surface_is_farthest_from_the_plane_through_its_extremes():
    a, b = np.meshgrid(np.linspace(0, 1, 5), np.linspace(0, 1, 5), indexing="ij")
    value = np.minimum(np.minimum(4 * a, 4 * b), 1.0) + 0.1 * (a + b)
    found = knees(np.stack([a.ravel(), b.ravel()], axis=1), value.ravel())
    assert [(float(a.ravel()[i]), float(b.ravel()[i])) for i in found] == [(0.25, 0.25)]


# -- how a sweep ends -----------------------------------------------------------------------------------


def test_limits_far_apart_come_first():
    assert coarse_to_fine(range(7)) == [6, 0, 3, 1, 4, 2, 5]
    assert sorted(coarse_to_fine(range(24))) == list(range(24))
    assert [coarse_to_fine(range(n)) for n in range(3)] == [[], [0], [1, 0]]


class Pressed:
    """Ctrl-C after some questions."""

    def __init__(self, after: int) -> None:
        self.left = after

    def stage(self, name: str, total: int | None = None) -> None:
        SILENT.stage(name, total)

    def note(self, text: str) -> None:
        SILENT.note(text)

    def advance(self, n: int = 1) -> None:
        self.left -= n
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("against", [("latency_ms",), ("latency_ms", "flash_bytes")])
def test_ctrl_c_gives_the_curve_so_far_from_end_to_end(against):
    front = sweep(random_problem(1, groups=6, levels=6), against, count=16, progress=Pressed(after=3))
    assert (front.stop, front.asked, front.wanted) == (Stop.INTERRUPTED, 3, 16)
    assert len(front.points) >= 3
    assert front.saliency[-1] == front.widest.saliency
    assert front.costs[:, 0].min() == pytest.approx(front.smallest["latency_ms"])
    assert all(p.solution.gap is not None for p in front.points)


def test_a_time_limit_ends_the_sweep():
    front = sweep(random_problem(1, groups=6, levels=6), count=9, effort=Effort(1e-9))
    assert (front.stop, front.asked) == (Stop.TIME_LIMIT, 0)
    assert [p.solution.saliency for p in front.points][-1] == front.widest.saliency
    assert sweep(random_problem(1, groups=3), count=3, solver="exact", effort=Effort(60.0)).stop is None


def test_a_plan_that_cannot_be_made_smaller_is_a_frontier_of_one_point():
    problem = staircase([1.0], [2.0], [8])
    for against in (("latency_ms",), ("flash_bytes", "latency_ms")):
        front = sweep(problem, against)
        assert [p.solution.widths for p in front.points] == [(8,)]
        assert (front.worst_gap, front.hypervolume) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("against", "given", "why"),
    [
        ((), {}, "one resource or two"),
        (("latency_ms", "latency_ms"), {}, "one resource or two"),
        (RESOURCES, {}, "one resource or two"),
        (("milliseconds",), {}, "no resource 'milliseconds'"),
        (("ram_bytes",), {}, "nothing of RAM"),
        (("latency_ms",), {"count": 1}, "1 limits make no curve"),
        (("latency_ms",), {"solver": "anneal"}, "no solver 'anneal'"),
    ],
)
def test_what_makes_no_sense_is_refused(against, given, why):
    with pytest.raises(UsageError, match=why):
        sweep(random_problem(1), against, **given)


def test_a_problem_that_does_not_check_is_refused():
    problem = random_problem(1)
    broken = replace(problem, choices=(replace(problem.choices[0], levels=(16, 8)), *problem.choices[1:]))
    with pytest.raises(PlanError):
        sweep(broken)


def test_the_json_has_every_point_with_what_proves_it():
    front = sweep(random_problem(1), count=5)
    body = front.to_json()
    assert body["stop"] == "complete"
    assert len(body["points"]) == len(front.points)
    assert all(p["witness"] and p["gap"] >= 0 and len(p["widths"]) == 4 for p in body["points"])
    assert body["hypervolume"] <= body["hypervolume_bound"]
    assert body["widest"]["ram_bytes"] is None
