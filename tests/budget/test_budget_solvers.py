"""One suite for every solver: what each promises, checked by enumeration and independent evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from budget_problems import (
    NESTED,
    every_plan,
    full_widths,
    holds,
    random_problem,
    saliency_of,
    slow_costs,
    small_problems,
    staircase,
    whole,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.amounts import written
from edgeprune.budget import SOLVERS, Budget, get_solver
from edgeprune.budget.problem import Axis, Choice, Problem, Term
from edgeprune.budget.registry import by_name
from edgeprune.errors import InfeasibleBudgetError, UsageError

FREE = sorted(set(SOLVERS) - {"uniform"})  # methods that may choose each width on its own
PROVEN = {"brute_force", "exact"}
HEURISTICS = sorted(set(FREE) - {"brute_force"})
WORST_FRACTION = 0.5  # of the optimum, on any table; the averages below are the real expectation

every_solver = pytest.mark.parametrize("name", sorted(SOLVERS))
free_solver = pytest.mark.parametrize("name", FREE)
heuristic = pytest.mark.parametrize("name", HEURISTICS)


def budget_for(problem: Problem, latency: float, flash: float | None = None) -> Budget:
    latency_ms, flash_bytes = slow_costs(problem, full_widths(problem))
    return Budget(latency_ms * latency, None if flash is None else flash_bytes * flash)


def optimum(problem: Problem, budget: Budget) -> float | None:
    """By enumeration that shares nothing with the package."""
    return max((saliency_of(problem, w) for w in every_plan(problem) if holds(problem, budget, w)), default=None)


@every_solver
@pytest.mark.parametrize("seed", range(6))
def test_costs_and_saliency_are_what_an_independent_evaluation_says(name, seed):
    problem = random_problem(seed, noise=0.3)
    solution = get_solver(name).solve(problem, budget_for(problem, 0.7, 0.8))
    assert all(w in c.levels for w, c in zip(solution.widths, problem.choices, strict=True))
    assert (solution.latency_ms, solution.flash_bytes) == pytest.approx(slow_costs(problem, solution.widths))
    assert solution.saliency == pytest.approx(saliency_of(problem, solution.widths))
    assert holds(problem, budget_for(problem, 0.7, 0.8), solution.widths)
    assert solution.method == name


@every_solver
@pytest.mark.parametrize("flash", [None, 0.75])
def test_every_method_says_how_much_better_a_plan_could_be(name, flash):
    problem = random_problem(3, noise=0.3)
    budget = budget_for(problem, 0.6, flash)
    solution = get_solver(name).solve(problem, budget)
    best = optimum(problem, budget)
    assert solution.bound >= best * (1 - 1e-9)
    assert solution.gap == pytest.approx(solution.bound / solution.saliency - 1, abs=1e-9)
    if name in PROVEN:
        assert (solution.saliency, solution.bound) == (pytest.approx(best), pytest.approx(best))
        assert solution.stop == "optimal"


@every_solver
@pytest.mark.parametrize("flash", [None, 0.7])
def test_the_same_question_has_the_same_answer(name, flash):
    problem = random_problem(11, noise=1.0)
    budget = budget_for(problem, 0.6, flash)
    assert get_solver(name).solve(problem, budget) == get_solver(name).solve(problem, budget)


@every_solver
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_budget_that_holds_already_costs_nothing(name, noise):
    problem = random_problem(5, noise=noise)
    solution = get_solver(name).solve(problem, budget_for(problem, 1.0, 1.0))
    assert solution.widths == full_widths(problem)


@every_solver
def test_full_width_is_kept_where_a_plateau_makes_it_free(name):
    problem = staircase([1, 2, 2, 2], [1.0, 2.0, 3.0, 4.0])
    assert get_solver(name).solve(problem, Budget(latency_ms=4.0)).widths == (32,)


@every_solver
@pytest.mark.parametrize("resource", ["latency_ms", "flash_bytes"])
def test_below_the_reachable_is_an_error_with_the_smallest_reachable(name, resource):
    problem = random_problem(7)
    index = ("latency_ms", "flash_bytes").index(resource)
    smallest = min(slow_costs(problem, w)[index] for w in every_plan(problem))
    with pytest.raises(InfeasibleBudgetError) as caught:
        get_solver(name).solve(problem, Budget(**{resource: smallest * 0.99}))
    assert caught.value.exit_code == 4
    assert caught.value.details[resource] == pytest.approx(smallest)
    unit = resource.rpartition("_")[2]
    words = (written(smallest, unit), f"{smallest:.12g} {unit}, not ")  # with all digits where the limit reads alike
    assert any(f"smallest reachable: {word}" in caught.value.message for word in words)


@free_solver
def test_exactly_the_smallest_reachable_is_reached(name):
    problem = random_problem(8, noise=1.0)
    smallest = min(slow_costs(problem, w)[0] for w in every_plan(problem))
    assert get_solver(name).solve(problem, Budget(latency_ms=smallest)).latency_ms == pytest.approx(smallest)


@free_solver
@settings(max_examples=60, deadline=None)
@given(problem=small_problems, fraction=st.floats(0.1, 1.0), resource=st.integers(0, 1))
def test_near_the_optimum_wherever_there_is_one(name, problem, fraction, resource):
    limit = slow_costs(problem, full_widths(problem))[resource] * fraction
    budget = Budget(latency_ms=limit) if resource == 0 else Budget(flash_bytes=limit)
    best = optimum(problem, budget)
    if best is None:
        with pytest.raises(InfeasibleBudgetError):
            get_solver(name).solve(problem, budget)
        return
    found = get_solver(name).solve(problem, budget)
    assert holds(problem, budget, found.widths)
    assert found.saliency <= best * (1 + 1e-9)
    assert found.saliency >= best * (1 - 1e-9 if name in PROVEN else WORST_FRACTION)


@heuristic
@pytest.mark.parametrize("flash", [None, 0.75])
def test_on_average_within_two_percent_of_the_optimum(name, flash):
    fractions = []
    for seed in range(30):
        problem = random_problem(seed, groups=3, noise=(0.0, 0.3, 1.0)[seed % 3])
        budget = budget_for(problem, 0.6, flash)
        if (best := optimum(problem, budget)) is not None:
            fractions.append(get_solver(name).solve(problem, budget).saliency / best)
    assert len(fractions) >= 20
    assert np.mean(fractions) >= 0.98


@heuristic
@settings(max_examples=40, deadline=None)
@given(problem=small_problems, fraction=st.floats(0.3, 0.95), flash=st.sampled_from([None, 0.8]))
def test_no_change_of_one_width_is_better(name, problem, fraction, flash):
    budget = budget_for(problem, fraction, flash)
    try:
        found = get_solver(name).solve(problem, budget)
    except InfeasibleBudgetError:
        return
    for i, choice in enumerate(problem.choices):
        for level in choice.levels:
            other = (*found.widths[:i], level, *found.widths[i + 1 :])
            better = whole(problem, other) and saliency_of(problem, other) > found.saliency + 1e-9
            strictly_inside = holds(problem, Budget(*(x and x * (1 - 1e-7) for x in _pair(budget))), other)
            assert not (better and strictly_inside), f"{found.widths} -> {other}"


@every_solver
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), fraction=st.floats(0.05, 1.0), noise=st.sampled_from([0.0, 1.0]))
def test_blocks_are_removed_whole_or_not_at_all(name, seed, fraction, noise):
    problem = random_problem(seed, noise=noise, blocks=NESTED)
    try:
        found = get_solver(name).solve(problem, budget_for(problem, fraction))
    except InfeasibleBudgetError:
        assert name == "uniform" or optimum(problem, budget_for(problem, fraction)) is None
        return
    assert whole(problem, found.widths)
    assert name != "uniform" or all(found.widths)


@free_solver
def test_a_block_goes_where_narrow_channels_still_cost(name):
    """Any channel of the block costs half of what all cost: better to lose the block than all the rest."""
    terms = (
        Term("block", (Axis((0,)),), (np.array([0, 8, 16]),), np.array([0.0, 5.0, 6.0]), np.zeros(3)),
        Term("rest", (Axis((1,)),), (np.array([8, 16]),), np.array([1.0, 4.0]), np.zeros(2)),
    )
    choices = (Choice("g", (0, 8, 16), np.array([0.0, 1.0, 2.0])), Choice("h", (8, 16), np.array([1.0, 5.0])))
    problem = Problem(choices, terms, blocks=((0,),))
    assert get_solver(name).solve(problem, Budget(latency_ms=6.5)).widths == (0, 16)
    assert get_solver(name).solve(problem, Budget(latency_ms=9.5)).widths == (8, 16)


@free_solver
def test_a_kernel_that_goes_with_a_block_gives_its_time_back(name):
    """A pooling before the branch has no width of the block's: it is gated by one that has."""
    gated = Term("pool", (Axis((0,)),), (np.array([0, 8]),), np.array([0.0, 3.0]), np.zeros(2))
    conv = Term("conv", (Axis((0,)),), (np.array([0, 8, 16]),), np.array([0.0, 1.0, 2.0]), np.zeros(3))
    problem = Problem((Choice("g", (0, 8, 16), np.array([0.0, 1.0, 2.0])),), (gated, conv), 1.0, blocks=((0,),))
    assert get_solver(name).solve(problem, Budget(latency_ms=5.0)).widths == (8,)
    assert get_solver(name).solve(problem, Budget(latency_ms=4.9)).latency_ms == 1.0


