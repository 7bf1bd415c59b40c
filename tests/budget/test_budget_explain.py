"""What is said of why a plan is as it is, on small problems, against every plan there is."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from budget_problems import every_plan, random_problem, saliency_of, staircase
from test_budget_properties import budgets, enumerated, larger, varied

from edgeprune.budget import Budget, Choice, Evaluator, Problem, Row, Table, get_solver
from edgeprune.budget.bounding import Search
from edgeprune.budget.explain import KIB, Explainer
from edgeprune.budget.explanation import Change, Channel, Explanation, Group, next_to_go, next_to_keep
from edgeprune.budget.problem import Axis, Stop, by_resource
from edgeprune.budget.shadow import shadow_of
from edgeprune.budget.solving import Solved, solve
from edgeprune.budget.tree import Tree
from edgeprune.budget.witness import Witness
from edgeprune.errors import InfeasibleBudgetError, UsageError, VerificationError

SEEDS = (2, 3, 9, 19, 33, 44)
SLACK = 1e-8


@cache
def solved(solver: str, seed: int) -> list[tuple[Solved, np.ndarray, np.ndarray]]:
    """Problems with one, two and three limits: question and answer, costs and saliency of every plan inside."""
    problem, found = varied(seed), []
    costs, saliency = enumerated(problem)
    for budget in budgets(problem, costs, np.random.default_rng(seed)):
        try:
            answer = get_solver(solver).solve(problem, budget)
        except InfeasibleBudgetError:
            continue
        found.append((Solved(problem, budget, answer), costs, saliency))
    return found


def every_change(explainer: Explainer) -> list[tuple[Group, int, Change]]:
    groups = [explainer.group(name) for name in explainer.names]
    return [(g, x.width, x.change) for g in groups for x in g.levels if x.change]


def after(found: Solved, change: Change) -> tuple[int, ...]:
    """The widths of the plan with a change."""
    return tuple(
        change.widths.get(c.name, w) for c, w in zip(found.problem.choices, found.solution.widths, strict=True)
    )


@pytest.mark.parametrize("solver", ["exact", "greedy"])
def test_a_certified_cost_is_never_more_than_enumeration_finds(solver):
    proven = true = 0.0
    for seed in SEEDS:
        for found, costs, saliency in solved(solver, seed):
            explainer, plans = Explainer(found), np.array(list(every_plan(found.problem)))
            inside = (costs <= found.budget.values * (1 + 1e-9)).all(axis=1)
            own, index = found.solution.saliency, {n: i for i, n in enumerate(explainer.names)}
            for group, width, change in every_change(explainer):
                of = plans[:, index[group.name]]
                best = saliency[inside & ((of >= width) if width > group.width else (of <= width))].max(initial=-np.inf)
                assert best <= change.at_most + SLACK, (seed, group.name, width)
                assert change.loses_at_least <= max(0.0, own - best) + SLACK
                assert change.behind >= 0
                if np.isfinite(best):
                    proven, true = proven + change.loses_at_least, true + max(0.0, own - best)
            for block in explainer.blocks():
                members = plans[:, [index[n] for n in block.groups]] > 0
                best = saliency[inside & (members.all(axis=1) if block.removed else ~members.any(axis=1))]
                assert best.max(initial=-np.inf) <= block.change.at_most + SLACK
    assert proven > 0.2 * true > 1


@pytest.mark.parametrize(("solver", "seeds"), [("exact", (7, 9)), ("greedy", (19, 44))])
def test_what_insisting_costs_is_what_enumeration_finds(solver, seeds):
    found_any = impossible = 0
    for seed in seeds:
        for found, costs, saliency in solved(solver, seed):
            explainer, plans = Explainer(found), np.array(list(every_plan(found.problem)))
            inside = (costs <= found.budget.values * (1 + 1e-9)).all(axis=1)
            own = found.solution.saliency
            for c, name in enumerate(explainer.names):
                group = explainer.searched(explainer.group(name), time_limit_s=10.0)
                for change, width in ((x.change, x.width) for x in group.levels if x.change and x.width):
                    of = plans[:, c]
                    best = saliency[inside & ((of >= width) if width > group.width else (of <= width))]
                    assert change.impossible is (len(best) == 0), (seed, name, width)
                    impossible += change.impossible
                    if len(best):
                        assert change.loses_at_most == pytest.approx(own - best.max(), abs=1e-4 * own + 1e-9)
                        assert change.loses_at_least <= max(0.0, own - best.max()) + SLACK
                        assert change.loses_at_least >= change.loses_at_most - 1e-4 * own - 1e-9
                        found_any += 1
    assert found_any > 5
    assert impossible > 2


def test_ctrl_c_ends_the_search_and_leaves_what_the_prices_prove(monkeypatch):
    problem, budget = larger()
    explainer = Explainer(solve(problem, budget, "lagrangian"))
    group = explainer.group("g3")

    pressed = []

    def press(*_: object) -> None:
        pressed.append(True)
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "_shrink", press)
    found = explainer.searched(group, time_limit_s=10.0)
    assert len(pressed) == 1
    searched = [x.change is not None and x.change.loses_at_most is not None for x in found.levels]
    assert 0 < sum(searched) < len(group.levels) - 1
    assert all(x == y for x, y, s in zip(found.levels, group.levels, searched, strict=True) if not s)


def test_changes_are_what_evaluating_the_plan_again_says():
    blocks = 0
    for seed in SEEDS:
        for found, _, _ in solved("exact", seed):
            explainer, evaluator = Explainer(found), Evaluator(found.problem)
            before = evaluator.costs(np.array([found.solution.widths]))[0]
            limits = found.budget.of_rows(len(before))
            prices = shadow_of(evaluator, found.budget, found.solution).prices
            plans = set(every_plan(found.problem))
            for change in [c for *_, c in every_change(explainer)] + [b.change for b in explainer.blocks()]:
                widths = after(found, change)
                assert widths in plans, "part of a block"
                blocks += len(change.widths) > 1
                costs = evaluator.costs(np.array([widths]))[0]
                told = (change.latency_ms, change.flash_bytes, change.ram_bytes or 0.0)
                assert told == pytest.approx(tuple(by_resource(costs) - by_resource(before)), rel=1e-9, abs=1e-9)
                assert (change.ram_bytes is None) is (not found.problem.ram)
                gained = saliency_of(found.problem, widths) - saliency_of(found.problem, found.solution.widths)
                assert change.saliency == pytest.approx(gained, abs=1e-9)
                broken = {n for n, c, a in zip(evaluator.row_names, costs, limits, strict=True) if c > a * (1 + 1e-9)}
                assert {b.row for b in change.breaks} == broken
                by_name = dict(
                    zip(evaluator.row_names, np.stack([costs - limits, prices, costs - before], 1), strict=True)
                )
                assert [b.over for b in change.breaks] == pytest.approx([by_name[b.row][0] for b in change.breaks])
                paid = [by_name[b.row][1] * by_name[b.row][2] for b in change.breaks]
                assert paid == sorted(paid, reverse=True)
                assert change.forced_by == (change.breaks[0].row if broken else None)
                assert sum(change.priced.values()) == pytest.approx(float(prices @ (costs - before)), abs=1e-9)
    assert blocks > 20


def test_of_an_optimal_plan_a_wider_level_that_gains_breaks_a_limit():
    for seed in SEEDS:
        for found, _, _ in solved("exact", seed):
            for _, _, change in every_change(Explainer(found)):
                assert change.breaks or change.saliency <= 1e-9, seed


@pytest.mark.parametrize("solver", ["exact", "knapsack"])
def test_no_other_limit_gains_more_than_its_price_says(solver):
    """optimum(b + d) <= bound at the prices + price * d, for limits that are wider and narrower."""
    gains = 0
    for seed in SEEDS:
        for found, costs, saliency in solved(solver, seed):
            overview = Explainer(found).overview()
            evaluator = Evaluator(found.problem)
            bound = shadow_of(evaluator, found.budget, found.solution).bound
            for limit in overview.limits:
                for share in (-0.2, -0.02, 0.01, 0.1, 0.5):
                    d = share * limit.limit
                    budget = Budget(**{**found.budget.to_json(), limit.resource: limit.limit + d})
                    inside = (costs <= budget.values * (1 + 1e-9)).all(axis=1)
                    price = limit.price / (1.0 if limit.per == "ms" else KIB)
                    best = saliency[inside].max(initial=-np.inf)
                    assert best <= bound + price * d + SLACK, (seed, limit.resource, share)
                    gains += best > found.solution.saliency
    assert gains > 10


def test_limits_have_their_slack_and_the_step_that_binds():
    grid = np.array([8, 16])
    problem = replace(
        staircase([0.0, 1.0], [1.0, 2.0], levels=(8, 16)),
        ram=(
            Row("first", 10.0, (Table((Axis((0,)),), (grid,), np.array([5.0, 50.0])),)),
            Row("second", 40.0, (Table((Axis((0,)),), (grid,), np.array([1.0, 2.0])),)),
        ),
    )
    (limit,) = Explainer(solve(problem, Budget(ram_bytes=50.0))).limits()
    assert (limit.resource, limit.used, limit.slack, limit.per) == ("ram_bytes", 41.0, 9.0, "KiB")
    assert [(s.name, s.used_bytes, s.slack_bytes) for s in limit.steps] == [
        ("first", 15.0, 35.0),
        ("second", 41.0, 9.0),
    ]
    assert limit.price == pytest.approx(KIB / 45, rel=0.3), "one level more for what it takes"
    assert (limit.steps[0].price, limit.steps[1].price) == (limit.price, 0.0)
    change = Explainer(solve(problem, Budget(ram_bytes=50.0))).group("g").wider
    assert change.forced_by == "ram_bytes in first"
    assert [(b.row, b.over) for b in change.breaks] == [("ram_bytes in first", 10.0)]
    assert change.ram_bytes == 19.0, "of the peak, which was another step's"


def test_where_everything_fits_nothing_has_a_price():
    overview = Explainer(solve(random_problem(3), Budget(latency_ms=1e6, flash_bytes=1e9))).overview()
    assert [x.price for x in overview.limits] == [0.0, 0.0]
    assert next_to_keep(overview.groups) == []
    assert all(g.width == g.size for g in overview.groups)
    assert overview.certified


def test_a_change_that_fits_names_no_row():
    """A plan of half the saliency: nothing forced out what it lacks."""
    problem = staircase([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0])
    evaluator = Evaluator(problem)
    found = Solved(problem, Budget(latency_ms=3.5), evaluator.solution((0,), "by hand"))
    group = Explainer(found).group("g")
    assert [(x.width, x.change and x.change.forced_by) for x in group.levels] == [
        (8, None),
        (16, None),
        (24, None),
        (32, "latency_ms"),
    ]
    assert group.levels[2].change.loses_at_least == 0.0
    assert group.narrower is None


def test_a_level_stands_for_those_beyond_it():
    """16 channels take more time than 24 do: whoever wants 16 at least takes 24."""
    problem = staircase([1.0, 2.0, 3.0, 4.0], [1.0, 10.0, 2.0, 9.0])
    found = Solved(problem, Budget(latency_ms=2.5), Evaluator(problem).solution((0,), "by hand"))
    assert 3.0 <= Explainer(found).group("g").wider.at_most < 4.0


def test_prices_without_a_certificate_are_computed():
    """As of a plan between two others; and of a search that was cut short before it had any."""
    problem, budget = larger()
    found = solve(problem, budget, "lagrangian")
    by_certificate = Explainer(found).overview()
    for without in (
        replace(found.solution, witness=None, bound=None),
        replace(found.solution, witness=Witness(()), stop=Stop.TIME_LIMIT),
    ):
        overview = Explainer(Solved(problem, budget, without)).overview()
        assert (by_certificate.certified, overview.certified) == (True, False)
        assert overview.limits[0].price == pytest.approx(by_certificate.limits[0].price, rel=0.05)
        assert found.solution.saliency <= overview.bound <= by_certificate.bound * 1.001


@pytest.mark.parametrize("multipliers", [((2, 1.0),), ((99, 1.0),), ((0, -1.0),), ((0, float("nan")),), ((1, 1.0),)])
def test_a_certificate_with_prices_that_are_none_is_refused(multipliers):
    problem = varied(0)
    found = solve(problem, Budget(latency_ms=1e6))
    wrong = replace(found.solution, witness=Witness(multipliers))
    with pytest.raises(VerificationError, match="none that the budget limits"):
        Explainer(Solved(problem, found.budget, wrong))


def test_where_tables_are_split_the_bounds_hold(monkeypatch):
    monkeypatch.setattr(Tree.__init__, "__kwdefaults__", {"max_cells": 1})
    for seed in range(6):
        problem = random_problem(seed, groups=6, levels=3, noise=0.3)
        costs, saliency = enumerated(problem)
        plans = np.array(list(every_plan(problem)))
        budget = Budget(float(np.quantile(costs[:, 0], 0.4)))
        inside = costs[:, 0] <= budget.latency_ms * (1 + 1e-9)
        explainer = Explainer(solve(problem, budget, "lagrangian"))
        index = {n: i for i, n in enumerate(explainer.names)}
        for group, width, change in every_change(explainer):
            of = plans[:, index[group.name]]
            wider = of >= width if width > group.width else of <= width
            assert saliency[inside & wider].max(initial=-np.inf) <= change.at_most + SLACK


def test_groups_are_sorted_by_how_near_they_were():
    problem, budget = larger()
    overview = Explainer(solve(problem, budget, "lagrangian")).overview()
    keep, go = next_to_keep(overview.groups), next_to_go(overview.groups)
    assert all(change is group.wider for group, change in keep)
    assert all(change is group.narrower for group, change in go)
    for found in (keep, go):
        assert [c.behind for _, c in found] == sorted(c.behind for _, c in found)
    assert {g.name for g, _ in (*keep, *go)} == {c.name for c in problem.choices}
    near = {len(g.levels) for g in overview.groups}
    assert near <= {2, 3}


def test_overlapping_blocks_come_back_together():
    """Where two blocks share a group, it cannot be back while the rest of either is gone."""
    choices = tuple(Choice(f"g{i}", (0, 8), np.array([0.0, 1.0])) for i in range(3))
    problem = Problem(choices, random_problem(0).terms[:0], 1.0, 0.0, ((0, 1), (1, 2)))
    explainer = Explainer(Solved(problem, Budget(latency_ms=2.0), Evaluator(problem).solution((0, 0, 0), "by hand")))
    assert explainer.group("g0").wider.widths == {"g0": 8}
    assert explainer.group("g1").wider.widths == {"g0": 8, "g1": 8, "g2": 8}
    assert [(b.groups, b.removed) for b in explainer.blocks()] == [(("g0", "g1", "g2"), True)]


# -- channels ---------------------------------------------------------------------------------------------


def one_channel(channel: int) -> Channel:
    """Of a group of 8 channels with 4 kept; another is kept whole, although three of its channels are worth less."""
    scores = {"a": np.array([9.0, 1.0, 7.0, 7.0, 2.0, 8.0, 3.0, 4.0]), "b": np.array([2.5, 2.5, 2.5, 6.5])}
    total = float(sum(s.sum() for s in scores.values()))
    choices = []
    for name, levels in (("a", (2, 4, 6, 8)), ("b", (2, 4))):
        worth = np.append(0.0, np.cumsum(np.sort(scores[name])[::-1])) / total
        choices.append(Choice(name, levels, worth[list(levels)]))
    term = staircase([0, 1, 2, 3], [1.0, 2.0, 3.0, 4.0], levels=(2, 4, 6, 8)).terms[0]
    problem = Problem(tuple(choices), (term,))
    return Explainer(solve(problem, Budget(latency_ms=2.5))).channel("a", channel, scores)


def test_a_removed_channel_has_its_rank_and_the_level_that_would_keep_it():
    found = one_channel(7)
    assert (found.kept, found.rank, found.size) == (False, 5, 8)
    assert (found.network_rank, found.network_size) == (6, 12)
    assert (found.kept_below, found.removed_above) == (3, 0)
    assert found.saliency == pytest.approx(4 / 55)
    assert found.level.width == 6
    assert found.level.change.saliency == pytest.approx(7 / 55)
    assert found.level.change.forced_by == "latency_ms"
    assert one_channel(1).level.width == 8
    assert one_channel(1).removed_above == 3


def test_a_kept_channel_has_the_level_that_would_lose_it():
    assert [one_channel(c).rank for c in (0, 5, 2, 3)] == [1, 2, 3, 4], "of equal ones the lower index goes first"
    found = one_channel(3)
    assert (found.kept, found.level.width) == (True, 2)
    assert found.level.change.saliency == pytest.approx(-14 / 55)
    assert one_channel(0).level is None, "every level keeps it"


def test_unknown_names_are_refused_with_those_there_are():
    explainer = Explainer(solve(random_problem(1), Budget(latency_ms=1e6)))
    with pytest.raises(UsageError, match="no width group 'g00'") as caught:
        explainer.group("g00")
    assert "g0, g1, g2, g3" in caught.value.hint
    assert "did you mean" in caught.value.hint
    with pytest.raises(UsageError, match="do not fit the problem: g0, g1"):
        explainer.channel("g0", 0, {})
    with pytest.raises(UsageError, match="no channel 99"):
        explainer.channel("g0", 99, {})


def test_what_is_said_survives_json():
    explainer = Explainer(solved("exact", 9)[0][0])
    overview = explainer.overview()
    assert overview.limits
    assert overview.blocks
    assert Explanation.from_json(overview.to_json()) == overview
    group = explainer.group(explainer.names[0])
    assert Group.from_json(group.to_json()) == group
