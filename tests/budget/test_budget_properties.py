"""Many small random problems: what every solver promises, against enumeration, and what the certificate refuses."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from budget_problems import NESTED, every_plan, random_problem, saliency_of

from edgeprune.budget import Budget, Evaluator, Problem, get_solver
from edgeprune.budget.bounding import Halted, Search
from edgeprune.budget.certificate import verify, verify_infeasible
from edgeprune.budget.effort import Effort
from edgeprune.budget.factors import factors_of
from edgeprune.budget.problem import Axis, Choice, Row, Stop, Table, Term
from edgeprune.budget.tree import Tree
from edgeprune.budget.witness import Witness
from edgeprune.errors import InfeasibleBudgetError, VerificationError

BLOCKS = ((), ((0, 1),), NESTED, ((0, 1), (1, 2)))


def varied(seed: int) -> Problem:
    """Trees, cycles, concatenations, factors of three and four choices, blocks, tables that are not monotone, RAM."""
    rng = np.random.default_rng(seed)
    noise = (0.0, 0.3, 1.0)[seed % 3]
    problem = random_problem(seed, groups=int(rng.integers(1, 5)), levels=3, noise=noise, blocks=BLOCKS[seed // 3 % 4])
    n = len(problem.choices)
    terms = list(problem.terms)
    if n > 2:
        axes = tuple(Axis((int(c),)) for c in rng.permutation(n)[: int(rng.integers(3, n + 1))])
        grids = tuple(np.array(problem.choices[a.choices[0]].levels) for a in axes)
        shape = [len(g) for g in grids]
        alive = np.ones(shape)
        for i, grid in enumerate(grids):
            alive *= (grid > 0).reshape([-1 if i == j else 1 for j in range(len(grids))])
        terms.append(Term("many", axes, grids, alive * (0.1 + rng.random(shape)), alive * 100 * rng.random(shape)))
    problem = replace(problem, terms=tuple(terms), ram=rows(problem, rng, noise) if seed % 2 else ())
    return with_variants(problem, rng) if seed % 5 == 0 else problem


def with_variants(problem: Problem, rng: np.random.Generator) -> Problem:
    """The same, where one kernel comes in three variants, numbered: what retains more may well cost less."""
    variants = Choice("dtype", (1, 2, 3), np.sort(rng.random(3)))
    term, *others = problem.terms
    axis = Axis((len(problem.choices),))
    tables = [t[..., None] * (0.2 + rng.random(3)) for t in (term.latency_ms, term.flash_bytes)]
    kernel = Term(term.name, (*term.axes, axis), (*term.grids, np.array([1, 2, 3])), *tables)
    return replace(problem, choices=(*problem.choices, variants), terms=(kernel, *others))


def rows(problem: Problem, rng: np.random.Generator, noise: float) -> tuple[Row, ...]:
    found = []
    for step in range(3):
        axes = [Axis(tuple(int(c) for c in rng.integers(0, len(problem.choices), k))) for k in (1, 2)]
        tables = []
        for axis in axes:
            ends = [sum(problem.choices[c].levels[k] for c in axis.choices) for k in (0, -1)]
            grid = np.unique(np.linspace(*ends, 4).astype(np.int64))
            tables.append(Table((axis,), (grid,), grid * 10.0 * np.exp(noise * rng.standard_normal(len(grid)))))
        found.append(Row(f"step{step}", 50.0, tuple(tables)))
    return tuple(found)


def enumerated(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Resources (latency, flash, peak) and saliency of every plan, with an interpolation of this file's own."""
    plans = np.array(list(every_plan(problem)))

    def values(spec: Term | Table, table: np.ndarray) -> np.ndarray:
        totals = np.stack([a.base + plans[:, list(a.choices)].sum(axis=1) for a in spec.axes], axis=1)
        every, which = np.unique(totals, axis=0, return_inverse=True)
        out = []
        for at in every:
            value = table
            for total, grid in zip(at, spec.grids, strict=True):
                value = np.array([np.interp(total, grid, v) for v in value.reshape(len(grid), -1).T]).reshape(
                    value.shape[1:]
                )
            out.append(float(value))
        return np.array(out)[which.ravel()]

    latency = problem.base_latency_ms + sum(values(t, t.latency_ms) for t in problem.terms)
    flash = problem.base_flash_bytes + sum(values(t, t.flash_bytes) for t in problem.terms)
    steps = [r.base + sum(values(t, t.values) for t in r.tables) for r in problem.ram]
    peak = np.max(steps, axis=0) if steps else np.zeros(len(plans))
    return np.stack([latency, flash, peak], axis=1), np.array([saliency_of(problem, p) for p in plans])