def _pair(budget: Budget) -> tuple[float | None, float | None]:
    return budget.latency_ms, budget.flash_bytes


class TestLatencyNotMonotone:
    """Latency that falls with more channels (docs/FAULTS.md, 9)."""

    @every_solver
    def test_a_wider_and_faster_level_wins(self, name):
        problem = staircase([1, 2, 3, 4], [2.0, 5.0, 2.5, 9.0])
        assert get_solver(name).solve(problem, Budget(latency_ms=3.0)).widths == (24,)

    @every_solver
    def test_a_plateau_does_not_stop_the_way_down(self, name):
        problem = staircase([1, 2, 3, 4], [1.0, 4.0, 4.0, 4.0])
        assert get_solver(name).solve(problem, Budget(latency_ms=1.5)).widths == (8,)

    @every_solver
    def test_a_hill_does_not_stop_the_way_down(self, name):
        problem = staircase([1, 2, 3, 4], [1.0, 9.0, 8.0, 4.0])
        assert get_solver(name).solve(problem, Budget(latency_ms=1.5)).widths == (8,)

    @free_solver
    def test_growing_one_group_may_be_what_makes_the_network_fast(self, name):
        # Only the pair (narrow, narrow) is fast; narrowing either group alone makes it slower.
        two = random_problem(0, groups=2, levels=2)
        choices = tuple(Choice(n, (8, 16), np.array([1.0, 2.0])) for n in "ab")
        term = next(t for t in two.terms if len(t.axes) == 2 and len(t.axes[0].choices) == 1)
        grid = np.array([8, 16])
        axes = tuple(type(term.axes[0])((c,)) for c in (0, 1))
        latency = np.array([[1.0, 9.0], [9.0, 5.0]])
        trap = Problem(choices, (type(term)("k", axes, (grid, grid), latency, np.ones((2, 2))),))
        assert get_solver(name).solve(trap, Budget(latency_ms=2.0)).widths == (8, 8)


