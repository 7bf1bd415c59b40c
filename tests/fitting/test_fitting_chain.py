"""The whole chain on a fake board: real training, real programs, a virtual clock."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edgeprune.budget.promise import Limit, Promise
from edgeprune.compiler.compile import compile_network
from edgeprune.compiler.cost import virtual_cost_ns
from edgeprune.compiler.manifest import read_manifest
from edgeprune.deploy.flash import flash
from edgeprune.deploy.installed import installed
from edgeprune.deploy.status import status
from edgeprune.deploy.trials import on_trial
from edgeprune.devices.fake import FakeDevice, FakeFaults
from edgeprune.devices.protocol import Completed, DeviceInfo
from edgeprune.errors import (
    BadInputError,
    DeviceError,
    InfeasibleBudgetError,
    ModelLoadError,
    RolledBackError,
    UsageError,
    VerificationError,
)
from edgeprune.fitting import robust
from edgeprune.fitting.baseline import SLACK
from edgeprune.fitting.fit import fit
from edgeprune.fitting.options import FitOptions
from edgeprune.fitting.result import correction
from edgeprune.fitting.run_folder import load_run
from edgeprune.fitting.stages import Stages
from edgeprune.fitting.tabled import MOST
from edgeprune.profiling.profile import ProfileOptions
from edgeprune.report.from_fit import report_of
from edgeprune.report.schema import read_report
from edgeprune.report.write import write_report
from edgeprune.training.data import DataSet
from edgeprune.training.evaluate import accuracy
from edgeprune.training.halves import spread
from edgeprune.training.robustness import STRENGTHS
from edgeprune.training.tasks.task import Task, mean_metric

OPTIONS = FitOptions(
    epochs=5, lr=0.1, batch_size=32, distil_weight=0.0, profile=ProfileOptions(points=3, step=8), baseline=False
)
PLAIN = replace(OPTIONS, criterion="l2")
BUDGET = Promise(Limit(0.6, relative=True))

# One worker runs them all: what they share takes seconds to make.
pytestmark = pytest.mark.xdist_group("chain")


@pytest.fixture
def device(tmp_path):
    return FakeDevice(tmp_path / "board")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, record, target, data, store):
    """A fit with all there is: (result, run folder, device)."""
    folder = tmp_path_factory.mktemp("fitted")
    device = FakeDevice(folder / "board")
    result = fit(
        record.load(),
        target,
        device,
        store,
        folder / "run",
        BUDGET,
        data=data,
        options=replace(OPTIONS, baseline=True),
        record=record,
    )
    return result, folder / "run", device


def network_ms(network) -> float:
    return sum(virtual_cost_ns(n.spec) for n in network.kernels.nodes) / 1e6


# -- what comes out ---------------------------------------------------------------------------------


def test_the_installed_network_keeps_the_budget_and_was_measured_to(fitted):
    result, _, device = fitted
    assert result.met
    assert result.budget.latency_ms == pytest.approx(0.6 * network_ms(result.dense.network), rel=1e-12)
    assert result.pruned.latency_ms == network_ms(result.pruned.network) <= result.budget.latency_ms
    assert result.pruned.latency_ms > 0.5 * result.budget.latency_ms, "and does not give all away"
    assert status(device).current == result.deployment.release == result.pruned.manifest.release_id
    assert result.plan.keep
    assert (result.evidence, result.dense.timing.evidence) == ("simulated", "simulated")


def test_the_model_predicts_what_is_measured(fitted):
    result, _, _ = fitted
    total = sum(result.predicted_kernels_ms.values())
    assert total == pytest.approx(result.pruned.latency_ms, rel=1e-6)
    assert result.predicted_kernels_ms == pytest.approx(dict(result.pruned.kernels_ms), rel=1e-6)
    assert result.plan.predicted["latency_ms"] == pytest.approx(result.pruned.latency_ms, rel=1e-6)


def test_the_report_has_tables_of_the_heaviest_kernels(fitted):
    result, _, _ = fitted
    nodes = {n.name: n for n in result.dense.network.kernels.nodes}
    report = report_of(result)
    assert 0 < len(report.tables) <= MOST
    assert [t.node for t in report.tables] == list(result.tables)
    for table in report.tables:
        spec = nodes[table.node].spec
        for row, into in enumerate(table.in_):
            for column, out in enumerate(table.out):
                cost = virtual_cost_ns(spec.with_widths(**{"in": into, "out": out})) / 1e6
                if (row, column) in table.timed:
                    assert table.latency_ms[row][column] == pytest.approx(cost, rel=1e-6)
        assert (len(table.in_) - 1, len(table.out) - 1) in table.timed, "that of the dense network is among them"


def test_rounds_tell_what_was_tried(fitted):
    result, _, _ = fitted
    assert [r.number for r in result.rounds] == list(range(1, len(result.rounds) + 1))
    assert 1 <= len(result.rounds) <= OPTIONS.rounds
    assert result.rounds[0].judged.kept
    assert all(correction(r) == pytest.approx(1, rel=1e-6) for r in result.rounds)


def test_accuracy_is_that_of_the_program_and_training_won_it(fitted, data):
    result, _, device = fitted
    images, labels = data.test
    for variant in (result.dense, result.pruned, result.uniform):
        assert variant.accuracy == accuracy(variant.network.module, images, labels)
    assert result.pruned.accuracy > 0.8 > result.dense.accuracy, "the dense net was never trained"
    (raw,) = installed(device).run([images.numpy().tobytes()], len(images))
    with torch.no_grad():
        expected = result.pruned.network.module(images).numpy()
    np.testing.assert_allclose(np.frombuffer(raw, np.float32).reshape(expected.shape), expected, rtol=1e-3, atol=1e-4)


def test_the_uniform_baseline_is_no_slower_and_one_ratio(fitted):
    result, _, _ = fitted
    assert result.uniform.latency_ms <= result.pruned.latency_ms <= result.budget.latency_ms
    assert result.history.keys() == {"pruned", "uniform"}
    assert all(len(h["loss"]) == OPTIONS.epochs for h in result.history.values())


def test_the_model_that_was_given_is_untouched(fitted, record):
    given, fresh = fitted[0].dense.network.module.state_dict(), record.load().module.state_dict()
    assert all(torch.equal(given[name], fresh[name]) for name in fresh)


def test_the_run_folder_builds_the_same_network_again(fitted, target, data, device, record, tmp_path):
    result, folder, board = fitted
    loaded, network = load_run(folder, record.model)
    assert (loaded.name, loaded.source) == (result.model_name, result.model_source)
    compile_network(network, target, tmp_path / "bundle")
    images = data.test[0][:8].numpy()
    with on_trial(device) as trials, trials.open(tmp_path / "bundle") as tried:
        tried.check()
        again = tried.run([images.tobytes()], len(images))
    assert again == installed(board).run([images.tobytes()], len(images))


def test_the_bundle_carries_budget_widths_and_fingerprint(fitted):
    result, folder, _ = fitted
    manifest = read_manifest(folder / "bundle")
    assert manifest.budget["latency_ms"] == result.budget.latency_ms
    assert manifest.budget["promise"] == BUDGET.to_json()
    assert manifest.budget["dense_ms"] == result.dense.latency_ms
    assert manifest.provenance["widths"] == {g: len(k) for g, k in result.plan.keep.items()}
    assert manifest.provenance["fingerprint"] == result.fingerprint
    assert {k.schedule_source for k in manifest.kernels} == {"profile"}


def test_robustness_is_that_of_both_programs_on_the_same_noise(fitted, data):
    """Computed once more by torch, from the definition: seeds of samples, deviations of the training half."""
    result, run, _ = fitted
    assert (data.train.size, data.test.size) <= (robust.MOST, robust.MOST), "all samples take part"
    x, y = data.test
    deviation, scored = float(data.train.x.double().std(correction=0)), result.seed * 1_000_003
    order = spread(data.test, robust.MOST).tolist()
    drawn = torch.stack([torch.randn(x[0].shape, generator=torch.Generator().manual_seed(scored + i))
                         for i in range(len(x))])  # fmt: skip
    variants = {v.name: v for v in report_of(result).variants}
    assert variants["uniform"].robustness is None
    for name, network in (("dense", result.dense.network), ("pruned", result.pruned.network)):
        found = variants[name].robustness
        assert (found.evidence, found.metric, found.samples) == ("measured", "accuracy", len(x)), "the program ran"
        assert found.test == pytest.approx(variants[name].metric.value, abs=1e-9)
        assert found.train == pytest.approx(accuracy(network.module, *data.train), abs=1.5 / data.train.size)
        assert found.gap == found.train - found.test
        assert [n.strength for n in found.noise] == list(STRENGTHS)
        for noise in found.noise:
            noisy = x[order] + noise.strength * deviation * drawn
            assert noise.value == pytest.approx(accuracy(network.module, noisy, y[order]), abs=1.5 / len(x))
    said = json.loads((run / "stages" / "robustness.json").read_text())
    assert said["dense"]["on_device"] is True


@pytest.mark.parametrize("most_ms", [0.0, 1e9])
def test_robustness_of_a_figure_that_every_output_counts_in(fitted, data, monkeypatch, tmp_path, most_ms):
    """By torch or on the device: outputs, of fewer samples than there are, by the definition."""
    result, run, device = fitted
    monkeypatch.setattr(robust, "DEVICE_MS", most_ms)
    monkeypatch.setattr(robust, "MOST", 40)
    strength = mean_metric("strength", lambda y, _: y.square().flatten(1).mean(1), "", higher_is_better=False)
    dense, small = result.dense.network, result.pruned.network
    with on_trial(device) as trials:
        progress, seed = SimpleNamespace(stage=lambda *_: None, note=pytest.fail), SimpleNamespace(seed=7)
        builder, task = SimpleNamespace(progress=progress), Task("strength", strength)
        shop = SimpleNamespace(
            data=data, task=task, builder=builder, stages=Stages(tmp_path), network=dense, trials=trials, options=seed
        )
        arguments = (shop, run / "dense", 0.1, trials.installed(), small)
        found = robust.robustness_of(*arguments, labelled=True)
    train, test = (half.x[spread(half, 40)] for half in (data.train, data.test))
    deviation = float(train.double().std(correction=0))
    drawn = torch.stack(
        [torch.randn(test[0].shape, generator=torch.Generator().manual_seed(7 * 1_000_003 + i)) for i in range(40)]
    )
    for name, network in (("dense", dense), ("pruned", small)):

        def of(x: torch.Tensor, module: torch.nn.Module = network.module) -> float:
            with torch.no_grad():
                return float(module.eval()(x).square().mean())

        said = found[name]
        assert said.on_device is (most_ms > 0)
        assert (said.test.samples, said.train.samples) == (40, 40)
        figures = [said.test.value, said.train.value, *(n.score.value for n in said.noise)]
        noisy = [of(test + s * deviation * drawn) for s in STRENGTHS]
        assert figures == pytest.approx([of(test), of(train), *noisy], rel=1e-4)
        assert len({round(f, 6) for f in figures}) == 4, "each is another figure"
        assert said.gap == said.test.value - said.train.value, "a small strength is the better one here"


def test_robustness_that_cannot_be_taken_fails_no_fit(fitted, data, tmp_path):
    result, run, _ = fitted
    said = []
    wild = Task("wild", mean_metric("wild", lambda y, _: y.flatten(1).mean(1) * float("nan")))
    progress = SimpleNamespace(stage=lambda *_: None, note=said.append)
    shop = SimpleNamespace(data=data, task=wild, builder=SimpleNamespace(progress=progress), stages=Stages(tmp_path))
    shop.network, shop.options = result.dense.network, SimpleNamespace(seed=0)
    placed = SimpleNamespace(device=SimpleNamespace(url="serial:x"))
    assert robust.robustness_of(shop, run / "dense", 1.0, placed, result.pruned.network, labelled=True) == {}
    assert said == ["nothing is told of robustness: the wild of task 'wild' is nan on 100 test samples"]


def test_robustness_comes_from_torch_where_a_device_would_take_long(fitted):
    network, placed = fitted[0].dense.network, SimpleNamespace(device=SimpleNamespace(url="ssh://pi@board"))
    count = robust.samples(network)
    assert count == robust.MOST
    passes = 2 * robust.PASSES * count
    assert robust.asked_device(network, placed, robust.DEVICE_MS / passes, count)
    assert not robust.asked_device(network, placed, 1.01 * robust.DEVICE_MS / passes, count)
    placed.device.url = "serial:///dev/ttyUSB0"
    assert not robust.asked_device(network, placed, 1e-6, count)
    costly = SimpleNamespace(kernels=SimpleNamespace(nodes=[SimpleNamespace(spec=SimpleNamespace(macs=10**12))]))
    assert robust.samples(costly) == robust.FEWEST


def test_every_program_of_a_run_knows_the_range_of_the_training_half(fitted, target, record, data, tmp_path):
    """The dense one, the installed one, and one that is compiled of the run later; an older run knows none."""
    result, run, _ = fitted
    for manifest in (result.dense.manifest, read_manifest(run / "bundle")):
        (port,) = manifest.inputs
        assert (port.range.minimum, port.range.maximum) == (data.train.x.min(), data.train.x.max())
        assert (port.range.samples, manifest.inspects) == (data.train.size, True)
    _, network = load_run(run, record.model)
    assert compile_network(network, target, tmp_path / "again").inputs == read_manifest(run / "bundle").inputs
    shutil.copytree(run, tmp_path / "old")
    said = json.loads((run / "run.json").read_text())
    del said["input_ranges"]
    (tmp_path / "old" / "run.json").write_text(json.dumps(said))
    _, network = load_run(tmp_path / "old", record.model)
    assert [port.range for port in network.kernels.inputs] == [None]


def test_the_report_says_the_same_and_can_be_read_back(fitted, tmp_path):
    result, _, _ = fitted
    report = report_of(result, ("edgeprune", "fit"))
    json_path, html_path = write_report(report, tmp_path)
    assert read_report(json_path) == report
    assert html_path.stat().st_size > 1000
    dense, pruned, uniform = report.variants
    assert (dense.name, pruned.name, uniform.name) == ("dense", "pruned", "uniform")
    assert pruned.latency_ms.value == result.pruned.latency_ms
    assert pruned.latency_ms.evidence == "simulated"
    assert pruned.accuracy.evidence == "measured", "outputs are real where the clock is not"
    assert pruned.flash_bytes.evidence == pruned.peak_ram_bytes.evidence == "compiled"
    assert pruned.parameters < dense.parameters
    assert pruned.macs < dense.macs
    assert pruned.sparsity == pytest.approx(1 - pruned.parameters / dense.parameters)
    assert {g.name: g.kept for g in report.groups} == {g: result.plan.width(g) for g in result.plan.sizes}
    assert sum(row.pruned_ms.value for row in report.layers) == pytest.approx(pruned.latency_ms.value, rel=1e-6)
    stem = report.layers[0]
    assert (stem.before.in_, stem.before.out) == (3, 16)
    assert stem.after.out == result.plan.width("stem.0")


def test_the_same_seed_gives_the_same_release(fitted, model, record, target, data, store, device, tmp_path):
    first, folder, _ = fitted
    second = fit(model, target, device, store, tmp_path / "run", BUDGET, data=data, options=OPTIONS, record=record)
    assert second.plan.keep == first.plan.keep
    hashes = [hashlib.sha256((f / "model.safetensors").read_bytes()).hexdigest() for f in (folder, tmp_path / "run")]
    assert hashes[0] == hashes[1]
    assert second.deployment.release == first.deployment.release
    assert second.uniform is None


# -- other budgets ------------------------------------------------------------------------------------


def test_flash_alone(model, target, store, device, tmp_path):
    result = fit(model, target, device, store, tmp_path / "run", Promise(flash=Limit(0.96, True)), options=PLAIN)
    assert result.budget.latency_ms is None
    assert result.budget.flash_bytes == pytest.approx(0.96 * result.dense.manifest.memory.flash)
    assert result.met
    assert result.pruned.manifest.memory.flash == (tmp_path / "run/bundle/model").stat().st_size
    assert result.plan.predicted["flash_bytes"] == pytest.approx(result.pruned.manifest.memory.flash, rel=0.05)
    assert result.plan.predicted["flash_bytes"] <= result.budget.flash_bytes
    assert (result.pruned.accuracy, result.history["pruned"]) == (None, {}), "no data: nothing trained, nothing claimed"


def test_latency_and_flash_together_on_two_threads(model, target, store, device, tmp_path):
    options = replace(PLAIN, profile=replace(PLAIN.profile, threads=2))
    promise = Promise(Limit(0.85, True), Limit(0.96, True))
    result = fit(model, target, device, store, tmp_path / "run", promise, options=options)
    assert result.met
    assert result.pruned.manifest.memory.flash <= result.budget.flash_bytes
    assert result.pruned.latency_ms <= result.budget.latency_ms
    assert result.threads == read_manifest(tmp_path / "run" / "bundle").threads == 2
    assert result.fingerprint["threads"] == 2


@pytest.mark.parametrize("resource", ["latency", "flash"])
def test_a_budget_out_of_reach_writes_nothing(model, target, store, device, tmp_path, resource):
    """A budget below what can be reached (docs/FAULTS.md, 8)."""
    promise = Promise(**{resource: {"latency": Limit(0.001), "flash": Limit(5000)}[resource]})
    out = tmp_path / "runs" / "x"
    with pytest.raises(InfeasibleBudgetError) as caught:
        fit(model, target, device, store, out, promise, options=PLAIN)
    assert caught.value.exit_code == 4
    if resource == "latency":
        assert 0.010 < caught.value.details["latency_ms"] < 0.03
        assert caught.value.details["budget"] == {"latency_ms": 0.001}
    else:
        assert 50_000 < caught.value.details["flash_bytes"] < 80_000
        assert caught.value.details["budget"] == {"flash_bytes": 5000}
    assert not out.exists()
    assert status(device).current is None
    assert not [p for p in device.root.rglob("*") if p.is_file()]


# -- boards that are not what the profile says ---------------------------------------------------------


class SlowNetwork(FakeDevice):
    """Multiplies what ``bench`` measures by ``factor(n)`` for the n-th program, from 0; kernels stay as they are."""

    def __init__(self, root: Path, factor: Callable[[int], float]) -> None:
        super().__init__(root)
        self.factor = factor
        self.programs: list[str] = []

    def run(self, argv, *, timeout_s=60.0):
        done = super().run(argv, timeout_s=timeout_s)
        if argv[1:2] != ["bench"]:
            return done
        if argv[0] not in self.programs:
            self.programs.append(argv[0])
        row = json.loads(done.stdout)
        row["samples"] = [s * self.factor(self.programs.index(argv[0])) for s in row["samples"]]
        return Completed(0, json.dumps(row), "")


def test_a_network_slower_than_its_kernels_is_learnt_from_the_dense_one(model, target, store, tmp_path):
    device = SlowNetwork(tmp_path / "board", lambda n: 1.3)
    result = fit(model, target, device, store, tmp_path / "run", BUDGET, options=PLAIN)
    assert result.met
    assert result.rounds[0].judged.kept
    assert result.rounds[0].proposal.latency_ms == pytest.approx(
        result.rounds[0].measured.judgement.latency_ms, rel=1e-6
    )
    assert correction(result.rounds[-1]) == pytest.approx(1.3, rel=1e-6)


def test_a_pruned_network_slower_than_predicted_is_corrected(model, target, store, tmp_path):
    device = SlowNetwork(tmp_path / "board", lambda n: 1.3 if n else 1.0)
    result = fit(model, target, device, store, tmp_path / "run", BUDGET, options=PLAIN)
    assert result.met
    assert [r.judged.kept for r in result.rounds] in ([False, True], [False, False, True])
    first = result.rounds[0]
    assert first.measured.judgement.latency_ms == pytest.approx(1.3 * first.proposal.latency_ms, rel=1e-6)
    assert correction(first) == pytest.approx(1.3, rel=1e-6)
    assert sum(result.predicted_kernels_ms.values()) == pytest.approx(result.pruned.latency_ms, rel=1e-6)


def test_the_best_round_is_taken_not_the_last(model, target, store, tmp_path):
    """Faster than predicted, so more is tried, which is too slow: the first plan stands, and the baseline is its."""
    device = SlowNetwork(tmp_path / "board", lambda n: {0: 1.0, 2: 1.3}.get(n, 0.7))
    options = replace(PLAIN, rounds=2, baseline=True)
    result = fit(model, target, device, store, tmp_path / "run", BUDGET, options=options)
    assert [r.judged.kept for r in result.rounds] == [True, False]
    assert result.met
    assert network_ms(result.pruned.network) == pytest.approx(result.rounds[0].proposal.latency_ms)
    assert result.uniform.latency_ms <= result.pruned.latency_ms * SLACK


def test_over_budget_after_the_last_round(model, target, store, tmp_path):
    device = SlowNetwork(tmp_path / "board", lambda n: 2.0 if n else 1.0)
    with pytest.raises(VerificationError, match=r"after 1 rounds no plan .* of 0\.0284\d ms") as caught:
        fit(model, target, device, store, tmp_path / "run", BUDGET, options=replace(PLAIN, rounds=1))
    (only,) = caught.value.details["rounds"]
    assert only["measured_ms"] == pytest.approx(2 * only["predicted_ms"])
    assert "--resume" in caught.value.hint
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert status(device).current is None


def test_a_network_that_turns_slow_once_installed_is_rolled_back_and_its_training_kept(
    fitted, model, record, target, store, data, tmp_path
):
    _, folder, _ = fitted
    device = SlowNetwork(tmp_path / "board", lambda n: 1.0)
    before = flash(folder / "bundle", device)
    device.programs.clear()
    device.factor = lambda n: 1.0 if n < 2 else 5.0  # dense, pruned; then the installed one
    options = replace(OPTIONS, rounds=1, epochs=1)
    with pytest.raises(RolledBackError, match="over the budget"):
        fit(model, target, device, store, tmp_path / "run", BUDGET, data=data, options=options, record=record)
    assert status(device).current == before.release
    _, network = load_run(tmp_path / "run", record.model)
    assert len(network.kernels.nodes) == 7


# -- refused before anything is measured ---------------------------------------------------------------


@pytest.fixture
def untouched(tmp_path, store, target):
    """Arguments of a fit whose device fails when it is used for more than saying who it is."""
    device = FakeDevice(tmp_path / "board", faults=FakeFaults(drop_after_bytes=0))
    yield target, device, store, tmp_path / "run"
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert device.uploaded_bytes == 0


def test_no_budget(model, untouched):
    with pytest.raises(UsageError, match="no budget"):
        fit(model, *untouched, Promise(), options=PLAIN)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"criterion": "taylor"}, "needs data"),
        ({"criterion": "tailor"}, "no criterion 'tailor'"),
        ({"objective": "loss"}, "objective loss needs data"),
        ({"objective": "lost"}, "no objective 'lost'"),
        ({"solver": "guess"}, "no solver 'guess'"),
        ({"rounds": 0}, "0 rounds"),
        ({"fill": 1.5}, "fill of 1.5"),
        ({"margin": 1.0}, "margin of 1"),
        ({"patience_s": 0}, "0 s of patience"),
    ],
)
def test_options_that_make_no_sense(model, untouched, changes, error):
    with pytest.raises(UsageError, match=error):
        fit(model, *untouched, BUDGET, options=replace(PLAIN, **changes))


def test_images_of_another_shape(model, untouched, data):
    wide = DataSet((torch.zeros(4, 3, 8, 9), torch.zeros(4, dtype=torch.long)), data.test, "wide")
    with pytest.raises(BadInputError, match=r"takes \(1, 3, 8, 8\), data set 'wide' has \(1, 3, 8, 9\)"):
        fit(model, *untouched, BUDGET, data=wide, options=OPTIONS)


def test_more_classes_than_outputs(model, untouched, data):
    five = DataSet((data.train[0], data.train[1] + 1), data.test, "five")
    with pytest.raises(BadInputError, match="has 5 classes, the network 4 outputs"):
        fit(model, *untouched, BUDGET, data=five, options=OPTIONS)


def test_a_folder_that_is_something_else(model, untouched):
    *others, out = untouched
    (out / "bundle").mkdir(parents=True)
    with pytest.raises(UsageError, match="exists and is not a bundle"):
        fit(model, *others, out, BUDGET, options=PLAIN)
    (out / "file").write_text("mine")
    with pytest.raises(UsageError, match="file is a file, not a folder"):
        fit(model, *others, out / "file" / "run", BUDGET, options=PLAIN)
    assert (out / "file").read_text() == "mine"


def test_a_run_folder_whose_parts_do_not_belong_together(fitted, tmp_path):
    _, folder, _ = fitted
    with pytest.raises(BadInputError, match="is not the folder of a run"):
        load_run(tmp_path)
    for name in ("run.json", "widths.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    record = json.loads((tmp_path / "run.json").read_text())
    for change in ({"schema": "edgeprune.run/9"}, {"model": None}, {"input_shape": ["1"]}, {"extra": 1}):
        (tmp_path / "run.json").write_text(json.dumps({**record, **change}))
        with pytest.raises(BadInputError, match="is not the folder of a run"):
            load_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(record))
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(ModelLoadError):
        load_run(tmp_path, record["model"])


def test_code_that_a_run_folder_names_is_not_run(fitted, tmp_path):
    _, folder, _ = fitted
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef net(): raise SystemExit\n")
    data = json.loads((folder / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**data, "model": f"{tmp_path / 'evil.py'}:net"}))
    with pytest.raises(UsageError, match="code that would have to be run"):
        load_run(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_trial_leaves_nothing_behind_even_when_it_fails(fitted, tmp_path):
    _, folder, _ = fitted
    device = FakeDevice(tmp_path / "board")

    def fail_in_a_trial() -> None:
        with on_trial(device) as trials, trials.open(folder / "bundle") as tried:
            assert (device.root / tried.home / "model").is_file()
            raise DeviceError("mine")

    with pytest.raises(DeviceError, match="mine"):
        fail_in_a_trial()
    assert not [p for p in device.root.rglob("*") if p.is_file()]


class Recording(FakeDevice):
    """Keeps the hash of all that is sent; says that its clock is a common one, so networks are timed in turns."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.sent: list[str] = []

    def describe(self) -> DeviceInfo:
        return replace(super().describe(), clock="monotonic")

    def put(self, source, path, **options) -> None:
        content = source if isinstance(source, bytes) else source.read_bytes()
        self.sent.append(hashlib.sha256(content).hexdigest())
        super().put(source, path, **options)


