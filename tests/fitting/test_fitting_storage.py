"""Networks with zeros among their weights: what plans, fits and reports say of programs that leave these out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import edgeprune
from edgeprune.budget.promise import Limit, Promise
from edgeprune.compiler.compile import compile_network, weights_of
from edgeprune.compiler.manifest import Manifest, read_manifest
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.compiler.storage import share_of_zeros
from edgeprune.devices.fake import FakeDevice
from edgeprune.fitting.fit import fit
from edgeprune.fitting.options import FitOptions
from edgeprune.fitting.planned_ram import PlannedRam
from edgeprune.fitting.planned_storage import PlannedStorage
from edgeprune.fitting.planner import shrunk
from edgeprune.graph.network import Network, read_network
from edgeprune.models.loading import LoadedModel
from edgeprune.profiling.profile import ProfileOptions
from edgeprune.pruning.plan import Plan, make_plan
from edgeprune.report.from_fit import report_of
from edgeprune.report.schema import read_report
from edgeprune.report.tables import compressed_line, compressed_table
from edgeprune.report.write import write_report
from edgeprune.targets import load_target

pytestmark = pytest.mark.xdist_group("stored plans")

HOST = load_target("host")
OPTIONS = FitOptions(criterion="l2", baseline=False, profile=ProfileOptions(points=3, step=8, tune=1), epochs=0)


def thinned(module: nn.Module, share: float) -> nn.Module:
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim > 1:
                p.mul_(p.abs() > p.abs().flatten().quantile(share))
    return module.eval()


def whole_module() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 24, 3, 2), nn.ReLU(), nn.Conv2d(24, 48, 3), nn.ReLU(), nn.Conv2d(48, 32, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)).eval()


@pytest.fixture(scope="module")
def network() -> Network:
    return read_network(thinned(whole_module(), 0.8), (torch.randn(1, 3, 20, 20),))


def halved(network: Network) -> Plan:
    scores = {g.name: np.arange(g.size, dtype=float) for g in network.channels.groups}
    return make_plan(network.channels, {g.name: g.size // 2 + 1 for g in network.channels.prunable}, scores)


def compiled(network: Network, out: Path, storage: str) -> Manifest:
    return compile_network(network, HOST, out, weight_storage=storage)


@pytest.mark.parametrize("storage", ["auto", "compressed", "dense"])
def test_plans_say_what_their_programs_allocate(storage: str, network: Network, tmp_path: Path) -> None:
    book, plan = ScheduleBook(HOST), halved(network)
    planned = PlannedStorage(network, book, storage, ram_limited=False)
    assert planned.dense is (storage == "dense")
    ram = PlannedRam(network, book, limited=False, storage=planned)
    whole, small = compiled(network, tmp_path / "a", storage), compiled(shrunk(network, plan), tmp_path / "b", storage)
    assert ram.dense_bytes == whole.memory.peak_ram
    assert ram.of(plan) == small.memory.peak_ram
    assert planned.stored_share == pytest.approx(whole.stored_share)
    decoded = 0 if whole.compressed is None else whole.compressed.decoded
    assert planned.decoded_share * whole.memory.weights / whole.stored_share == pytest.approx(decoded)


def test_a_limit_of_ram_keeps_weights_dense_unless_they_are_asked_for(network: Network) -> None:
    book = ScheduleBook(HOST)
    auto, asked = (PlannedStorage(network, book, s, ram_limited=True) for s in ("auto", "compressed"))
    assert (auto.dense, auto.stored_share, auto.decoded_bytes(network)) == (True, 1.0, 0)
    assert not asked.dense
    without = PlannedRam(network, book, limited=True, storage=auto)
    assert without.dense_bytes == without.memory.at({}).ram
    held = PlannedRam(network, book, limited=True, storage=asked)
    assert held.dense_bytes == without.dense_bytes + asked.decoded_bytes(network)
    # What a solver sees of the dense network: each call's share of what is decoded.
    specs = [n.spec for n in network.kernels.nodes]
    rows = [sum(r.memory.held_bytes(i, s) for i, s in enumerate(specs)) for r in (held, without)]
    assert rows[0] - rows[1] == pytest.approx(asked.decoded_bytes(network))


def test_a_gpu_holds_all_weights_anyway(network: Network) -> None:
    planned = PlannedStorage(network, ScheduleBook(load_target("jetson_orin_nano")), ram_limited=True)
    assert planned.stored_share < 0.5
    assert planned.decoded_bytes(network) == 0


@pytest.mark.parametrize("sparsity", ["weight:remove=0.8", "block:remove=0.8", "n_m:n=1,m=4"])
def test_a_limit_of_flash_counts_weights_as_they_will_be(sparsity: str, tmp_path: Path) -> None:
    where = {"device": f"fake:{tmp_path / 'board'}", "store": tmp_path / "store.sqlite3"}
    asked = {"example_inputs": (1, 3, 20, 20), "points": 4, "step": 8, **where}
    edgeprune.profile(whole_module(), tune=1, sampled=False, **asked)
    dense = edgeprune.compile(whole_module(), example_inputs=(1, 3, 20, 20), out=tmp_path / "dense", **where)
    limit = dense.manifest.memory.flash - 40_000
    channels = edgeprune.prune(whole_module(), flash=limit, out=tmp_path / "channels", **asked)
    found = edgeprune.prune(whole_module(), flash=limit, out=tmp_path / "sparse", sparsity=sparsity, **asked)
    assert channels.plan.keep, "dense weights do not fit"
    assert not found.plan.keep, "as they will be, they do"
    assert found.sparsity.parameter > 0.6
    made = edgeprune.compile(found, out=tmp_path / "bundle", **where).manifest
    assert made.compressed is not None
    assert made.memory.flash <= limit
    assert made.memory.flash == pytest.approx(found.flash_bytes, rel=0.03)
    assert made.memory.peak_ram == found.ram_bytes


@pytest.fixture
def sparse(model: LoadedModel) -> LoadedModel:
    return replace(model, module=thinned(model.module, 0.8))


@pytest.fixture
def device(tmp_path: Path) -> FakeDevice:
    return FakeDevice(tmp_path / "board")


def test_a_fit_of_a_sparse_network(sparse, target, store, device, tmp_path):
    """Without training the zeros stay, so the installed program has them left out, and the limits are of such files."""
    options = replace(OPTIONS, weight_storage="compressed")
    result = fit(sparse, target, device, store, tmp_path / "run", Promise(flash=Limit(0.9, True)), options=options)
    manifest, dense = read_manifest(tmp_path / "run" / "bundle"), result.dense.manifest
    assert result.met
    assert dense.compressed is not None
    assert manifest.compressed is not None
    assert manifest.memory.flash <= 0.9 * dense.memory.flash
    assert share_of_zeros(weights_of(result.pruned.network)) > 0.5
    assert result.plan.predicted["ram_bytes"] == manifest.memory.peak_ram
    assert result.rounds[0].proposal.flash_bytes == pytest.approx(result.rounds[0].measured.flash_bytes, rel=0.1)
    report = report_of(result)
    path, page = write_report(report, tmp_path / "report")
    lines = [compressed_line(v) for v in read_report(path).variants]
    assert [line.split(":")[0] for line in lines] == ["dense", "pruned"]
    assert f"{len(manifest.compressed.constants)} constants without their zeros" in lines[1]
    assert [row[0] for row in compressed_table(report).rows] == lines
    assert all(line in page.read_text() for line in lines)


def test_a_fit_below_a_limit_of_ram(sparse, target, store, device, tmp_path):
    result = fit(sparse, target, device, store, tmp_path / "run", Promise(ram=Limit(0.9, True)), options=OPTIONS)
    manifest = read_manifest(tmp_path / "run" / "bundle")
    assert result.met
    assert manifest.compressed is None
    assert result.plan.predicted["ram_bytes"] == manifest.memory.peak_ram
    assert compressed_table(report_of(result)).rows == ()


def test_a_pruned_network_compiles_to_what_was_predicted(network, target, store, device, tmp_path):
    asked = {"target": target, "device": device, "store": store.path, "points": 2, "step": 8, "tune": 1}
    model = LoadedModel(network.module, network.example_inputs, "net", "net", network.interface)
    edgeprune.profile(model, **asked)
    taken = {"target": target, "device": device, "store": store.path}
    free = edgeprune.prune(model, flash="80%", criterion="l2", out=tmp_path / "free", **asked)
    bundle = edgeprune.compile(free, out=tmp_path / "a", **taken)
    assert bundle.manifest.compressed is not None
    assert bundle.manifest.memory.peak_ram == free.ram_bytes
    assert bundle.manifest.memory.flash == pytest.approx(free.flash_bytes, rel=0.1)
    tight = edgeprune.prune(model, ram="80%", criterion="l2", out=tmp_path / "tight", **asked)
    bundle = edgeprune.compile(tight, out=tmp_path / "b", **taken)
    assert bundle.manifest.compressed is None, "its limit was one of RAM"
    assert bundle.manifest.memory.peak_ram == tight.ram_bytes
