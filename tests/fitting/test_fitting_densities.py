"""Plans of widths and of blocks of weights: what is offered, what it costs, and that the program has it."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import block_net
import numpy as np
import pytest
import torch

import edgeprune
from edgeprune.budget.brute_force import BruteForce
from edgeprune.budget.exact import Exact
from edgeprune.budget.files import load_problem
from edgeprune.budget.problem import Budget
from edgeprune.budget.solving import Solved
from edgeprune.compiler.cost import virtual_cost_ns
from edgeprune.compiler.in_blocks import layers_for_blocks
from edgeprune.compiler.library import load_bundle
from edgeprune.compiler.manifest import read_manifest
from edgeprune.errors import PlanError, ProfileError, UsageError
from edgeprune.fitting.densities import Ranking, check_densities, densities_of, planned_blocks, ranking_of, retained
from edgeprune.fitting.run_folder import load_run
from edgeprune.graph.network import Network, read_network
from edgeprune.graph.ops.convolution import BLOCK, stored_blocks
from edgeprune.graph.resized import at_widths
from edgeprune.home import store_path
from edgeprune.importance.curves import Saliency
from edgeprune.importance.registry import criterion
from edgeprune.latency.densities import WHOLE, in_blocks, parse_densities
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.problem import build_problem
from edgeprune.latency.store import ProfileStore
from edgeprune.profiling.estimated import estimated_of
from edgeprune.profiling.profile import ProfileOptions
from edgeprune.pruning.plan import Plan
from edgeprune.report.frontier import marks_of
from edgeprune.targets import load_target
from edgeprune.training.data import DataSet
from edgeprune.training.halves import Arrays
from edgeprune.training.tasks.task import Task, mean_metric

NET = Path(block_net.__file__)
OFFERED = (25, 50)
SHAPE, FIRST, SECOND, HEAD = (1, 3, 8, 8), "body.2.0.weight", "body.3.0.weight", "head.weight"

pytestmark = pytest.mark.xdist_group("densities")


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """Where a profile with densities lies: arguments of all calls."""
    folder = tmp_path_factory.mktemp("densities")
    asked = {"device": f"fake:{folder / 'board'}", "store": folder / "store.sqlite3", "points": 3, "step": 16}
    edgeprune.profile(f"{NET}:net", input_shape=SHAPE, tune=2, densities="25,50", sampled=False, **asked)
    return asked


@pytest.fixture(scope="module")
def network() -> Network:
    return read_network(block_net.net(), (torch.zeros(SHAPE),))


@pytest.fixture(scope="module")
def tables(board) -> LatencyModel:
    with ProfileStore(store_path(board["store"])) as store:
        (profile,) = store.profiles()
        return LatencyModel(profile.records())


@pytest.fixture(scope="module")
def saliency(network) -> Saliency:
    return Saliency.summed(criterion("l2").score(network, None))


def levels_of(network: Network) -> dict[str, tuple[int, ...]]:
    return ProfileOptions(points=3, step=16).levels(network.channels, load_target("host"))


def pruned(board, out: Path, **more):
    asked = {"latency": "60%", "densities": OFFERED, **board, **more}
    return edgeprune.prune(f"{NET}:net", input_shape=SHAPE, out=out, **asked)


@pytest.fixture(scope="module")
def mixed(board, tmp_path_factory):
    """A plan that takes blocks, and its network compiled: (pruned, manifest, bundle)."""
    folder = tmp_path_factory.mktemp("mixed")
    found = pruned(board, folder / "run")
    where = {name: board[name] for name in ("device", "store")}
    edgeprune.compile(folder / "run", factory=f"{NET}:net", out=folder / "bundle", **where)
    return found, read_manifest(folder / "bundle"), folder / "bundle"


def blocks_left(weight: torch.Tensor) -> int:
    """Of 16 filters by one value, counted one by one."""
    flat = weight.reshape(len(weight), -1)
    rows = range(0, len(flat), BLOCK)
    return sum(bool(flat[r : r + BLOCK, i].any()) for r in rows for i in range(flat.shape[1]))


def test_what_blocks_retain():
    weight = np.random.default_rng(0).normal(size=(40, 6, 1, 1)).astype(np.float32)
    sums = sorted((float(np.abs(weight[r : r + 16, i]).sum()) for r in (0, 16, 32) for i in range(6)), reverse=True)
    for density, share in zip((10, 25, 50, 100), retained(np.abs(weight), (10, 25, 50, 100)), strict=True):
        kept = stored_blocks(18, density)
        assert share == pytest.approx(sum(sums[:kept]) / sum(sums))
    assert (retained(np.zeros((16, 4), np.float32), (25, 100)) == 1).all()


def test_layers_with_filters_of_one_pixel_are_offered_densities(network, tables, saliency):
    assert layers_for_blocks(network.kernels) == {"body.2.0": FIRST, "body.3.0": SECOND, "head": "head.weight"}
    found = densities_of(network, OFFERED, saliency.curves, levels_of(network), tables)
    assert {d.weight for d in found.values()} == {FIRST, SECOND, HEAD}
    for name in ("body.2.0", "body.3.0"):
        assert found[name].retained[-1] == pytest.approx(saliency.curves[network.channels[name].name][-1])
    # The head writes no channels that anybody chooses: it is worth what those are that it reads.
    assert found["head"].retained[-1] == found["body.3.0"].retained[-1]


def test_blocks_go_by_what_the_criterion_says_of_single_weights(network, tables, saliency):
    """Here by the opposite of their size: what is offered says so, and what goes is what was weighed."""

    def opposite(by, module, wanted):
        assert by == "opposite"
        return {name: w.detach().abs().max() - w.detach().abs() for name, w in wanted.items()}

    ranking = Ranking("opposite", opposite)
    plain = densities_of(network, OFFERED, saliency.curves, levels_of(network), tables)
    found = densities_of(network, OFFERED, saliency.curves, levels_of(network), tables, ranking)
    for name, density in found.items():
        weight = network.module.get_parameter(density.weight).detach().numpy()
        worth = density.retained[-1]
        assert worth == plain[name].retained[-1]
        shares = retained(np.abs(weight).max() - np.abs(weight), density.levels)
        np.testing.assert_allclose(density.retained, worth * shares)
        assert (density.retained[:-1] < plain[name].retained[:-1]).all()
    plan = Plan({}, {}, {}, {}, {}, {FIRST: 25})
    left = {}
    for ranked in (None, ranking):
        module = block_net.net()
        (blocks,) = planned_blocks(plan, ranked)
        blocks.at_once(module)
        left[ranked] = module.get_parameter(FIRST).detach()
    assert blocks_left(left[None]) == blocks_left(left[ranking])
    assert left[None].abs().sum() > left[ranking].abs().sum() > 0


def test_who_ranks_blocks(network):
    data = DataSet(
        Arrays(torch.randn(8, *SHAPE[1:]), torch.zeros(8)), Arrays(torch.randn(8, *SHAPE[1:]), torch.zeros(8)), "d"
    )
    assert ranking_of("activation", network, data) is None
    assert ranking_of("taylor", network) is None
    ranking = ranking_of("taylor", network, data, Task("strength", mean_metric("none", lambda y, t: y.mean(), "")))
    signals = ranking.scorer(ranking.by, network.module, {FIRST: network.module.get_parameter(FIRST)})
    assert ranking.by == "taylor"
    assert (signals[FIRST] >= 0).all()
    assert signals[FIRST].any()
    assert not np.allclose(signals[FIRST], network.module.get_parameter(FIRST).detach().abs())


def test_what_is_not_quicker_is_not_offered(network, tables, saliency):
    slow = [
        replace(r, median_ns=100 * r.median_ns) if r.spec.density is not None else r for r in tables._by_key.values()
    ]
    assert densities_of(network, OFFERED, saliency.curves, levels_of(network), LatencyModel(slow)) == {}


def test_a_solver_takes_widths_and_blocks_together(network, tables, saliency):
    levels = levels_of(network)
    offered = densities_of(network, OFFERED, saliency.curves, levels, tables)
    problem = build_problem(network.kernels, network.channels, saliency.curves, levels, tables, densities=offered)
    dense_ms = tables.network(n.spec for n in network.kernels.nodes).latency_ms
    names = [c.name for c in problem.choices]
    assert names[-3:] == [FIRST, SECOND, HEAD]
    for share in (0.8, 0.5):
        budget = Budget(latency_ms=share * dense_ms)
        best = BruteForce().solve(problem, budget)
        found = Exact().solve(problem, budget)
        assert found.saliency == pytest.approx(best.saliency, rel=1e-4)
        channels_alone = build_problem(network.kernels, network.channels, saliency.curves, levels, tables)
        worth = sum(float(c.saliency[-1]) for c in problem.choices[:-2])
        alone = Exact().solve(channels_alone, budget).saliency * worth + 1 - worth
        assert found.saliency > alone, "blocks that are worth little go before channels do"
        assert min(found.widths[-2:]) < WHOLE


def test_a_layer_of_few_blocks_costs_no_more_than_one_of_more(network, tables, saliency):
    levels = levels_of(network)
    offered = densities_of(network, OFFERED, saliency.curves, levels, tables)
    problem = build_problem(network.kernels, network.channels, saliency.curves, levels, tables, densities=offered)
    (term,) = (t for t in problem.terms if t.name == "body.3.0")
    assert term.latency_ms.shape[-1] == len(offered["body.3.0"].levels)
    assert (np.diff(term.latency_ms, axis=-1) >= 0).all()
    node = next(n for n in network.kernels.nodes if n.name == "body.3.0")
    for (i, read), (j, written), (k, density) in itertools.product(
        *(enumerate(axis) for axis in (*term.grids[:2], offered["body.3.0"].levels))
    ):
        wide = node.spec.with_widths(**{"in": int(read), "out": int(written)})
        known = [tables.predict_kernel(wide)]
        known += [tables.predict_kernel(wide.with_density(d)) for d in OFFERED if density <= d]
        assert term.latency_ms[i, j, k] == pytest.approx(min(p.latency_ms for p in known))


def test_the_program_has_the_blocks_of_the_plan(mixed):
    found, manifest, bundle = mixed
    assert found.plan.in_blocks, "the budget takes blocks"
    stored = {k.node: k.spec["attrs"].get("density") for k in manifest.kernels}
    weights = dict(found.module.named_parameters())
    for name, density in found.plan.densities.items():
        units = -(-len(weights[name]) // BLOCK) * weights[name].shape[1]
        assert blocks_left(weights[name]) == stored_blocks(units, density)
        assert stored[name.removesuffix(".weight")] == (None if density == WHOLE else density)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = found.module(x).numpy()
    np.testing.assert_allclose(load_bundle(bundle)(x.numpy())[0], expected, atol=1e-4)


def test_what_the_program_takes_was_predicted(mixed):
    found, manifest, _ = mixed
    assert manifest.memory.peak_ram == found.ram_bytes
    assert manifest.memory.flash == pytest.approx(found.flash_bytes, rel=0.005)
    dense = sum(n.spec.macs for n in read_network(found.module, (torch.zeros(SHAPE),)).kernels.nodes)
    assert found.sparsity.macs_left < dense
    text = found.to_json()
    assert text["densities"] == dict(found.plan.densities)


def test_a_limit_of_ram_counts_the_places_of_blocks(board, tmp_path):
    """One byte below what a plan takes, another plan is found, which keeps it."""
    where = {name: board[name] for name in ("device", "store")}
    limit, before, taken = "110%", None, []
    for turn in range(2):
        found = pruned(board, tmp_path / f"run{turn}", ram=limit)
        edgeprune.compile(tmp_path / f"run{turn}", factory=f"{NET}:net", out=tmp_path / f"bundle{turn}", **where)
        assert read_manifest(tmp_path / f"bundle{turn}").memory.peak_ram == found.ram_bytes
        assert before is None or found.ram_bytes < before
        limit = before = found.ram_bytes - 1
        taken.append(found.plan.in_blocks)
    assert taken[0]


def test_the_run_can_be_read_and_explained(mixed):
    found, _, _ = mixed
    again, network = load_run(found.folder, factory=f"{NET}:net")
    del again
    for name, weight in network.module.named_parameters():
        assert torch.equal(weight, dict(found.module.named_parameters())[name])
    said = edgeprune.explain(found.folder)
    assert set(found.plan.in_blocks) <= {g["name"] for g in said.to_json()["groups"]}


def test_explanations_tell_channels_from_blocks(mixed):
    """A weight has blocks, in per cent, and no channels; and channels are explained beside it."""
    found, _, _ = mixed
    channel = edgeprune.explain(found.folder, group="body.3.0", channel=3).channel
    assert channel is not None
    assert channel.kept is (3 in found.plan.keep.get("body.3.0", range(64)))
    (name, density), *_ = found.plan.in_blocks.items()
    titles = [t.title for t in edgeprune.explain(found.folder, group=name).tables()]
    assert f"{name}: {density} % of its blocks" in titles
    with pytest.raises(UsageError, match="no channels"):
        edgeprune.explain(found.folder, group=name, channel=0)


def test_a_layer_that_goes_with_a_block_retains_nothing_of_its_weights(tmp_path):
    asked = {"device": f"fake:{tmp_path / 'board'}", "store": tmp_path / "store.sqlite3", "points": 2, "step": 16}
    asked |= {"blocks": True, "densities": "50", "example_inputs": SHAPE}
    edgeprune.profile(block_net.removable(), tune=2, sampled=False, **asked)
    found = edgeprune.prune(block_net.removable(), latency="25%", ram="110%", out=tmp_path / "run", **asked)
    assert found.removed_blocks == ("branch",)
    gone = ("branch.0.weight", "branch.2.weight")
    assert [found.plan.densities[w] for w in gone] == [0, 0]
    assert not set(gone) & set(found.plan.in_blocks)
    assert Plan.from_json(json.loads(json.dumps(found.plan.to_json()))) == found.plan
    solved = Solved.load_from(found.folder)
    solved.check()
    indices = [[c.name for c in solved.problem.choices].index(w) for w in gone]
    for i in indices:
        assert solved.problem.choices[i].levels == (0, 50, WHOLE)
        assert solved.problem.choices[i].saliency[0] == 0
    best = BruteForce().solve(solved.problem, solved.budget)
    assert solved.solution.saliency == pytest.approx(best.saliency, rel=1e-4)
    # The same by hand: what stays of the sum is of what stays of the network.
    chosen = zip(solved.problem.choices, solved.solution.widths, strict=True)
    left = sum(float(c.saliency[c.levels.index(w)]) for c, w in chosen if c.name not in ("branch.0", *gone))
    assert found.plan.predicted["saliency_retained"] == pytest.approx(left)
    where = {name: asked[name] for name in ("device", "store")}
    made = edgeprune.compile(found, out=tmp_path / "bundle", **where).manifest
    # Nobody timed the layer beside the block as it is without: it ends in other operations.
    assert found.plan.in_blocks == {"main.weight": 50}
    assert {k.node: k.spec["attrs"].get("density") for k in made.kernels}["main"] == 50
    assert made.memory.peak_ram == found.ram_bytes
    x = torch.randn(SHAPE)
    with torch.no_grad():
        expected = found.module(x).numpy()
    np.testing.assert_allclose(load_bundle(tmp_path / "bundle")(x.numpy())[0], expected, atol=1e-4)


def test_a_fit_keeps_the_blocks_of_its_plan_zero(board, tmp_path):
    result = edgeprune.fit(
        f"{NET}:net",
        input_shape=SHAPE,
        data=f"{NET}:data",
        latency="50%",
        out=tmp_path / "run",
        criterion="l2",
        epochs=3,
        tune=2,
        densities=[25, 50],
        sampled=False,
        **board,
    )
    assert result.met
    taken = result.plan.in_blocks
    assert taken
    _, network = load_run(tmp_path / "run", factory=f"{NET}:net")
    weights = dict(network.module.named_parameters())
    manifest = read_manifest(tmp_path / "run" / "bundle")
    stored = {k.node: k.spec["attrs"].get("density") for k in manifest.kernels}
    for name, density in taken.items():
        units = -(-len(weights[name]) // BLOCK) * weights[name].shape[1]
        assert blocks_left(weights[name]) == stored_blocks(units, density), "training filled nothing"
        assert stored[name.removesuffix(".weight")] == density
    assert manifest.provenance["densities"] == taken
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["plan"]["densities"] == dict(result.plan.densities)
    assert 0 < report["plan"]["sparsity"]["parameter"] < 1
    assert "Blocks of weights that stay" in (tmp_path / "run" / "report.html").read_text()
    # The run is one of the network whose problem it answers.
    marks = marks_of([tmp_path / "run"], load_problem(tmp_path / "run" / "problem.json")[0])
    assert [m.name for m in marks] == ["dense", "pruned"]


def test_least_squares_make_up_for_blocks_and_fill_none(board, mixed, tmp_path):
    """Without labels: outputs are nearer to the dense network's than those of the same plan, just cut."""
    cut, _, _ = mixed
    found = pruned(board, tmp_path / "run", data=f"{NET}:data", recover="reconstruct")
    assert found.plan.keep == cut.plan.keep
    assert found.plan.in_blocks == cut.plan.in_blocks
    weights = dict(found.module.named_parameters())
    for name, density in found.plan.in_blocks.items():
        units = -(-len(weights[name]) // BLOCK) * weights[name].shape[1]
        assert blocks_left(weights[name]) == stored_blocks(units, density)
    x = block_net.data()["x_test"]
    with torch.no_grad():
        wanted, before, after = (m(x) for m in (block_net.net(), cut.module, found.module))
    assert (after - wanted).square().mean() < 0.5 * (before - wanted).square().mean()


def test_a_sampled_profile_times_some_in_their_places_and_estimates_others(network, tmp_path):
    asked = {"device": f"fake:{tmp_path / 'board'}", "store": tmp_path / "store.sqlite3", "points": 3, "step": 16}
    edgeprune.profile(f"{NET}:net", input_shape=SHAPE, tune=2, densities=OFFERED, sampled=True, **asked)
    with ProfileStore(tmp_path / "store.sqlite3") as store:
        (profile,) = store.profiles()
        placed = {p.spec for n in profile.networks() for p in n.placed}
        model = estimated_of(profile, load_target("host"), [n.spec for n in network.kernels.nodes])
    assert {s.density for s in placed} == {None, *OFFERED}
    draw = np.random.default_rng(5)
    for _ in range(6):
        widths = {g.name: g.size if g.frozen else int(draw.integers(8, g.size + 1)) for g in network.channels.groups}
        densities = {name: int(draw.choice((*OFFERED, WHOLE))) for name in layers_for_blocks(network.kernels)}
        specs = [n.spec for n in in_blocks(at_widths(network.kernels, widths), densities).nodes]
        took = 1e-6 * sum(virtual_cost_ns(s) for s in specs)
        assert model.network(specs).latency_ms == pytest.approx(took, rel=0.05)


def test_a_plan_with_densities_is_written_and_composed():
    first = Plan({"a": (0, 2)}, {"a": 3}, {}, {}, {}, {"w": 50, "v": 100})
    assert Plan.from_json(json.loads(json.dumps(first.to_json()))) == first
    assert first.in_blocks == {"w": 50}
    assert first.level("a") == 2
    assert first.level("w") == 50
    then = first.then(Plan({"a": (1,)}, {"a": 2}, {}, {}, {}, {"w": 25}))
    assert dict(then.keep) == {"a": (2,)}
    assert then.densities == {"w": 25, "v": 100}
    assert "densities" not in Plan({}, {"a": 3}, {}, {}, {}).to_json(), "as earlier versions wrote it"
    for wrong in ({"w": -1}, {"w": 101}, {"w": "50"}, [50]):
        with pytest.raises(PlanError, match="densities"):
            Plan.from_json({**first.to_json(), "densities": wrong})


def test_what_makes_no_sense_is_refused(board, tmp_path):
    assert parse_densities("50, 25,50") == OFFERED
    assert parse_densities(None) == ()
    for wrong in ("0", "100", "half", "25,", [True], [0.5], "-5"):
        with pytest.raises(UsageError, match="from 1 to 99"):
            parse_densities(wrong)
    with pytest.raises(UsageError, match="store all weights"):
        check_densities(OFFERED, load_target("jetson_nano"))
    with pytest.raises(UsageError, match="store all weights"):
        edgeprune.profile(f"{NET}:net", input_shape=SHAPE, target="jetson_nano", densities="50", store=tmp_path / "s")
    with pytest.raises(ProfileError, match="density of 10 %") as refused:
        pruned(board, tmp_path / "run", densities="10")
    assert "--densities 10" in refused.value.hint
    assert not (tmp_path / "run").exists()