class TestManyGroups:
    """A size no enumeration reaches: the methods against each other and against the baseline."""

    problem = random_problem(1, groups=24, levels=12, noise=0.1)

    @heuristic
    def test_beats_the_uniform_baseline(self, name):
        budget = budget_for(self.problem, 0.5, 0.6)
        found = get_solver(name).solve(self.problem, budget)
        assert holds(self.problem, budget, found.widths)
        assert found.saliency > 1.02 * get_solver("uniform").solve(self.problem, budget).saliency

    def test_greedy_takes_no_more_steps_than_there_are_levels_to_give_up_and_regain(self):
        solution = get_solver("greedy").solve(self.problem, budget_for(self.problem, 0.5))
        assert 0 < solution.steps <= 2 * sum(len(c.levels) for c in self.problem.choices)


def test_uniform_gives_every_group_one_ratio():
    problem = random_problem(2, groups=5, levels=8)
    solution = get_solver("uniform").solve(problem, budget_for(problem, 0.5))
    ratios = [w / c.levels[-1] for w, c in zip(solution.widths, problem.choices, strict=True)]
    # Each level lies within half a level step of the ratio, so any two differ by at most the sum of their halves.
    for r, c in zip(ratios, problem.choices, strict=True):
        for q, d in zip(ratios, problem.choices, strict=True):
            assert abs(r - q) <= 4 / c.levels[-1] + 4 / d.levels[-1] or 8 in (r * c.levels[-1], q * d.levels[-1])


def test_uniform_takes_the_largest_ratio_that_fits():
    problem = random_problem(2, groups=3, levels=4)
    budget = budget_for(problem, 0.5)
    found = get_solver("uniform").solve(problem, budget)
    plans = {
        tuple(min(c.levels, key=lambda lv, c=c, r=r: (abs(lv - r * c.levels[-1]), lv)) for c in problem.choices)
        for r in np.linspace(0.001, 1, 2000)
    }
    assert found.widths in plans
    assert sum(found.widths) == max(sum(w) for w in plans if holds(problem, budget, w))


def test_brute_force_refuses_what_would_never_end():
    with pytest.raises(UsageError, match="2000000"):
        get_solver("brute_force").solve(random_problem(1, groups=24, levels=12), Budget(latency_ms=1.0))


@every_solver
@pytest.mark.parametrize("budget", [Budget(), Budget(latency_ms=0.0), Budget(flash_bytes=-1.0), Budget(float("nan"))])
def test_a_budget_without_sense_is_refused(name, budget):
    with pytest.raises(UsageError):
        get_solver(name).solve(random_problem(0), budget)


@every_solver
def test_a_network_without_choices_is_judged_as_it_is(name):
    problem = Problem((), (), base_latency_ms=2.0, base_flash_bytes=10.0)
    assert get_solver(name).solve(problem, Budget(latency_ms=2.0)).widths == ()
    with pytest.raises(InfeasibleBudgetError) as caught:
        get_solver(name).solve(problem, Budget(latency_ms=1.0))
    assert caught.value.details["latency_ms"] == 2.0


def test_an_unknown_solver_is_named_beside_those_that_exist():
    with pytest.raises(UsageError) as caught:
        get_solver("anneal")
    assert "anneal" in caught.value.message
    assert all(name in caught.value.hint for name in SOLVERS)


def test_two_solvers_of_one_name_are_refused():
    with pytest.raises(UsageError, match="greedy"):
        by_name(get_solver("greedy"), get_solver("greedy"))
