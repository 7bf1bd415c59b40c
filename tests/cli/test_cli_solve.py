"""solve: a problem from a file, solved as it is run."""

import json

import numpy as np
import pytest

from edgeprune.budget import Axis, Budget, Choice, Problem, Row, Table, Term, save_problem
from edgeprune.cli.main import main


@pytest.fixture
def problem(tmp_path):
    grid = np.array([8, 16, 24])
    term = Term("k", (Axis((0,)),), (grid,), np.array([1.0, 2.0, 4.0]), np.array([100.0, 200.0, 300.0]))
    step = Row("k", 10.0, (Table((Axis((0,)),), (grid,), grid * 4.0),))
    path = tmp_path / "problem.json"
    choice = Choice("g", (8, 16, 24), np.array([1.0, 3.0, 4.0]))
    save_problem(path, Problem((choice,), (term,), ram=(step,)), Budget(latency_ms=3.0))
    return str(path)


def run_json(capsys, *args):
    code = main(["solve", *args, "--json", "--quiet"])
    return code, json.loads(capsys.readouterr().out)


def test_the_file_s_own_budget_is_kept(capsys, problem):
    code, body = run_json(capsys, problem)
    assert code == 0
    assert (body["schema"], body["solver"], body["stop"]) == ("edgeprune.solution/1", "exact", "optimal")
    assert (body["widths"], body["latency_ms"], body["ram_bytes"]) == ({"g": 16}, 2.0, 74.0)
    assert (body["saliency"], body["gap"], body["budget"]) == (3.0, 0.0, {"latency_ms": 3.0})


@pytest.mark.parametrize("solver", ["exact", "lagrangian", "greedy", "knapsack", "uniform", "brute_force"])
def test_limits_that_are_given_replace_those_of_the_file(capsys, problem, solver):
    code, body = run_json(capsys, problem, "--solver", solver, "--latency", "4ms", "--ram", "50%")
    assert code == 0
    assert body["budget"] == {"latency_ms": 4.0, "ram_bytes": 53.0}
    assert body["widths"] == {"g": 8}


def test_the_result_is_written_where_it_is_asked_for(capsys, problem, tmp_path):
    code, body = run_json(capsys, problem, "--flash", "200B", "--out", str(tmp_path / "solution.json"))
    assert code == 0
    assert json.loads((tmp_path / "solution.json").read_text()) == body


def test_a_budget_out_of_reach_leaves_with_4_and_says_what_is_in_reach(capsys, problem):
    code, body = run_json(capsys, problem, "--latency", "0.5ms")
    assert code == 4
    assert body["error"]["details"]["latency_ms"] == 1.0
    assert body["error"]["details"]["conflict"] == ["latency_ms"]


def test_a_person_sees_widths_and_gap(capsys, problem):
    assert main(["solve", problem, "--time-limit", "5"]) == 0
    out = capsys.readouterr().out
    assert "gap" in out
    assert "widths" in out


@pytest.mark.parametrize(("args", "code"), [(["--latency", "3"], 2), (["--solver", "anneal"], 2)])
def test_what_makes_no_sense_is_refused(capsys, problem, args, code):
    assert run_json(capsys, problem, *args)[0] == code


def test_what_is_no_problem_is_bad_input(capsys, tmp_path):
    (tmp_path / "x.json").write_text("{}")
    assert run_json(capsys, str(tmp_path / "x.json"), "--latency", "1ms")[0] == 3
