"""explain: a run folder as prune and fit write it, without a network to be pruned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import done, refused
from matplotlib.figure import Figure
from torch import nn

import edgeprune
from edgeprune.budget import Axis, Budget, Choice, Problem, Row, Table, Term
from edgeprune.budget.solving import Solved, solve
from edgeprune.cli.main import main
from edgeprune.errors import UsageError
from edgeprune.fitting.run_folder import save_question
from edgeprune.importance.curves import Saliency
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.widths import save_pruned

RANKED = {"conv1": np.arange(32.0, 0, -1), "conv2": np.arange(1.0, 33.0)}
GRID = np.array([8, 16, 24, 32])


def question() -> Solved:
    """Two groups, a kernel of one and a kernel of both, and a step of the schedule that both share."""
    total = sum(float(s.sum()) for s in RANKED.values())
    choices = tuple(
        Choice(name, tuple(GRID.tolist()), np.cumsum(np.sort(scores)[::-1])[GRID - 1] / total)
        for name, scores in RANKED.items()
    )
    first, second = Axis((0,)), Axis((1,))
    terms = (
        Term("first", (first,), (GRID,), GRID / 8.0, GRID * 100.0),
        Term("both", (first, second), (GRID, GRID), np.outer(GRID, GRID) / 128.0, np.outer(GRID, GRID) * 9.0),
    )
    step = Row("both", 100.0, (Table((first,), (GRID,), GRID * 64.0), Table((second,), (GRID,), GRID * 16.0)))
    return solve(Problem(choices, terms, ram=(step,)), Budget(latency_ms=5.4, ram_bytes=1600.0))


def widths_of(solved: Solved) -> dict[str, int]:
    return {c.name: w for c, w in zip(solved.problem.choices, solved.solution.widths, strict=True)}


def plan_of(widths: dict[str, int]) -> Plan:
    keep = {n: tuple(sorted(np.argsort(-RANKED[n], kind="stable")[:w].tolist())) for n, w in widths.items() if w < 32}
    return Plan(keep, {"conv1": 32, "conv2": 32, "logits": 10}, {}, {}, {})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    solved = question()
    save_pruned(nn.Linear(2, 2), plan_of(widths_of(solved)), tmp_path)
    save_question(tmp_path, solved, Saliency.summed(RANKED))
    return tmp_path


def test_limits_and_the_groups_that_were_next(run):
    said = done("explain", run, "-q")
    assert (said["schema"], said["notes"], said["certified"]) == ("edgeprune.explain/1", [], True)
    latency, ram = said["limits"]
    assert (latency["resource"], latency["limit"], latency["per"]) == ("latency_ms", 5.4, "ms")
    assert latency["slack"] == pytest.approx(latency["limit"] - latency["used"])
    assert (ram["resource"], ram["steps"][0]["name"]) == ("ram_bytes", "both")
    assert [g["name"] for g in said["groups"]] == ["conv1", "conv2"]
    assert max(latency["price"], ram["price"]) > 0
    wider = {g["name"]: next(x for x in g["levels"] if x["width"] > g["width"]) for g in said["groups"]}
    assert {x["change"]["forced_by"] for x in wider.values()} <= {"latency_ms", "ram_bytes in both"}
    assert said["saliency"] <= said["bound"] * (1 + 1e-9)


def test_a_group_has_all_its_levels_and_what_each_costs(run):
    said = done("explain", run, "--group", "conv1", "-q")
    assert [x["width"] for x in said["group"]["levels"]] == [8, 16, 24, 32]
    assert said["channel"] is None
    changes = [x["change"] for x in said["group"]["levels"] if x["change"]]
    assert any(c["impossible"] or c["loses_at_most"] is not None for c in changes)
    brief = done("explain", run, "--group", "conv1", "--time-limit", "0", "-q")
    assert all(x["change"] is None or x["change"]["loses_at_most"] is None for x in brief["group"]["levels"])


def test_a_removed_channel(run):
    said = done("explain", run, "--group", "conv1", "--channel", "31", "-q")
    channel = said["channel"]
    assert (channel["kept"], channel["rank"], channel["level"]["width"]) == (False, 32, 32)
    assert channel["level"] == said["group"]["levels"][-1]


def test_a_person_reads_tables_and_sentences(run, capsys):
    assert main(["explain", str(run)]) == 0
    out = capsys.readouterr().out
    for words in ("What binds is", "Limits, by the tables", "in both", "Next to be kept", "Next to go", "over by"):
        assert words in out
    assert main(["explain", str(run), "--group", "conv2", "--channel", "0", "-q"]) == 0
    out = capsys.readouterr().out
    for words in (
        "chosen",
        "Channel 0 of conv2 is removed",
        "rank 32 of 32 in its group",
        "narrowest width that keeps",
    ):
        assert words in out


def test_in_python_it_prints_and_plots(run):
    said = edgeprune.explain(run)
    assert str(run) in repr(said)
    assert "Next to be kept" in str(said)
    assert "<table>" in said._repr_html_()
    assert isinstance(said.plot(), Figure)
    assert isinstance(edgeprune.explain(edgeprune.load_run(run), group="conv1").plot(), Figure)
    json.dumps(said.to_json(), default=str, allow_nan=False)


def test_where_nothing_was_removed_there_is_nothing_to_draw(tmp_path):
    solved = replace(question(), budget=Budget(latency_ms=1e3))
    solve(solved.problem, solved.budget).save_in(tmp_path)
    save_pruned(nn.Linear(2, 2), plan_of({}), tmp_path)
    said = edgeprune.explain(tmp_path)
    assert "No limit binds" in str(said)
    assert "no limit binds" in repr(said)
    with pytest.raises(UsageError, match="nothing to draw"):
        said.plot()


def test_a_network_that_was_made_smaller_is_told(run):
    chosen = widths_of(question())
    for attempt in ("recovered-0", "recovered-1", "recovered-2"):
        (run / "stages").mkdir(exist_ok=True)
        (run / "stages" / f"{attempt}.json").write_text("{}")
    save_pruned(nn.Linear(2, 2), plan_of(chosen | {"conv2": chosen["conv2"] - 3}), run)
    (note,) = done("explain", run, "-q")["notes"]
    assert "made smaller in tighter-1 to tighter-2" in note
    assert f"conv2 {chosen['conv2']} → {chosen['conv2'] - 3}" in note


def test_a_run_under_way_is_explained(run):
    (run / "widths.json").unlink()
    (note,) = done("explain", run, "-q")["notes"]
    assert "not finished" in note


def test_a_plan_without_a_certificate_says_so(run):
    solved = question()
    Solved(solved.problem, solved.budget, replace(solved.solution, witness=None, bound=None)).save_in(run)
    said = done("explain", run, "-q")
    assert said["certified"] is False
    assert "computed now" in said["notes"][0]


# -- what is refused ------------------------------------------------------------------------------------


def test_no_such_run(tmp_path):
    assert "is not the folder of a run" in refused(3, "BadInputError", "explain", tmp_path / "none")["message"]


def test_a_run_of_an_older_version(run):
    (run / "problem.json").unlink()
    said = refused(3, "BadInputError", "explain", run)
    assert "by a version that did not keep them" in said["message"]
    assert "prune or fit again" in said["hint"]


def test_a_run_without_a_plan(tmp_path):
    (tmp_path / "stages").mkdir()
    said = refused(3, "BadInputError", "explain", tmp_path)
    assert "has no plan yet" in said["message"]
    assert "fit --resume" in said["hint"]


def test_unknown_names(run):
    said = refused(2, "UsageError", "explain", run, "--group", "conv")
    assert "did you mean conv2 or conv1?" in said["hint"]
    assert "the groups are: conv1, conv2" in said["hint"]
    said = refused(2, "UsageError", "explain", run, "--group", "logits")
    assert "offered its full width alone" in said["message"]
    assert "0 to 31" in refused(2, "UsageError", "explain", run, "--group", "conv1", "--channel", "32")["hint"]
    assert "one of a group" in refused(2, "UsageError", "explain", run, "--channel", "3")["message"]
    refused(2, "UsageError", "explain", run, "--group", "conv1", "--time-limit", "nan")


def test_files_that_do_not_go_together(run):
    chosen = widths_of(question())
    save_pruned(nn.Linear(2, 2), plan_of(chosen | {"conv2": chosen["conv2"] + 1}), run)
    assert "conv2 would be wider" in refused(3, "BadInputError", "explain", run)["message"]
    save_pruned(nn.Linear(2, 2), Plan({}, {"other": 4}, {}, {}, {}), run)
    assert "another network" in refused(3, "BadInputError", "explain", run)["message"]


def test_a_plan_over_its_budget_is_refused(run):
    for name in ("problem.json", "solution.json"):
        data = json.loads((run / name).read_text())
        data["budget"]["latency_ms"] = 1e-3
        (run / name).write_text(json.dumps(data))
        code, kind = (3, "BadInputError") if name == "problem.json" else (7, "VerificationError")
        said = "it answers" if name == "problem.json" else "over the limit"
        assert said in refused(code, kind, "explain", run)["message"]


def test_saliencies_that_are_not_there(run):
    (run / "scores.safetensors").write_bytes(b"no scores")
    assert done("explain", run, "-q")["notes"] == []
    said = refused(3, "BadInputError", "explain", run, "--group", "conv1", "--channel", "0", "-q")
    assert "scores.safetensors cannot be read" in said["message"]
