"""A limit of RAM: what a plan is predicted to allocate is what its program allocates, and the limit is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import edgeprune
from edgeprune.amounts import size
from edgeprune.api.call import sign, signed
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.problem import Budget
from edgeprune.budget.promise import Limit, Promise
from edgeprune.budget.solving import Solved
from edgeprune.compiler.manifest import read_manifest
from edgeprune.compiler.ram import Footprint, MemoryModel
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.deploy.status import status
from edgeprune.devices.fake import FakeDevice
from edgeprune.errors import InfeasibleBudgetError, UsageError
from edgeprune.fitting.fit import fit
from edgeprune.fitting.options import FitOptions
from edgeprune.fitting.planned_ram import PlannedRam
from edgeprune.fitting.planner import Planner, score, shrunk, with_removable
from edgeprune.fitting.saved import load_scores
from edgeprune.graph.network import Network, read_network
from edgeprune.importance.curves import Saliency
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.store import ProfileStore
from edgeprune.models.zoo import build
from edgeprune.profiling.profile import ProfileOptions, profile
from edgeprune.pruning.plan import Plan
from edgeprune.report.from_fit import report_of
from edgeprune.report.sentences import headline, verdict_sentence
from edgeprune.report.tables import verdict_table

PROFILE = ProfileOptions(points=3, step=8, tune=1)
OPTIONS = FitOptions(criterion="l2", baseline=False, profile=PROFILE)

# What they share takes seconds to make.
pytestmark = pytest.mark.xdist_group("ram")


class Made:
    """A network, its profile on a fake device, and planners of it."""

    def __init__(self, network: Network, target, device, store, options: ProfileOptions) -> None:
        self.network = with_removable(network) if options.blocks else network
        found = profile(self.network.kernels, self.network.channels, target, device, store, options)
        self.levels, records = found.levels, found.profile.records()
        self.tables, self.book = LatencyModel(records), ScheduleBook(target, records)
        self.saliency = Saliency.summed(score(self.network, "l2"))

    def planner(self, *, limited: bool = True, solver: str = "lagrangian", **more) -> Planner:
        ram = PlannedRam(self.network, self.book, limited=limited)
        options = {"solver": solver, "criterion_name": "l2", "ram": ram, **more}
        return Planner(self.network, self.saliency, self.tables, self.levels, **options)

    def traced(self, plan: Plan) -> int:
        """What the network of a plan allocates, asked of its own graph."""
        small = shrunk(self.network, plan)
        return MemoryModel(small.kernels, small.channels, self.book.target, self.book).at({}).ram


@pytest.fixture(scope="module")
def made(target, record, store, tmp_path_factory) -> Made:
    loaded = record.load()
    network = read_network(loaded.module, loaded.example_inputs)
    return Made(network, target, FakeDevice(tmp_path_factory.mktemp("board")), store, PROFILE)


@pytest.fixture
def device(tmp_path):
    return FakeDevice(tmp_path / "board")


# -- plans ----------------------------------------------------------------------------------------------------


def test_a_plan_keeps_a_limit_and_says_what_it_allocates(made):
    planner = made.planner()
    dense = planner.propose(Budget(ram_bytes=1e9))
    assert (dense.dense, dense.ram_bytes) == (True, made.traced(dense.plan))
    found = planner.propose(Budget(ram_bytes=0.8 * dense.ram_bytes))
    assert found.plan.keep
    assert found.ram_bytes == found.plan.predicted["ram_bytes"] == made.traced(found.plan) <= 0.8 * dense.ram_bytes
    assert found.plan.method["budget"] == {"ram_bytes": 0.8 * dense.ram_bytes}
    fine = planner.finer(Budget(ram_bytes=0.8 * dense.ram_bytes))
    assert found.worth <= fine.worth
    assert fine.ram_bytes == made.traced(fine.plan) <= 0.8 * dense.ram_bytes
    between = planner.between(found, dense)
    assert between is not None
    assert between.ram_bytes == made.traced(between.plan)


def test_rows_are_made_only_for_a_limit_and_the_figure_always(made):
    planner = made.planner(limited=False)
    assert planner.problem.ram == ()
    found = planner.propose(Budget(latency_ms=1e9))
    assert found.ram_bytes == made.traced(found.plan)
    with pytest.raises(UsageError, match="nothing of RAM"):
        planner.propose(Budget(ram_bytes=1e9))


class Gaps:
    """Adds to what a plan allocates, by its figure: as an arena that is packed with a gap does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of = lambda ram: 0
        real = MemoryModel.at

        def at(model: MemoryModel, widths: dict[str, int]) -> Footprint:
            found = real(model, widths)
            return replace(found, ram=found.ram + self.of(found.ram))

        monkeypatch.setattr(MemoryModel, "at", at)


