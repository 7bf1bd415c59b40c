"""Plans between two that the tables know: level by level, whole blocks or none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from edgeprune.budget.effort import Effort
from edgeprune.budget.problem import Budget
from edgeprune.devices.fake import FakeDevice
from edgeprune.errors import ProfileError, VerificationError
from edgeprune.fitting.planner import Planner, calibration, score
from edgeprune.fitting.search import Proposal
from edgeprune.graph.network import read_network
from edgeprune.graph.spec import KernelSpec
from edgeprune.importance.curves import Saliency
from edgeprune.latency.grids import finer
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.store import ProfileStore
from edgeprune.latency.tables import LatencyTable
from edgeprune.profiling.profile import ProfileOptions, profile
from edgeprune.progress import Silent
from edgeprune.pruning.plan import Plan
from edgeprune.training.data import DataSet

pytestmark = pytest.mark.xdist_group("planner")


class Made:
    """The parts of a planner of the record's network, timed on a fake device."""

    def __init__(self, target, record, folder) -> None:
        loaded = record.load()
        self.network = read_network(loaded.module, loaded.example_inputs)
        with ProfileStore(folder / "store.sqlite3") as store:
            options = ProfileOptions(points=4, step=1, tune=1)
            device = FakeDevice(folder / "board")
            found = profile(self.network.kernels, self.network.channels, target, device, store, options)
            self.levels, self.records = found.levels, list(found.profile.records())

    def planner(self, tables: type[LatencyModel] = LatencyModel, **options: Any) -> Planner:
        model = tables(self.records)
        saliency = Saliency.summed(score(self.network, "l2"))
        return Planner(self.network, saliency, model, self.levels, solver="greedy", criterion_name="l2", **options)


@pytest.fixture(scope="module")
def made(target, record, tmp_path_factory) -> Made:
    return Made(target, record, tmp_path_factory.mktemp("planner"))


@pytest.fixture(scope="module")
def planner(made) -> Planner:
    return made.planner()


class OnlyWhatWasTimed(LatencyModel):
    """Tables that nothing is interpolated from, as those of a kernel of one width are."""

    def table(self, spec: KernelSpec, **options: Any) -> LatencyTable:
        found = super().table(spec, **options)
        if found.estimated.any():
            raise ProfileError(f"{spec.op} was not timed there")
        return found