def budgets(problem: Problem, costs: np.ndarray, rng: np.random.Generator) -> list[Budget]:
    """One, two and three limits, some out of reach."""
    low, high = costs.min(axis=0), costs.max(axis=0)
    at = low * 0.8 + (high - low * 0.8) * rng.random(3) ** 1.5
    ram = float(at[2]) if problem.ram else None
    return [Budget(float(at[0])), Budget(float(at[0]), float(at[1])), Budget(float(at[0]), float(at[1]), ram)]


def tampered(witness: Witness) -> Witness:
    """The same proof with halved prices."""
    return replace(
        witness,
        multipliers=tuple((r, v / 2) for r, v in witness.multipliers),
        children=tuple(map(tampered, witness.children)),
    )


SEEDS = int(os.environ.get("EDGEPRUNE_PROPERTY_SEEDS", "15"))
"""Problems of a part; ``make properties`` looks at thousands."""


@pytest.mark.parametrize("part", range(4))
def test_exact_is_what_enumeration_finds_and_its_certificate_holds(part):
    feasible = refused = 0
    for seed in range(part * SEEDS, (part + 1) * SEEDS):
        problem = varied(seed)
        costs, saliency = enumerated(problem)
        for budget in budgets(problem, costs, np.random.default_rng(seed)):
            fits = (costs <= budget.values * (1 + 1e-9)).all(axis=1)
            best = saliency[fits].max(initial=-np.inf)
            if not fits.any():
                with pytest.raises(InfeasibleBudgetError) as caught:
                    get_solver("exact").solve(problem, budget)
                details = caught.value.details
                assert details["proven"], seed
                assert details["conflict"]
                reached = {k: details[k] for k in details["budget"]}
                verify_infeasible(problem, budget, Witness.from_json(details["witness"]), reached)
                low = dict(zip(("latency_ms", "flash_bytes", "ram_bytes"), costs.min(axis=0), strict=True))
                assert reached == pytest.approx({k: low[k] for k in reached}, rel=1e-6)
                refused += 1
                continue
            found = get_solver("exact").solve(problem, budget)
            assert found.stop == "optimal", seed
            assert found.saliency == pytest.approx(best, rel=1e-9, abs=1e-12), seed
            assert found.bound >= best * (1 - 1e-9)
            verify(problem, budget, found)
            feasible += 1
    assert feasible > SEEDS
    assert refused > 2


def test_where_tables_are_split_bounds_hold_and_the_optimum_is_found_all_the_same(monkeypatch):
    monkeypatch.setattr(Tree.__init__, "__kwdefaults__", {"max_cells": 1})
    split = 0
    for seed in range(20):
        problem = random_problem(seed, groups=8, levels=2, noise=(0.0, 0.3, 1.0)[seed % 3])
        split += not Tree(factors_of(Evaluator(problem))).exact
        costs, saliency = enumerated(problem)
        for budget in budgets(problem, costs, np.random.default_rng(seed)):
            fits = (costs <= budget.values * (1 + 1e-9)).all(axis=1)
            if not fits.any():
                with pytest.raises(InfeasibleBudgetError) as caught:
                    get_solver("exact").solve(problem, budget)
                assert caught.value.details["proven"]
                continue
            found = get_solver("exact").solve(problem, budget)
            assert found.saliency == pytest.approx(saliency[fits].max(), rel=1e-9), seed
            verify(problem, budget, found)
            assert get_solver("greedy").solve(problem, budget).bound >= found.saliency * (1 - 1e-9)
    assert split > 5