def test_an_arena_with_a_gap_keeps_the_limit_all_the_same(made, monkeypatch):
    planner, gaps = made.planner(), Gaps(monkeypatch)
    dense = planner.propose(Budget(ram_bytes=1e9)).ram_bytes
    limit = Budget(ram_bytes=0.9 * dense)
    without = planner.propose(limit)
    gaps.of = lambda ram: dense if ram == without.ram_bytes else 0
    with pytest.raises(InfeasibleBudgetError, match=r"none was ruled out.* \(smallest reachable") as caught:
        planner.propose(limit)
    assert caught.value.details["proven"] is False
    assert caught.value.details["ram_bytes"] == without.ram_bytes + dense
    small = 0.9 * dense - without.ram_bytes + 1
    gaps.of = lambda ram: int(small) if ram == without.ram_bytes else 0
    found = planner.propose(limit)
    assert found.key != without.key
    assert found.worth < without.worth
    assert found.ram_bytes <= limit.ram_bytes
    said, first = found.plan.certificate, without.plan.certificate
    assert said["saliency_upper_bound"] == first["saliency_upper_bound"], "the bound is still one on all plans"
    assert said["gap"] > first["gap"]
    assert said["stop"] == "heuristic"


class Files:
    """Predicts programs' files as the solver's figures say, and ``more`` for one plan: its kernels share no code."""

    def __init__(self, planner: Planner) -> None:
        self.planner, self.of, self.more = planner, {}, 0.0

    def bytes(self, widths: dict[str, int], densities: dict[str, int] | None = None) -> float:
        problem = self.planner.problem
        levels = [c.levels.index(widths[c.name]) for c in problem.choices]
        return Evaluator(problem).solution(levels, "").flash_bytes + (self.more if widths == self.of else 0)


def test_kernels_that_share_no_code_keep_the_limit_of_flash_all_the_same(made):
    files = Files(made.planner())
    planner = made.planner(flash=files)
    dense = planner.propose(Budget(flash_bytes=1e9)).flash_bytes
    limit = Budget(flash_bytes=0.9 * dense)
    first = planner.propose(limit)
    assert first.flash_bytes == first.plan.predicted["flash_bytes"] <= limit.flash_bytes
    files.of = {group: first.plan.width(group) for group in first.plan.sizes}
    files.more = limit.flash_bytes - first.flash_bytes + 1
    found = planner.propose(limit)
    assert found.key != first.key
    assert found.worth < first.worth
    assert found.flash_bytes <= limit.flash_bytes
    assert found.plan.certificate["saliency_upper_bound"] == first.plan.certificate["saliency_upper_bound"]
    files.more = dense
    with pytest.raises(InfeasibleBudgetError, match=r"none was ruled out.* of flash \(smallest reachable") as caught:
        planner.propose(limit)
    assert caught.value.details["proven"] is False
    assert planner.solved(found.plan).budget == limit


def test_a_plan_without_blocks_is_traced(target, tmp_path):
    module = build("resnet20", width=0.5)
    network = read_network(module, (torch.zeros(1, 3, 16, 16),))
    options = ProfileOptions(points=2, step=4, tune=1, blocks=True)
    with ProfileStore(tmp_path / "store.sqlite3") as store:
        made = Made(network, target, FakeDevice(tmp_path / "board"), store, options)
    planner = made.planner(solver="knapsack")
    dense = planner.propose(Budget(ram_bytes=1e9))
    budget = Budget(latency_ms=0.3 * dense.latency_ms, ram_bytes=0.9 * dense.ram_bytes)
    found = planner.propose(budget)
    assert found.plan.empty, "blocks went"
    assert found.ram_bytes == made.traced(found.plan) <= 0.9 * dense.ram_bytes
    without = made.planner(limited=False, solver="knapsack").propose(Budget(latency_ms=budget.latency_ms))
    assert without.plan.empty
    assert without.ram_bytes is None, "tracing takes time, and nobody asked"


# -- prune ----------------------------------------------------------------------------------------------------


def test_prune_compiles_to_what_it_predicted(made, store, model, target, device, tmp_path):
    asked = {"target": target, "device": device, "store": store.path, "points": 3, "step": 8, "tune": 1}
    pruned = edgeprune.prune(model, ram="80%", out=tmp_path / "run", **asked)
    dense = MemoryModel(made.network.kernels, made.network.channels, target, made.book).at({}).ram
    assert pruned.ram_bytes == pruned.to_json()["predicted"]["ram_bytes"] <= 0.8 * dense
    assert "of RAM, predicted" in pruned.summary
    bundle = edgeprune.compile(pruned, target=target, device=device, store=store.path, out=tmp_path / "bundle")
    assert bundle.manifest.memory.peak_ram == pruned.ram_bytes
    with pytest.raises(InfeasibleBudgetError) as caught:
        edgeprune.prune(model, ram="900B", out=tmp_path / "none", **asked)
    assert caught.value.exit_code == 4
    assert caught.value.details["budget"] == {"ram_bytes": 900}
    assert 900 < caught.value.details["ram_bytes"] < dense
    assert f"900 B of RAM (smallest reachable: {size(caught.value.details['ram_bytes'])})" in caught.value.message
    assert not (tmp_path / "none").exists()


# -- fit ------------------------------------------------------------------------------------------------------


