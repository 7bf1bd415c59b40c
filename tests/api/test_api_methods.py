"""Criteria with options, rules and recoveries, as calls take them, on a fake board."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import edgeprune
from edgeprune.api.frontiers import frontier_of
from edgeprune.errors import UsageError
from edgeprune.training.evaluate import accuracy, predict

SHAPE = (1, 3, 8, 8)

# One worker runs them all: what they share takes seconds to make.
pytestmark = pytest.mark.xdist_group("api")


@pytest.fixture
def common(source, few, board) -> dict:
    edgeprune.profile(source, input_shape=SHAPE, device=board, **few)
    return {"input_shape": SHAPE, "device": board, **few}


def test_every_method_is_listed_with_its_options():
    rows = edgeprune.list_methods()
    kinds = {row.kind for row in rows}
    assert kinds == {"criterion", "rule", "sparsity", "recovery"}
    assert all(row.about and row.source for row in rows)
    by_name = {(row.kind, row.name): row for row in rows}
    assert by_name["criterion", "activation"].options == {"statistic": "mean_abs", "combine": "mean"}
    assert by_name["criterion", "activation"].data
    assert not by_name["criterion", "l2"].data
    assert by_name["rule", "threshold"].options == {"value": None}
    assert by_name["recovery", "reconstruct"].options == {"samples": 256}
    assert by_name["sparsity", "n_m"].options == {"n": 2, "m": 4, "by": "magnitude", "ramp": 0.6}
    assert by_name["sparsity", "l1"].data
    assert not by_name["sparsity", "n_m"].data
    assert by_name["rule", "dynamic"].data


def test_the_page_has_every_method():
    text = (Path(__file__).parents[2] / "docs" / "METHODS.md").read_text(encoding="utf-8")
    missing = [row.name for row in edgeprune.list_methods() if f"`{row.name}" not in text]
    assert not missing


def test_a_rule_is_enough_and_says_what_stays(source, common, tmp_path):
    pruned = edgeprune.prune(source, rule="ratio:remove=0.25", out=tmp_path / "run", **common)
    sizes = pruned.plan.sizes
    kept = {name: pruned.plan.width(name) for name in pruned.plan.keep}
    assert kept == {name: sizes[name] - round(sizes[name] / 4) for name in kept}
    assert kept
    assert pruned.plan.method["rule"] == "ratio:remove=0.25"
    explained = edgeprune.explain(tmp_path / "run")
    assert {g.name: g.width for g in explained.explanation.groups} == kept
    name = next(iter(kept))
    assert edgeprune.explain(tmp_path / "run", group=name, channel=0).channel.size == sizes[name]


def test_a_budget_takes_what_a_rule_leaves(source, common, tmp_path):
    ruled = edgeprune.prune(source, rule="ratio:remove=0.25", out=tmp_path / "ruled", **common)
    both = edgeprune.prune(source, rule="ratio:remove=0.25", latency="40%", out=tmp_path / "both", **common)
    alone = edgeprune.prune(source, latency="40%", out=tmp_path / "alone", **common)
    assert both.latency_ms <= 0.4 * both.dense_ms * (1 + 1e-9)
    assert all(both.plan.width(g) <= ruled.plan.width(g) for g in both.plan.sizes)
    assert both.plan.predicted["saliency_retained"] <= alone.plan.predicted["saliency_retained"] + 1e-9


def test_a_rule_that_leaves_no_choice_still_holds(source, common, tmp_path):
    """One channel of each group: narrower than every level."""
    pruned = edgeprune.prune(source, rule="threshold:value=1e9", out=tmp_path / "run", **common)
    assert {pruned.plan.width(name) for name in pruned.plan.keep} == {1}
    assert pruned.module(torch.zeros(SHAPE)).shape == (1, 4)


def test_recovery_without_training_brings_outputs_back(source, net, arrays, common, tmp_path):
    def off(pruned) -> float:
        dense, small = (predict(m, arrays["x_test"]) for m in (net, pruned.module))
        return float((dense - small).square().mean())

    shared = {"latency": "60%", "data": arrays, **common}
    bare = edgeprune.prune(source, out=tmp_path / "bare", **shared)
    solved = edgeprune.prune(source, recover="reconstruct", out=tmp_path / "solved", **shared)
    assert bare.plan.keep == solved.plan.keep
    assert bare.recovered == {}
    assert off(solved) < 0.5 * off(bare)
    layers = solved.recovered["reconstructed"]
    assert all(layer["after"] <= layer["before"] for layer in layers)
    assert f"of {len(layers)}" in str(solved)
    again = edgeprune.load_run(tmp_path / "solved", model=edgeprune.load_model(source, input_shape=SHAPE))
    assert all(map(torch.equal, again.module.state_dict().values(), solved.module.state_dict().values()))


def test_weights_are_0_at_once_without_data(source, common, tmp_path):
    pruned = edgeprune.prune(source, latency="60%", sparsity="weight:remove=0.75", out=tmp_path / "run", **common)
    weights = [p for p in pruned.module.parameters() if p.dim() > 1]
    zeros = sum(int((p == 0).sum()) for p in weights)
    assert pruned.recovered == {"sparsity": {"zeros": zeros, "weights": sum(p.numel() for p in weights)}}
    assert zeros == pytest.approx(0.75 * sum(p.numel() for p in weights), rel=0.01)
    edgeprune.compile(tmp_path / "run", out=tmp_path / "bundle", factory=source, store=common["store"])
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    with edgeprune.load_bundle(tmp_path / "bundle") as program:
        (found,) = program(x.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(found, pruned.module.eval()(x).numpy(), rtol=1e-4, atol=1e-5)


def test_a_threshold_is_judged_on_data(source, net, arrays, common, tmp_path):
    shared = {"data": arrays, "out": tmp_path / "run", **common}
    cautious = edgeprune.prune(source, rule="dynamic:drop=0", **shared)
    assert cautious.plan.keep
    images, labels = arrays["x_train"], arrays["y_train"]
    assert accuracy(cautious.module, images, labels) >= accuracy(net, images, labels)
    bold = edgeprune.prune(source, rule="dynamic:drop=1", **shared)
    assert {bold.plan.width(g) for g in bold.plan.keep} == {1}
    with pytest.raises(UsageError, match="rule 'dynamic' needs data"):
        edgeprune.prune(source, rule="dynamic", out=tmp_path / "none", **common)


def test_what_is_gone_is_counted(source, net, common, tmp_path):
    pruned = edgeprune.prune(source, latency="60%", out=tmp_path / "run", **common)
    found = pruned.sparsity
    assert found.weights == sum(p.numel() for p in net.parameters())
    assert found.weights_left == sum(p.numel() for p in pruned.module.parameters())
    assert 0 < found.weighted < 1
    assert pruned.to_json()["sparsity"]["shares"]["structural"] == found.structural


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"criterion": "l3"}, "no criterion 'l3'"),
        ({"criterion": "l2:combine=none"}, "combine of criterion 'l2' cannot be 'none'"),
        ({"rule": "half"}, "no rule 'half'"),
        ({"rule": "ratio:share=1"}, "rule 'ratio' does not take 'share=1'"),
        ({"sparsity": "half"}, "no sparsity 'half'"),
        ({"sparsity": "n_m:n=9"}, "no 9 of 4 weights"),
        ({"recover": "heal"}, "no recovery 'heal'"),
        ({"recover": "recalibrate+recalibrate"}, "named twice"),
        ({"recover": "reconstruct:samples=0"}, "cannot be re-solved on 0 samples"),
    ],
)
@pytest.mark.parametrize("call", [edgeprune.prune, edgeprune.fit])
def test_what_there_is_not_is_refused_before_anything_is_done(call, asked, says, source, arrays, board, tmp_path):
    with pytest.raises(UsageError, match=says):
        call(source, input_shape=SHAPE, latency="60%", data=arrays, device=board, out=tmp_path / "run", **asked)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "board").exists()


def test_prune_trains_nothing_and_recovers_nothing_without_data(source, arrays, tmp_path):
    shared = {"input_shape": SHAPE, "latency": "60%", "out": tmp_path / "run"}
    with pytest.raises(UsageError, match="prune trains nothing"):
        edgeprune.prune(source, recover="recalibrate+finetune", data=arrays, **shared)
    with pytest.raises(UsageError, match="needs data"):
        edgeprune.prune(source, recover="recalibrate", **shared)
    with pytest.raises(UsageError, match="learned in a training"):
        edgeprune.prune(source, sparsity="group_lasso", data=arrays, **shared)


def test_a_fit_recovers_as_it_is_told(source, arrays, few, board, tmp_path):
    """By its own chain, and the run says so."""
    shared = {"input_shape": SHAPE, "latency": "60%", "data": arrays, "device": board, "baseline": False, **few}
    solved = edgeprune.fit(source, recover="reconstruct", criterion="l2", out=tmp_path / "a", **shared)
    bare = edgeprune.fit(source, recover="none", criterion="l2", out=tmp_path / "b", **shared)
    assert solved.met
    assert solved.plan.keep == bare.plan.keep
    assert [*solved.result.history["pruned"]] == ["reconstructed"]
    assert bare.result.history["pruned"] == {}
    ruled = edgeprune.fit(
        source, rule="ratio:remove=0.25", recover="recalibrate", criterion="l2", out=tmp_path / "c",
        **{k: v for k, v in shared.items() if k != "latency"},
    )  # fmt: skip
    assert ruled.met
    curve = frontier_of(tmp_path / "c" / "problem.json", count=3, runs=[tmp_path / "c"])
    assert [m.name for m in curve.marks] == ["dense", "pruned"]
    assert all(len(kept) == ruled.plan.sizes[g] * 3 // 4 for g, kept in ruled.plan.keep.items())
