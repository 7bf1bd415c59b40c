"""frontier: the curve of a problem in a file, as it is run."""

import json

import numpy as np
import pytest
from command_line import done, refused

from edgeprune.budget import Axis, Choice, Problem, Row, Table, Term, save_problem
from edgeprune.cli.main import main


@pytest.fixture
def problem(tmp_path):
    grid = np.array([8, 16, 24, 32])
    term = Term("k", (Axis((0,)),), (grid,), np.array([1.0, 2.0, 4.0, 8.0]), np.array([100.0, 200.0, 300.0, 400.0]))
    step = Row("k", 10.0, (Table((Axis((0,)),), (grid,), grid * 4.0),))
    path = tmp_path / "problem.json"
    save_problem(path, Problem((Choice("g", (8, 16, 24, 32), np.array([1.0, 4.0, 4.5, 5.0])),), (term,), ram=(step,)))
    return str(path)


def test_every_plan_of_the_curve_with_its_gap(problem, tmp_path):
    body = done("frontier", problem, "--count", "8", "--quiet", "--out", tmp_path / "curve.json")
    assert (body["schema"], body["name"], body["stop"]) == ("edgeprune.frontier/1", "problem", "complete")
    assert (body["against"], body["asked"], body["wanted"]) == (["latency_ms"], 8, 8)
    assert [p["latency_ms"] for p in body["points"]] == [1.0, 2.0, 4.0, 8.0]
    assert [p["widths"] for p in body["points"]] == [{"g": w} for w in (8, 16, 24, 32)]
    assert [p["ram_bytes"] for p in body["points"]] == [42.0, 74.0, 106.0, 138.0]
    assert [p["knee"] for p in body["points"]] == [False, True, False, False]
    assert all(0 <= p["gap"] < 0.5 for p in body["points"])
    # Steps of 1, 2 and 4 ms at what is kept, of 8 ms and a saliency of 5.
    assert body["hypervolume"] == pytest.approx((1 * 1 + 2 * 4 + 4 * 4.5) / 40)
    assert body["hypervolume"] < body["hypervolume_bound"] < 1
    assert json.loads((tmp_path / "curve.json").read_text()) == body


@pytest.mark.parametrize("pair", [("latency", "flash"), ("latency", "ram"), ("flash", "ram")])
def test_a_pair_of_resources(problem, pair, tmp_path):
    flags = [word for resource in pair for word in ("--against", resource)]
    body = done("frontier", problem, *flags, "--solver", "exact", "-q", "--plot", tmp_path / "curve.png")
    assert len(body["against"]) == 2
    assert [p["widths"]["g"] for p in body["points"]] == [8, 16, 24, 32]
    assert (tmp_path / "curve.png").stat().st_size > 5000


def test_a_person_sees_a_table_and_a_picture(problem, tmp_path, capsys):
    assert main(["frontier", problem, "--plot", str(tmp_path / "curve.svg")]) == 0
    out, err = capsys.readouterr()
    assert "problem, 4 plans against latency, gaps up to" in out
    assert "hypervolume 0.6750 of at most" in out
    assert [line.split()[-1] == "knee" for line in out.splitlines() if "ms" in line and "%" in line][1]
    assert "frontier" in err
    assert (tmp_path / "curve.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("--against", "joules"), "not against 'joules'"),
        (("--against", "ram", "--against", "ram"), "one resource or two"),
        (("--against", "ram", "--against", "flash", "--against", "latency"), "one resource or two"),
        (("--count", "1"), "count"),
        (("--solver", "anneal"), "no solver 'anneal'"),
        (("--time-limit", "0"), "a time limit of 0"),
        (("--weights", "w.safetensors", "--blocks"), "knows nothing of --weights, --blocks"),
        (("--plot", "curve.bmp"), "no picture"),
        (("--out", "nowhere/curve.json"), "no folder nowhere"),
    ],
)
def test_what_makes_no_sense_is_refused(problem, args, why):
    assert why in refused(2, "UsageError", "frontier", problem, *args)["message"]


def test_files_that_are_none(problem, tmp_path):
    (tmp_path / "x.json").write_text("{}")
    refused(3, "BadInputError", "frontier", tmp_path / "x.json")
    assert "report" in refused(3, "BadInputError", "frontier", problem, "--run", tmp_path)["message"]