def test_tables_too_large_for_a_cache_are_joined_slice_by_slice_to_the_same(monkeypatch):
    for seed in range(12):
        graph = factors_of(Evaluator(varied(seed)))
        tables = [f.costs.sum(axis=0) if f.value is None else f.value for f in graph.factors] + list(graph.saliency)
        tree = Tree(graph)
        monkeypatch.setattr("edgeprune.budget.tree._AT_ONCE", 1 << 17)
        whole, worths = tree.maximise(tables), tree.worths()
        monkeypatch.setattr("edgeprune.budget.tree._AT_ONCE", 1)
        assert tree.maximise(tables) == whole
        assert all((a == b).all() for a, b in zip(tree.worths(), worths, strict=True))


@pytest.mark.parametrize("name", ["greedy", "knapsack", "lagrangian", "uniform"])
def test_every_plan_is_feasible_and_no_bound_is_below_the_optimum(name):
    for seed in range(0, 400, 29):
        problem = varied(seed)
        costs, saliency = enumerated(problem)
        for budget in budgets(problem, costs, np.random.default_rng(seed)):
            fits = (costs <= budget.values * (1 + 1e-9)).all(axis=1)
            try:
                found = get_solver(name).solve(problem, budget)
            except InfeasibleBudgetError:
                assert name == "uniform" or not fits.any(), seed
                continue
            assert fits.any(), seed
            assert found.bound >= saliency[fits].max() * (1 - 1e-9), seed
            assert found.gap >= 0 if found.gap is not None else found.saliency <= 0 < found.bound - found.saliency
            verify(problem, budget, found)


def test_a_tampered_certificate_is_refused():
    problem = varied(11)
    evaluator = Evaluator(problem)
    full = evaluator.costs(np.array([evaluator.widths(evaluator.full_levels)]))[0]
    budget = Budget(float(full[0]) * 0.85, float(full[1]) * 0.95)
    found = get_solver("exact").solve(problem, budget)
    verify(problem, budget, found)
    wrong = [
        replace(found, saliency=found.saliency * 1.01),
        replace(found, latency_ms=found.latency_ms * 0.99),
        replace(found, ram_bytes=found.ram_bytes - 1),
        replace(found, widths=tuple(c.levels[-1] for c in problem.choices)),
        replace(found, widths=(*found.widths[:-1], 7)),
        replace(found, widths=found.widths[:-1]),
        replace(found, bound=found.saliency * 0.99),
        replace(found, witness=None),
        replace(found, witness=Witness(((0, -1.0),))),
        replace(found, witness=Witness(((0, float("nan")),))),
        replace(found, witness=Witness(((2, 1.0),))),
        replace(found, witness=Witness(((99, 1.0),))),
        replace(found, witness=Witness((), weight=0.5)),
        replace(found, witness=Witness(())),
        replace(found, witness=Witness((), removed=((0, (0,)),))),
        replace(found, witness=Witness((), branch=0, parts=((0,),), children=(Witness(()),))),
    ]
    for other in wrong:
        with pytest.raises(VerificationError, match="does not hold"):
            verify(problem, budget, other)


def test_other_prices_prove_another_bound():
    problem, budget = larger()
    found = get_solver("lagrangian").solve(problem, budget)
    verify(problem, budget, found)
    with pytest.raises(VerificationError, match="does not hold"):
        verify(problem, budget, replace(found, witness=tampered(found.witness)))


def test_a_plan_over_its_ram_is_refused_by_the_step():
    problem = varied(11)
    found = get_solver("lagrangian").solve(problem, Budget(latency_ms=1e9))
    with pytest.raises(VerificationError, match="ram_bytes"):
        verify(problem, Budget(ram_bytes=found.ram_bytes * 0.9), found)


