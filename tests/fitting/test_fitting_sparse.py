"""Sparsity and passes in a whole fit, on a fake board: what was learned, what is 0, and that it stays so."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace

import pytest
import torch

from edgeprune.budget.problem import Budget
from edgeprune.budget.promise import Limit, Promise
from edgeprune.devices.fake import FakeDevice
from edgeprune.errors import InfeasibleBudgetError, UsageError
from edgeprune.fitting.fit import fit
from edgeprune.fitting.options import FitOptions
from edgeprune.fitting.passes import between, widened
from edgeprune.fitting.run_folder import load_run
from edgeprune.graph.network import read_network
from edgeprune.importance.single_weights import weight_signals
from edgeprune.profiling.profile import ProfileOptions
from edgeprune.pruning.widths import load_pruned
from edgeprune.training.sparse.sparsity import weights_of, zeros_in
from edgeprune.training.tasks.classification import classification

OPTIONS = FitOptions(
    epochs=4,
    lr=0.05,
    batch_size=32,
    distil_weight=0.0,
    profile=ProfileOptions(points=3, step=8),
    baseline=False,
    criterion="l2",
    sparsity="group_lasso:target=0.25+weight:remove=0.6",
    passes=3,
    schedule="linear",
)
BUDGET = Promise(Limit(0.4, relative=True))

pytestmark = pytest.mark.xdist_group("chain")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, record, target, data, store):
    """A fit with learned channels, three passes and sparse weights: (result, run folder)."""
    folder = tmp_path_factory.mktemp("sparse")
    device = FakeDevice(folder / "board")
    result = fit(
        record.load(), target, device, store, folder / "run", BUDGET, data=data, options=OPTIONS, record=record
    )
    return result, folder / "run"


def test_all_of_it_in_one_fit(fitted, record):
    result, run = fitted
    assert result.met
    assert {"learned", "pass 1", "pass 2", "pruned"} <= result.history.keys()
    # The network of the run, read back: sparse in its weights, and of the widths of all passes together.
    _, network = load_run(run, factory=record.model)
    zeros, weights = zeros_in(network.module)
    assert zeros / weights == pytest.approx(0.6, abs=0.01)
    assert result.history["pruned"]["sparsity"] == {"zeros": zeros, "weights": weights}
    for group in network.channels.groups:
        assert group.size == result.plan.width(group.name)
    assert result.pruned.accuracy > 0.9  # of its program; a guess has a quarter


def test_passes_come_down_to_the_budget(fitted):
    _, run = fitted
    widths = []
    for name in ("pass-1", "pass-2"):
        plan = json.loads((run / "stages" / name / "widths.json").read_text())["plan"]
        widths.append({g: len(plan["keep"].get(g, range(n))) for g, n in plan["sizes"].items()})
    last = json.loads((run / "widths.json").read_text())["plan"]
    widths.append({g: len(last["keep"].get(g, range(n))) for g, n in last["sizes"].items()})
    for wider, narrower in itertools.pairwise(widths):
        assert all(narrower[g] <= wider[g] for g in wider)
    assert sum(widths[0].values()) > sum(widths[-1].values())
    # A channel that went in one pass is gone in those after it.
    first = json.loads((run / "stages" / "pass-1" / "widths.json").read_text())["plan"]["keep"]
    assert all(set(last["keep"][g]) <= set(kept) for g, kept in first.items())


def test_channels_that_were_learned_to_be_nothing_go_first(fitted, record):
    _, run = fitted
    dense = read_network(record.load().module, record.load().example_inputs)
    module = load_pruned(dense.module, dense.channels, run / "stages" / "learned")
    tensors = dict(module.named_parameters())
    shut = {}
    for group in dense.channels.prunable:
        alive = torch.zeros(group.size, dtype=torch.bool)
        for m in group.members:
            if m.role == "out" and m.param in tensors:
                rows = tensors[m.param].detach().movedim(m.dim, 0)[m.start : m.start + group.size * m.repeat]
                alive |= (rows.reshape(group.size, -1) != 0).any(1)
        shut[group.name] = set((~alive).nonzero().flatten().tolist())
    count = sum(map(len, shut.values()))
    assert count / sum(g.size for g in dense.channels.prunable) == pytest.approx(0.25, abs=0.05)
    kept = json.loads((run / "stages" / "pass-1" / "widths.json").read_text())["plan"]["keep"]
    for group, dead in shut.items():
        gone = set(range(dense.channels[group].size)) - set(kept.get(group, range(dense.channels[group].size)))
        assert gone <= dead or dead <= gone


def test_a_run_goes_on_after_each_of_its_stages(fitted, record, target, data, store, tmp_path):
    result, run = fitted
    again = tmp_path / "run"
    shutil.copytree(run, again)
    finished = ["request", "profile", "dense", "scores", "learned", "pass-1", "pass-2"]
    for file in (again / "stages").glob("*.json"):
        if file.stem not in finished:
            file.unlink()
    resumed = fit(
        record.load(),
        target,
        FakeDevice(tmp_path / "board"),
        store,
        again,
        BUDGET,
        data=data,
        options=OPTIONS,
        record=record,
        resume=True,
    )
    assert resumed.plan.keep == result.plan.keep
    assert (again / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_a_rule_is_approached_in_passes_too(record, target, data, store, tmp_path):
    options = replace(OPTIONS, sparsity="", passes=2, rule="ratio:remove=0.5", epochs=0, margin=0.0)
    whole = Promise(Limit(1.0, relative=True))
    result = fit(
        record.load(), target, FakeDevice(tmp_path / "b"), store, tmp_path / "run", whole, data=data, options=options
    )
    assert {
        g: result.plan.width(g) / n for g, n in result.plan.sizes.items() if g in result.plan.keep
    } == dict.fromkeys(result.plan.keep, 0.5)
    first = json.loads((tmp_path / "run" / "stages" / "pass-1" / "widths.json").read_text())["plan"]
    assert all(0.5 < len(kept) / first["sizes"][g] < 1 for g, kept in first["keep"].items())


def test_blocks_go_in_the_last_pass(record, target, store, tmp_path):
    options = replace(
        OPTIONS,
        sparsity="",
        passes=2,
        criterion="l2",
        epochs=0,
        profile=replace(OPTIONS.profile, blocks=True),
    )
    tight = Promise(Limit(0.25, relative=True))
    result = fit(record.load(), target, FakeDevice(tmp_path / "b"), store, tmp_path / "run", tight, options=options)
    first = json.loads((tmp_path / "run" / "stages" / "pass-1" / "widths.json").read_text())["plan"]
    assert all(first["keep"].values())
    assert result.plan.empty


def test_sparse_weights_without_data(record, target, store, tmp_path):
    options = replace(OPTIONS, sparsity="n_m:n=1,m=2", passes=2, criterion="l2", epochs=0)
    result = fit(
        record.load(),
        target,
        FakeDevice(tmp_path / "b"),
        store,
        tmp_path / "run",
        BUDGET,
        options=options,
        record=record,
    )
    assert result.met
    module = load_run(tmp_path / "run", factory=record.model)[1].module
    for name, w in weights_of(module).items():
        if w.shape[1] > 1:
            pairs = w.detach()[:, : w.shape[1] // 2 * 2].movedim(1, -1)
            assert ((pairs.reshape(*pairs.shape[:-1], -1, 2) != 0).sum(-1) == 1).all(), name


def test_out_of_reach_is_said_before_a_pass_is_trained(record, target, data, store, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(InfeasibleBudgetError):
        fit(
            record.load(),
            target,
            FakeDevice(tmp_path / "b"),
            store,
            out,
            Promise(Limit(1e-4)),
            data=data,
            options=replace(OPTIONS, sparsity="", passes=3, schedule="once"),
        )
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "data_there"),
    [
        ({"sparsity": "l1"}, False),
        ({"sparsity": "l0", "epochs": 0}, True),
        ({"sparsity": "group_lasso", "recover": "reconstruct"}, True),
        ({"sparsity": "weight:by=taylor"}, False),
        ({"sparsity": "weight:by=activation"}, True),
        ({"sparsity": "weight:by=nothing"}, True),
        ({"sparsity": "half"}, True),
        ({"passes": 0}, True),
        ({"schedule": "sudden"}, True),
    ],
)
def test_what_does_not_go_together(changes, data_there):
    options = replace(FitOptions(criterion="l2"), **changes)
    with pytest.raises(UsageError):
        options.check(has_data=data_there)


def test_a_trainer_that_knows_no_sparsity_is_refused(record, target, data, store, tmp_path):
    task = replace(classification(), finetune=lambda *given, **more: None)
    with pytest.raises(UsageError, match="trainer of its own"):
        fit(
            record.load(),
            target,
            FakeDevice(tmp_path / "b"),
            store,
            tmp_path / "run",
            BUDGET,
            data=data,
            task=task,
            options=OPTIONS,
        )
    assert not (tmp_path / "run").exists()


def test_limits_of_a_pass():
    dense, limits = Budget(10.0, 1000.0), Budget(4.0, 2000.0)
    halfway = between(dense, limits, "linear", 0.5)
    assert halfway.latency_ms == pytest.approx(7)
    assert halfway.flash_bytes == 2000  # the dense network keeps it already
    assert halfway.ram_bytes is None
    assert between(dense, limits, "geometric", 0.5).latency_ms == pytest.approx(40**0.5)
    assert widened({"a": 4}, {"a": 16, "b": 8}, "linear", 0.5) == {"a": 10}
    assert widened({"a": 4}, {"a": 16}, "cubic", 1.0) == {"a": 4}


def test_signals_of_single_weights_are_the_criterions_own(record):
    model = record.load()
    network = read_network(model.module, model.example_inputs)
    wanted = weights_of(network.module)
    for name, values in weight_signals(network, "l2", wanted).items():
        torch.testing.assert_close(values, wanted[name].detach().abs().double())
    batches = [(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])) for _ in range(2)]
    found = weight_signals(network, "taylor", wanted, batches)
    expected = {n: torch.zeros(w.shape, dtype=torch.double) for n, w in wanted.items()}
    network.module.eval()
    for x, y in batches:
        network.module.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(network.module(x), y))
        for n, w in wanted.items():
            assert w.grad is not None
            expected[n] += (w.detach() * w.grad).abs().double() / 2
    for n in wanted:
        torch.testing.assert_close(found[n], expected[n], rtol=1e-4, atol=1e-7)
