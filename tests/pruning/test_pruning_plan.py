from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edgeprune.errors import PlanError
from edgeprune.graph.channels import ChannelGraph, Member, WidthGroup
from edgeprune.pruning.plan import Plan, check_plan, make_plan

GRAPH = ChannelGraph(
    (
        WidthGroup("a", 4, (Member("a.weight", 0),)),
        WidthGroup("b", 3, (Member("b.weight", 0),)),
        WidthGroup("out", 2, (Member("c.weight", 0),), frozen="graph output"),
    )
)
SCORES = {"a": np.array([1.0, 3.0, 3.0, 2.0]), "b": np.array([1.0, 1.0, 1.0])}


def test_keeps_the_best_and_breaks_ties_by_index() -> None:
    plan = make_plan(GRAPH, {"a": 3, "b": 2}, SCORES, method={"solver": "exact"})
    assert plan.keep == {"a": (1, 2, 3), "b": (0, 1)}
    assert plan.sizes == {"a": 4, "b": 3, "out": 2}
    assert [plan.width(g) for g in plan.sizes] == [3, 2, 2]
    assert make_plan(GRAPH, {"a": 1}, SCORES).keep == {"a": (1,)}


def test_full_width_is_left_out_and_needs_no_scores() -> None:
    assert make_plan(GRAPH, {"a": 4, "out": 2}, {}).keep == {}


def test_json_round_trip() -> None:
    plan = make_plan(GRAPH, {"a": 2}, SCORES, predicted={"latency_ms": 3.5}, certificate={"gap": 0.0})
    data = json.loads(json.dumps(plan.to_json()))
    assert data["schema"] == "edgeprune.plan/1"
    assert Plan.from_json(data) == plan


@pytest.mark.parametrize(
    ("widths", "scores", "match"),
    [
        ({"z": 1}, SCORES, "no width group 'z'"),
        ({"a": -1}, SCORES, "cannot keep -1 of its 4"),
        ({"a": 0}, SCORES, "cannot lose all its channels: nothing leads around it"),
        ({"a": 5}, SCORES, "cannot keep 5 of its 4"),
        ({"a": 2}, {}, "needs 4 finite saliencies"),
        ({"a": 2}, {"a": np.ones(3)}, "needs 4 finite saliencies"),
        ({"a": 2}, {"a": np.array([1, 2, np.nan, 3])}, "needs 4 finite saliencies"),
        ({"out": 1}, {"out": np.ones(2)}, "frozen .graph output."),
    ],
)
def test_impossible_widths(widths: dict[str, int], scores: dict[str, Any], match: str) -> None:
    with pytest.raises(PlanError, match=match):
        make_plan(GRAPH, widths, scores)


SIZES = {"a": 4, "b": 3, "out": 2}


@pytest.mark.parametrize(
    ("keep", "sizes", "match"),
    [
        ({}, {"a": 4, "b": 3}, "'out' has 2 channels"),
        ({}, {**SIZES, "a": 5}, "'a' has 4 channels, the plan was made for 5"),
        ({}, {**SIZES, "z": 1}, "no width group 'z'"),
        ({"z": (0,)}, SIZES, "no width group 'z'"),
        ({"a": ()}, SIZES, "cannot lose all its channels: nothing leads around it"),
        ({"a": (0, 4)}, SIZES, "must be of 0 … 3"),
        ({"a": (-1, 0)}, SIZES, "must be of 0 … 3"),
        ({"a": (1, 0)}, SIZES, "ascending"),
        ({"a": (1, 1)}, SIZES, "each once"),
        ({"out": (0,)}, SIZES, "frozen"),
    ],
)
def test_plans_of_other_networks(keep: dict[str, tuple[int, ...]], sizes: dict[str, int], match: str) -> None:
    with pytest.raises(PlanError, match=match):
        check_plan(Plan(keep, sizes, {}, {}, {}), GRAPH)


GOOD = make_plan(GRAPH, {"a": 2}, SCORES).to_json()


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {**GOOD, "schema": "edgeprune.plan/2"},
        {**GOOD, "keep": None},
        {k: v for k, v in GOOD.items() if k != "certificate"},
        {**GOOD, "keep": {"a": "01"}},
        {**GOOD, "keep": {"a": [0, 1.0]}},
        {**GOOD, "keep": {"a": [True]}},
        {**GOOD, "keep": {"a": [0, 9]}},
        {**GOOD, "keep": {"z": [0]}},
        {**GOOD, "sizes": {**SIZES, "a": 0}},
        {**GOOD, "sizes": {**SIZES, "a": "4"}},
    ],
)
def test_damaged_json(data: Any) -> None:
    with pytest.raises(PlanError):
        Plan.from_json(data)


def test_a_plan_that_is_made_smaller_still_names_the_rule_that_it_keeps() -> None:
    first = Plan({"a": (0, 2, 3)}, {"a": 4, "b": 2}, {}, {"rule": "ratio:remove=0.25", "solver": "exact"}, {"gap": 0.0})
    smaller = first.then(
        Plan({"a": (1, 2), "b": (1,)}, {"a": 3, "b": 2}, {"latency_ms": 1.0}, {"solver": "greedy"}, {})
    )
    assert smaller.keep == {"a": (2, 3), "b": (1,)}
    assert smaller.method == {"rule": "ratio:remove=0.25", "solver": "greedy"}
    assert smaller.certificate == {}