def test_the_peak_is_the_largest_step():
    grid = np.array([8, 16])
    terms = (Term("k", (Axis((0,)),), (grid,), np.array([1.0, 2.0]), np.array([1.0, 2.0])),)
    steps = (
        Row("first", 10.0, (Table((Axis((0,)),), (grid,), np.array([5.0, 50.0])),)),
        Row("second", 40.0, (Table((Axis((0,)),), (grid,), np.array([1.0, 2.0])),)),
    )
    problem = Problem((Choice("g", (8, 16), np.array([1.0, 2.0])),), terms, ram=steps)
    for name in ("greedy", "knapsack", "lagrangian", "exact", "uniform", "brute_force"):
        assert get_solver(name).solve(problem, Budget(ram_bytes=60.0)).ram_bytes == 60.0
        assert get_solver(name).solve(problem, Budget(ram_bytes=59.0)).ram_bytes == 41.0
        with pytest.raises(InfeasibleBudgetError) as caught:
            get_solver(name).solve(problem, Budget(ram_bytes=40.0))
        assert caught.value.details["ram_bytes"] == pytest.approx(41.0)


def test_a_witness_survives_json():
    problem = varied(7)
    found = get_solver("exact").solve(problem, Budget(latency_ms=2.0))
    assert Witness.from_json(found.witness.to_json()) == found.witness


@pytest.mark.parametrize(
    ("raised", "stop"), [(KeyboardInterrupt(), Stop.INTERRUPTED), (Halted(Stop.TIME_LIMIT), Stop.TIME_LIMIT)]
)
def test_a_time_limit_and_ctrl_c_return_the_best_plan_so_far(monkeypatch, raised, stop):
    problem, budget = larger()

    def press(*_: object) -> None:
        raise raised

    monkeypatch.setattr(Search, "_shrink", press)
    found = get_solver("exact").solve(problem, budget)
    assert found.stop == stop
    assert 0 < found.gap < 0.02
    verify(problem, budget, found)


def test_a_gap_that_is_near_enough_ends_the_search():
    problem, budget = larger()
    found = {gap: get_solver("exact").solve(problem, budget, effort=Effort(gap=gap)) for gap in (0.05, 1e-3, 0.0)}
    assert found[0.05].stop is Stop.GAP
    assert found[0.0].stop is Stop.OPTIMAL
    assert found[0.05].steps < found[0.0].steps
    for gap, solution in found.items():
        assert solution.gap <= gap + 1e-9
        assert solution.bound >= found[0.0].saliency
        verify(problem, budget, solution)


def test_a_time_limit_is_kept():
    problem, budget = larger()
    found = get_solver("exact").solve(problem, budget, effort=Effort(0.3))
    assert found.stop in (Stop.TIME_LIMIT, Stop.OPTIMAL)
    assert found.seconds < 3
    verify(problem, budget, found)


def larger() -> tuple[Problem, Budget]:
    problem = random_problem(1, groups=24, levels=12, noise=0.1)
    evaluator = Evaluator(problem)
    return problem, Budget(evaluator.latency_ms(evaluator.widths(evaluator.full_levels)) * 0.5)


def test_a_network_deeper_than_an_array_has_dimensions_is_solved():
    """Kernels of a long chain share one group; where each other group has one width left, none is a dimension."""
    grid = np.array([8, 16])
    flat = np.full((2, 2), 2.0)
    choices = [Choice(f"g{i}", (8, 16), np.array([0.0, 1.0 + i % 7])) for i in range(90)]
    table = np.array([[1.0, 2.0], [2.0, 3.0]])
    terms = [Term(f"k{i}", (Axis((0,)), Axis((i,))), (grid, grid), table, flat) for i in range(1, 90)]
    terms.append(Term("all", (Axis((0, 1)),), (np.array([16, 32]),), np.array([1.0, 2.0]), np.ones(2)))
    problem = Problem(tuple(choices), tuple(terms))
    budget = Budget(latency_ms=170.0)
    found = get_solver("exact").solve(problem, budget)
    assert found.gap < 0.02
    verify(problem, budget, found)
