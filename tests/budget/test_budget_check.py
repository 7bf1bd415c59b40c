"""Invalid costs (docs/FAULTS.md, 6): nothing that is not a cost gets in, and every fault is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from budget_problems import random_problem, staircase

from edgeprune.budget import Axis, Budget, Evaluator, Problem, get_solver
from edgeprune.errors import PlanError, ProfileError

GOOD = staircase([1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0])


def with_term(**changes) -> Problem:
    return replace(GOOD, terms=(replace(GOOD.terms[0], **changes),))


def with_choice(**changes) -> Problem:
    return replace(GOOD, choices=(replace(GOOD.choices[0], **changes),))


@pytest.mark.parametrize("bad", [np.nan, 0.0, -1.0, np.inf])
def test_a_latency_that_is_none_is_refused_by_kernel_and_width(bad):
    with pytest.raises(ProfileError, match=r"k: latency_ms at width \(24,\)"):
        Evaluator(with_term(latency_ms=np.array([1.0, 2.0, bad, 4.0])))


@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf])
def test_flash_that_is_none_is_refused_and_no_bytes_are_fine(bad):
    with pytest.raises(ProfileError, match=r"k: flash_bytes at width \(8,\)"):
        Evaluator(with_term(flash_bytes=np.array([bad, 1.0, 1.0, 1.0])))
    Evaluator(with_term(flash_bytes=np.zeros(4)))


def test_every_fault_of_every_term_is_listed():
    problem = random_problem(0)
    bad = []
    for term in problem.terms:
        latency = term.latency_ms.copy()
        latency.flat[0], latency.flat[-1] = np.nan, -3.0
        bad.append(replace(term, latency_ms=latency))
    with pytest.raises(ProfileError) as caught:
        Evaluator(replace(problem, terms=tuple(bad)))
    faults = caught.value.details["faults"]
    assert len(faults) == 2 * len(problem.terms)
    assert all(any(f.startswith(f"{t.name}: ") for f in faults) for t in problem.terms)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"grids": (np.array([8, 16, 16, 32]),)}, "not ascending"),
        ({"grids": (np.array([32, 24, 16, 8]),)}, "not ascending"),
        ({"grids": (np.array([], dtype=np.int64),)}, "not ascending"),
        ({"latency_ms": np.ones(3)}, "latency_ms has shape"),
        ({"flash_bytes": np.ones((4, 1))}, "flash_bytes has shape"),
        ({"axes": (Axis((1,)),)}, "names choices"),
        ({"axes": (Axis((-1,)),)}, "names choices"),
        ({"axes": ()}, "0 axes"),
        ({"axes": (Axis((0,)), Axis((0,)))}, "2 axes and 1 grids"),
    ],
)
def test_a_malformed_term_is_refused(changes, says):
    with pytest.raises(ProfileError, match=says):
        Evaluator(with_term(**changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"levels": ()}, "ascending"),
        ({"levels": (8, 24, 16, 32)}, "ascending"),
        ({"levels": (0, 8, 16, 32)}, "ascending"),
        ({"saliency": np.ones(3)}, "shape"),
        ({"saliency": np.array([1.0, np.nan, 2.0, 3.0])}, "not finite at width 16"),
        ({"saliency": np.array([1.0, 3.0, 2.0, 4.0])}, "falls after width 16"),
    ],
)
def test_a_malformed_choice_is_refused(changes, says):
    with pytest.raises(PlanError, match=says):
        Evaluator(with_choice(**changes))


def test_width_0_is_for_blocks_alone():
    zero = replace(GOOD.choices[0], levels=(0, 8, 16, 24, 32), saliency=np.arange(5.0))
    Evaluator(replace(GOOD, choices=(zero,), blocks=((0,),)))
    with pytest.raises(PlanError, match="at least 1"):
        Evaluator(replace(GOOD, choices=(zero,)))
    with pytest.raises(PlanError, match="after 0"):
        Evaluator(replace(GOOD, blocks=((0,),)))
    with pytest.raises(PlanError, match=r"blocks name choices \[1\]"):
        Evaluator(replace(GOOD, choices=(zero,), blocks=((0, 1),)))


def test_what_has_no_width_costs_nothing_and_the_rest_something():
    zero = replace(GOOD.choices[0], levels=(0, 8, 16, 24, 32), saliency=np.arange(5.0))
    grid = (np.array([0, 8]),)
    for costs, fine in (([0.0, 1.0], True), ([1.0, 1.0], False), ([0.0, 0.0], False)):
        term = replace(GOOD.terms[0], grids=grid, latency_ms=np.array(costs), flash_bytes=np.array([0.0, 5.0]))
        problem = replace(GOOD, choices=(zero,), terms=(term,), blocks=((0,),))
        if fine:
            Evaluator(problem)
        else:
            with pytest.raises(ProfileError, match="latency_ms at width"):
                Evaluator(problem)


def test_two_groups_of_one_name_are_refused():
    with pytest.raises(PlanError, match="g: two choices"):
        Evaluator(replace(GOOD, choices=GOOD.choices * 2))


@pytest.mark.parametrize("bad", [np.nan, -0.1])
def test_a_base_that_is_no_cost_is_refused(bad):
    with pytest.raises(ProfileError, match="base_latency_ms"):
        Evaluator(replace(GOOD, base_latency_ms=bad))


@pytest.mark.parametrize("name", ["greedy", "knapsack", "brute_force", "uniform"])
def test_every_solver_checks_first(name):
    with pytest.raises(ProfileError):
        get_solver(name).solve(with_term(latency_ms=np.array([0.0, 2.0, 3.0, 4.0])), Budget(latency_ms=1.0))
