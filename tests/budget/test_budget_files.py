"""Problems in files: what is written is what is read, and nothing else is read."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_budget_properties import varied

from edgeprune.budget import Budget, get_solver
from edgeprune.budget.files import load_problem, problem_from_json, problem_to_json, save_problem
from edgeprune.errors import BadInputError, PlanError, ProfileError


@pytest.mark.parametrize("seed", range(12))
def test_a_problem_comes_back_to_the_last_bit(seed, tmp_path):
    problem, budget = varied(seed), Budget(latency_ms=1 / 3, ram_bytes=1e5 if varied(seed).ram else None)
    save_problem(tmp_path / "p.json", problem, budget)
    again, limits = load_problem(tmp_path / "p.json")
    assert limits == budget
    assert problem_to_json(again) == problem_to_json(problem)
    assert [c.saliency.tobytes() for c in again.choices] == [np.asarray(c.saliency).tobytes() for c in problem.choices]
    assert [t.latency_ms.tobytes() for t in again.terms] == [t.latency_ms.tobytes() for t in problem.terms]
    assert again.blocks == problem.blocks
    question = Budget(latency_ms=1e6)
    assert get_solver("greedy").solve(again, question) == get_solver("greedy").solve(problem, question)


def test_without_a_budget_nothing_is_limited(tmp_path):
    save_problem(tmp_path / "p.json", varied(1))
    assert load_problem(tmp_path / "p.json")[1] == Budget()


def drop(data, key):
    del data[key]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda d: d.update(schema="edgeprune.problem/2"), BadInputError, "problem/2"),
        (lambda d: drop(d, "terms"), BadInputError, "no 'terms'"),
        (lambda d: d["budget"].update(watts=3.0), BadInputError, "watts"),
        (lambda d: d["budget"].update(latency_ms=None), BadInputError, "cannot be read"),
        (lambda d: d["choices"][0]["levels"].append(9.5), BadInputError, "9.5 is no whole number"),
        (lambda d: d["choices"][0].update(levels="many"), BadInputError, "no whole number"),
        (lambda d: d["choices"][0].update(saliency=[[1], [2, 3]]), BadInputError, "cannot be read"),
        (lambda d: d["choices"][0]["levels"].reverse(), PlanError, "not ascending"),
        (lambda d: d["terms"][0].update(latency_ms=[float("nan")]), ProfileError, "latency_ms"),
        (lambda d: d["terms"][0].update(axes=[]), ProfileError, "0 axes"),
        (lambda d: d["ram"][0].update(base=-1.0), ProfileError, "step0: a base of -1"),
        (lambda d: d["ram"][0]["tables"][0].update(values=[1.0]), ProfileError, "table 0: values have shape"),
        (lambda d: d["blocks"].append([99]), PlanError, "99"),
    ],
)
def test_what_is_no_problem_is_refused_by_name(change, error, says):
    data = json.loads(json.dumps(problem_to_json(varied(1))))
    change(data)
    with pytest.raises(error, match=says):
        problem_from_json(data)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"schema": 1}', "\x00", "[" * 100_000])
def test_a_file_that_is_none_is_bad_input(text, tmp_path):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(BadInputError):
        load_problem(tmp_path / "p.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInputError, match=r"gone\.json"):
        load_problem(tmp_path / "gone.json")