def test_latency_and_ram_together(model, target, store, device, tmp_path):
    promise = Promise(Limit(0.85, True), ram=Limit(0.8, True))
    result = fit(model, target, device, store, tmp_path / "run", promise, options=OPTIONS)
    memory, dense = read_manifest(tmp_path / "run" / "bundle").memory, result.dense.manifest.memory
    assert result.met
    assert [v.resource for v in result.verdicts] == ["ram", "latency"]
    assert result.budget.ram_bytes == 0.8 * dense.peak_ram
    assert memory.peak_ram == result.plan.predicted["ram_bytes"] == result.verdicts[0].value <= result.budget.ram_bytes
    assert (result.verdicts[0].basis, result.verdicts[0].evidence) == ("as the program told on the device", "simulated")
    assert result.pruned.latency_ms <= result.budget.latency_ms
    said = read_manifest(tmp_path / "run" / "bundle").budget
    assert (said["ram_bytes"], said["dense_ram_bytes"]) == (result.budget.ram_bytes, dense.peak_ram)

    report = report_of(result)
    assert (report.budget.ram_bytes, report.met, headline(report)) == (result.budget.ram_bytes, True, "Budget kept")
    assert "of RAM at its peak" in verdict_sentence(report.verdicts[0])
    assert verdict_table(report).rows[0][0].startswith("kept: ram ")


def test_ram_alone(model, target, store, device, tmp_path):
    result = fit(model, target, device, store, tmp_path / "run", Promise(ram=Limit(0.8, True)), options=OPTIONS)
    assert result.met
    assert len(result.rounds) == 1, "the figure is exact: there is nothing to learn from a second round"
    assert result.pruned.manifest.memory.peak_ram == result.plan.predicted["ram_bytes"]


def test_a_limit_out_of_reach_writes_nothing(model, target, store, device, tmp_path):
    with pytest.raises(InfeasibleBudgetError) as caught:
        fit(model, target, device, store, tmp_path / "run", Promise(ram=Limit(900.0)), options=OPTIONS)
    assert caught.value.details["budget"] == {"ram_bytes": 900.0}
    assert caught.value.details["ram_bytes"] > 900
    assert not (tmp_path / "run").exists()
    assert status(device).current is None


# -- the solver's time ----------------------------------------------------------------------------------------


def test_a_time_limit_reaches_the_solver_and_may_change(model, target, store, device, tmp_path):
    for wrong, said in ({"time_limit_s": 0.0}, "time limit"), ({"gap": 1.0}, "gap"), ({"gap": -1e-9}, "gap"):
        with pytest.raises(UsageError, match=said):
            FitOptions(criterion="l2", **wrong).check(has_data=False)
    promise, run = Promise(Limit(0.8, True)), tmp_path / "run"
    first = fit(model, target, device, store, run, promise, options=replace(OPTIONS, time_limit_s=60.0, gap=0.0))
    assert first.met
    assert first.plan.certificate["stop"] == "optimal"
    kept = Solved.load_from(run)
    kept.check()
    assert {c.name: w for c, w in zip(kept.problem.choices, kept.solution.widths, strict=True)} == {
        c.name: first.plan.width(c.name) for c in kept.problem.choices
    }
    assert set(load_scores(run)) >= set(first.plan.keep)
    proven = first.pruned.manifest.provenance["certificate"]
    assert proven == {k: v for k, v in first.plan.certificate.items() if k != "witness"}
    hasty = replace(OPTIONS, time_limit_s=1e-9)
    quick = fit(model, target, device, store, tmp_path / "quick", promise, options=hasty)
    assert quick.met
    assert quick.rounds[0].proposal.plan.certificate["stop"] == "time limit"
    asked, folder = (model, target, device, store, tmp_path / "tight", Promise(Limit(0.01, True))), tmp_path / "tight"
    with pytest.raises(InfeasibleBudgetError, match="none was ruled out"):
        fit(*asked, options=hasty)
    assert (folder / "stages" / "dense.json").is_file(), "nothing was proven, so nothing is thrown away"
    with pytest.raises(InfeasibleBudgetError, match="no plan keeps the budget"):
        fit(*asked, options=OPTIONS, resume=True)
    assert not (folder / "stages").exists()


def test_a_run_of_an_earlier_version_may_be_gone_on_with(record, store, target, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_HOME", str(tmp_path / "home"))
    run, asked = tmp_path / "run", {"points": 3, "step": 8, "tune": 1, "criterion": "l2", "baseline": False}
    where = {"target": "host", "device": f"fake:{tmp_path / 'board'}", "store": store.path, "out": run}
    first = edgeprune.fit(record.model, input_shape=(1, 3, 8, 8), latency="80%", **asked, **where)
    request = json.loads((run / "stages" / "request.json").read_text())
    assert "ram" not in request["promise"], "as a version wrote it that knew no limit of RAM"
    assert not {"time_limit_s", "gap"} & set(request["options"])
    call, own = signed(run)
    assert own
    sign(run, {name: value for name, value in call.items() if name not in ("ram", "time_limit_s", "gap")})
    assert edgeprune.load_run(run).resume().plan.keep == first.plan.keep