class Said(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def widths(planner: Planner, found: Proposal) -> dict[str, int]:
    return {c.name: found.plan.width(c.name) for c in planner.problem.choices}


@pytest.fixture(scope="module")
def ends(planner) -> tuple[Proposal, Proposal]:
    dense = planner.propose(Budget(latency_ms=1e9))
    return planner.propose(Budget(latency_ms=0.5 * dense.latency_ms)), dense


def test_a_plan_between_two_lies_between_them(planner, ends):
    low, high = ends
    found = planner.between(low, high)
    below, middle, above = (widths(planner, x) for x in (low, found, high))
    assert middle not in (below, above)
    for choice in planner.problem.choices:
        assert (
            min(below[choice.name], above[choice.name])
            <= middle[choice.name]
            <= max(below[choice.name], above[choice.name])
        )
    assert low.worth < found.worth < high.worth
    assert low.latency_ms < found.latency_ms < high.latency_ms
    assert found.plan.method["between_ms"] == [low.latency_ms, high.latency_ms]


def test_finer_plans_retain_more_in_the_same_time_and_cost_what_the_tables_say_between_what_they_know(planner, ends):
    low, high = ends
    budget = Budget(latency_ms=(low.latency_ms + high.latency_ms) / 2)
    coarse, fine = planner.propose(budget), planner.finer(budget)
    assert fine.latency_ms <= budget.latency_ms
    assert fine.worth > coarse.worth
    assert (coarse.estimated, fine.estimated) == (False, True)
    found = widths(planner, fine)
    assert any(found[c.name] not in c.levels for c in planner.problem.choices)
    assert all(c.levels[0] <= found[c.name] <= c.levels[-1] for c in planner.problem.choices)


def test_finer_plans_are_those_of_the_timed_widths_where_tables_do_not_reach_others(made, planner):
    said = Said()
    short = made.planner(OnlyWhatWasTimed, progress=said)
    dense = planner.propose(Budget(latency_ms=1e9))
    budget = Budget(latency_ms=0.6 * dense.latency_ms)
    coarse = planner.propose(budget)
    assert short.finer(budget).key == coarse.key != planner.finer(budget).key
    assert short.between(coarse, dense).key not in (coarse.key, dense.key)
    assert len(said.notes) == 1
    assert "no plans of finer widths" in said.notes[0]
    assert "was not timed there" in said.notes[0]


@pytest.mark.parametrize(
    ("levels", "least", "wanted"),
    [
        ((16, 32, 48, 64), 1, tuple(range(16, 65, 4))),
        ((16, 32, 48, 64), 8, (16, 24, 32, 40, 48, 56, 64)),
        ((16, 32, 48, 64), 16, (16, 32, 48, 64)),
        ((0, 8, 16, 20), 4, (0, 8, 12, 16, 20)),
        ((9, 18, 20), 1, (9, 11, 13, 15, 17, 18, 19, 20)),
        ((64,), 1, (64,)),
        ((0, 64), 8, (0, 64)),
    ],
)
def test_finer_levels_hold_those_that_were_timed_and_none_outside_of_them(levels, least, wanted):
    assert finer(levels, least) == wanted


def test_halving_ends_beside_the_other_plan(planner, ends):
    low, high = ends
    keys = [low.key]
    while (found := planner.between(low, high)) is not None:
        low = found
        keys.append(found.key)
    assert len(keys) == len(set(keys))
    apart = [c for c in planner.problem.choices if low.plan.width(c.name) != high.plan.width(c.name)]
    assert len(apart) == 1, "one group, one level"
    levels = finer(apart[0].levels)
    assert abs(levels.index(low.plan.width(apart[0].name)) - levels.index(high.plan.width(apart[0].name))) == 1


def test_between_a_plan_and_itself_there_is_none(planner, ends):
    assert planner.between(ends[0], ends[0]) is None


def test_what_a_plan_answers_is_rebuilt_from_the_plan_alone(made, ends):
    """As a resumed run does, whose solver is not asked again."""
    dense, asked = ends[1], Budget(latency_ms=0.5 * ends[1].latency_ms)
    found = made.planner().propose(asked)
    again = Plan.from_json(json.loads(json.dumps(found.plan.to_json())))
    solved = made.planner().solved(again)
    assert solved.budget == asked
    assert solved.solution.saliency == found.worth
    assert solved.solution.gap == again.certificate["gap"] > 0, "greedy is not proven best"
    assert again.certificate["saliency_upper_bound"] < dense.worth
    claimed = replace(again, certificate={**again.certificate, "saliency_upper_bound": found.worth})
    with pytest.raises(VerificationError, match="certificate does not hold"):
        made.planner().solved(claimed)


def test_of_a_plan_between_two_nothing_is_proven(planner, ends):
    between = planner.between(*ends)
    assert between is not None
    solved = planner.solved(between.plan)
    assert solved.solution.bound is None
    assert solved.budget.latency_ms == between.latency_ms


def test_a_solver_that_ran_out_of_time_says_so(made):
    said = Said()
    planner = made.planner(progress=said, effort=Effort(1e-9))
    found = planner.propose(Budget(latency_ms=0.5 * planner.propose(Budget(latency_ms=1e9)).latency_ms))
    assert found.plan.certificate["stop"] == "time limit"
    assert any("greedy stopped (time limit)" in note for note in said.notes)


def test_calibration_batches_of_data_that_lie_class_by_class_are_like_the_whole() -> None:
    """Taken in order, a batch had 2 of the 20 classes."""
    labels = torch.arange(20).repeat_interleave(100)
    data = DataSet((torch.zeros(2000, 1, 2, 2), labels), (torch.zeros(1, 1, 2, 2), labels[:1]), "sorted")
    batches = [b.targets for b in calibration(data, batch_size=64, most=512)]
    assert [len(b) for b in batches] == [64] * 8
    assert all(len(b.unique()) >= 16 for b in batches)
    again = [b.targets for b in calibration(data, batch_size=64, most=512)]
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))