def test_what_is_tried_again_is_sent_once(record, target, data, store, tmp_path):
    device = Recording(tmp_path / "board")
    options = replace(OPTIONS, baseline=True)
    result = fit(record.load(), target, device, store, tmp_path / "run", BUDGET, data=data, options=options)
    images = hashlib.sha256(data.test[0].numpy().tobytes()).hexdigest()
    programs = {v.name: v.manifest.files[v.manifest.program].sha256 for v in (result.dense, result.pruned)}
    assert device.sent.count(images) == 1
    assert {name: device.sent.count(digest) for name, digest in programs.items()} == {"dense": 1, "pruned": 1}
    assert not list((device.root / "trials").rglob("*")), "and nothing of it stays"


def test_a_whole_block_goes_where_it_may(record, target, device, store, tmp_path):
    """At a budget that narrow channels alone do not reach, with the block measured away on the device."""
    allowed = replace(PLAIN, profile=replace(PLAIN.profile, blocks=True))
    promise = Promise(Limit(0.2, relative=True))
    with pytest.raises(InfeasibleBudgetError):
        fit(record.load(), target, device, store, tmp_path / "narrow", promise, options=PLAIN)
    result = fit(record.load(), target, device, store, tmp_path / "run", promise, options=allowed, record=record)
    assert result.met
    assert result.plan.keep["inner.0"] == ()
    assert report_of(result, command=("fit",)).plan.removed_blocks == ("inner.0",)
    dense, pruned = result.dense.network, result.pruned.network
    assert len(pruned.kernels.nodes) < len(dense.kernels.nodes)
    _, again = load_run(tmp_path / "run", factory=record.model)
    assert [str(n.spec) for n in again.kernels.nodes] == [str(n.spec) for n in pruned.kernels.nodes]
