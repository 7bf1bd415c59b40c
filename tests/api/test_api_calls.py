"""The calls one after the other, as a notebook makes them, on a fake board."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import edgeprune
from edgeprune.cli.main import main
from edgeprune.errors import (
    BadInputError,
    BundleError,
    InfeasibleBudgetError,
    ProfileError,
    RolledBackError,
    UsageError,
)
from edgeprune.latency.jsonl import read_jsonl
from edgeprune.report.schema import read_report

SHAPE = (1, 3, 8, 8)

# One worker runs them all: what they share takes seconds to make.
pytestmark = pytest.mark.xdist_group("api")


def shows(result) -> str:
    """The text of a result, once it was seen to print in every way."""
    assert len(repr(result)) < 200
    assert "\n" not in repr(result)
    assert str(result).strip()
    if hasattr(result, "tables"):
        assert result._repr_html_().count("<table>") == len(result.tables())
        assert "<script" not in result._repr_html_()
        json.dumps(result.to_json(), default=str, allow_nan=False)
    return str(result)


def draws(figure, file: Path) -> None:
    assert isinstance(figure, Figure)
    figure.savefig(file)
    assert file.stat().st_size > 5000


# -- profile ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def profiled(source, few, tmp_path_factory) -> edgeprune.Profile:
    device = f"fake:{tmp_path_factory.mktemp('profiled') / 'board'}"
    return edgeprune.profile(source, input_shape=SHAPE, device=device, **few)


def test_a_profile_has_layers_and_tables(profiled):
    layers = profiled.layers()
    assert [x.name for x in layers][:2] == ["stem.0", "inner.0"]
    assert layers[0].widths == {"in": 3, "out": 16}
    assert all(x.latency_ms > 0 for x in layers)
    table = profiled.table("inner.0")
    assert table.axes == ("in", "out")
    assert table.latency_ms[-1, -1] == pytest.approx(layers[1].latency_ms)
    assert table.latency_ms[0, 0] < table.latency_ms[-1, -1]
    assert profiled.measured + profiled.reused == len(profiled.records)
    assert profiled.failed == ()
    text = shows(profiled)
    assert "stem.0" in text
    assert "simulated" in text


def test_a_profile_plots_and_is_passed_on(profiled, tmp_path):
    for layer in profiled.layers():
        draws(profiled.plot(layer.name), tmp_path / "layer.png")
    with pytest.raises(UsageError, match=r"no layer 'stem\.1'") as caught:
        profiled.plot("stem.1")
    assert "stem.0" in caught.value.hint
    file = profiled.export(tmp_path / "table.jsonl")
    fingerprint, records, *_ = read_jsonl(file)
    assert fingerprint == profiled.fingerprint
    assert len(records) == len(profiled.records)


# -- prune, compile, flash, bench, rollback ------------------------------------------------------------


def test_the_steps_one_by_one_from_a_module(net, few, arrays, board, profiled, tmp_path):
    common = {"device": board, **few}
    pruned = edgeprune.prune(net, example_inputs=SHAPE, latency="60%", out=tmp_path / "run", **common)
    assert "stem.0" in shows(pruned)
    assert pruned.module(torch.zeros(SHAPE)).shape == (1, 4)
    assert sum(p.numel() for p in pruned.module.parameters()) < sum(p.numel() for p in net.parameters())
    assert pruned.latency_ms <= 0.6 * sum(x.latency_ms for x in profiled.layers()) * 1.001
    assert not (tmp_path / "run" / "run.json").exists(), "no text says what the module was"
    draws(pruned.plot(), tmp_path / "kept.png")

    bundle = edgeprune.compile(pruned, store=few["store"], device=board, out=tmp_path / "pruned")
    dense = edgeprune.compile(net, example_inputs=SHAPE, out=tmp_path / "whole")
    assert bundle.manifest.memory.flash < dense.manifest.memory.flash
    assert bundle.release in shows(bundle)
    assert bundle.to_json()["schedules_from"].keys() == {"profile"}

    first = edgeprune.flash(dense, device=board)
    second = edgeprune.flash(bundle, device=board, latency=float(pruned.latency_ms * 1.01))
    assert (second.state, second.previous) == ("installed", first.release)
    assert "latency kept" in shows_briefly(second)
    images = np.random.default_rng(0).standard_normal((3, *SHAPE[1:]), dtype=np.float32)
    (found,) = edgeprune.run(images, board)
    with torch.no_grad():
        expected = pruned.module(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for given in (
        [images],
        (torch.from_numpy(images),),
        torch.from_numpy(images).double(),
        torch.from_numpy(images).requires_grad_(),
    ):
        np.testing.assert_array_equal(edgeprune.run(given, board)[0], found)
    for wrong, why in (
        ([images, images], "has 1 inputs, 2 were given"),
        (images[:, :2], "has shape"),
        (images[:0], "or none"),
        (np.where(images == images.max(), np.nan, images), "holds 1 values that are NaN"),
    ):
        with pytest.raises(BadInputError, match=why):
            edgeprune.run(wrong, board)
    timing = edgeprune.bench(board, repeats=3)
    assert timing.median_ms == pytest.approx(pruned.latency_ms, rel=1e-6)
    assert "simulated" in shows_briefly(timing)
    with pytest.raises(RolledBackError):
        edgeprune.flash(dense, device=board, latency=pruned.latency_ms)
    file = edgeprune.export(pruned, tmp_path / "pruned.onnx")
    assert file.parameters == sum(p.numel() for p in pruned.module.parameters())
    assert file.difference < 1e-3
    assert "pruned.onnx" in shows(file)
    assert Path(file).stat().st_size == file.to_json()["bytes"]
    back = edgeprune.rollback(board)
    assert back.release == first.release
    assert back.release[:12] in shows_briefly(back)


def shows_briefly(result) -> str:
    assert "\n" not in str(result)
    assert len(str(result)) < 400
    return str(result)


def test_prune_by_data_from_loaders_and_with_a_default_folder(source, few, arrays, board, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pair = [torch.utils.data.TensorDataset(arrays[f"x_{h}"], arrays[f"y_{h}"]) for h in ("train", "test")]
    model = edgeprune.load_model(source, input_shape=SHAPE)
    edgeprune.profile(model, device=board, **few)
    pruned = edgeprune.prune(
        model, latency="60%", flash="99%", data=pair, criterion="taylor", solver="greedy", device=board, **few
    )
    assert pruned.folder == Path("runs/net-host")
    assert Path("runs/net-host/widths.json").is_file()
    again = edgeprune.load_run("runs/net-host", model=model)
    assert all(map(torch.equal, again.module.state_dict().values(), pruned.module.state_dict().values()))
    assert edgeprune.compile(again).path == Path("runs/net-host-bundle")


def test_what_goes_wrong_is_what_the_command_line_says(source, few, board, tmp_path):
    shared = {"input_shape": SHAPE, "device": board, "out": tmp_path / "none", **few}
    edgeprune.profile(source, input_shape=SHAPE, device=board, **few)
    with pytest.raises(UsageError, match="no budget was given"):
        edgeprune.prune(source, **shared)
    with pytest.raises(UsageError, match="needs data"):
        edgeprune.fit(source, latency="60%", **shared)
    with pytest.raises(UsageError, match="no statistic 'p42'"):
        edgeprune.fit(source, latency="60%", statistic="p42", **shared)
    with pytest.raises(InfeasibleBudgetError):
        edgeprune.prune(source, latency="1us", **shared)
    with pytest.raises(InfeasibleBudgetError):
        edgeprune.fit(source, latency="1us", criterion="l2", **shared)
    with pytest.raises(BundleError):
        edgeprune.flash(tmp_path, device=board)
    with pytest.raises(ProfileError):
        edgeprune.compile(source, input_shape=SHAPE, device=board, store=tmp_path / "empty.sqlite3", out=tmp_path / "b")
    for call in (edgeprune.bench, edgeprune.rollback, lambda b: edgeprune.run(np.zeros(SHAPE), b)):
        with pytest.raises(UsageError):
            call(board)
    assert not (tmp_path / "none").exists()


def test_the_frontier_of_a_profile_with_the_networks_that_were_measured(source, few, board, profiled, fitted, tmp_path):
    common = {"input_shape": SHAPE, "device": board, **few}
    run = fitted.paths["report_json"].parent
    curve = edgeprune.frontier(source, count=8, runs=[run], **common)
    assert curve.evidence == "simulated"
    assert len(curve.points) > 3
    assert all(p.solution.gap >= 0 and p.solution.ram_bytes > 0 for p in curve.points)
    dense = curve.points[-1].solution
    assert dense.latency_ms == pytest.approx(sum(x.latency_ms for x in profiled.layers()))
    pruned = edgeprune.prune(
        source, latency=curve.points[2].solution.latency_ms, solver="exact", out=tmp_path / "run", **common
    )
    kept, bound = pruned.plan.predicted["saliency_retained"], curve.points[2].solution.bound
    assert curve.points[2].solution.saliency <= kept * (1 + 1e-9) <= bound * (1 + 2e-9)
    assert [m.name for m in curve.marks] == ["dense", "pruned"]
    assert curve.marks[1].latency_ms.value == pytest.approx(fitted.latency_ms)
    text = shows(curve)
    assert "predicted (simulated)" in text
    assert "Networks of runs" in text
    draws(curve.plot(), tmp_path / "curve.png")
    both = edgeprune.frontier(source, against=("ram", "latency"), count=9, runs=[run], **common)
    assert both.points[0].solution.ram_bytes < both.points[-1].solution.ram_bytes
    draws(both.plot(), tmp_path / "both.png")
    report = json.loads((run / "report.json").read_text())
    for group in report["groups"]:
        group["size"] += 8
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(UsageError, match="of another network, tinynet"):
        edgeprune.frontier(source, runs=[tmp_path], **common)


# -- fit and its folder ----------------------------------------------------------------------------------


def test_a_fit_tells_what_it_did(fitted, tmp_path):
    assert fitted.met
    assert all(v.kept for v in fitted.verdicts)
    assert fitted.latency_ms <= fitted.result.budget.latency_ms
    assert 0 <= fitted.accuracy <= 1
    assert fitted.plan.keep
    assert fitted.module(torch.zeros(SHAPE)).shape == (1, 4)
    assert all(p.exists() for p in fitted.paths.values())
    assert read_report(fitted.paths["report_json"]) == fitted.report
    text = shows(fitted)
    assert "Networks on" in text
    assert "met" in repr(fitted)
    for what in ("milliseconds", "widths", "tradeoff", "prediction"):
        draws(fitted.plot(what), tmp_path / f"{what}.png")
    with pytest.raises(UsageError, match="no plot 'pie'"):
        fitted.plot("pie")


def test_a_fit_is_explained(fitted, tmp_path):
    said = edgeprune.explain(fitted)
    assert "Next to be kept" in shows(said)
    assert [x.resource for x in said.explanation.limits] == ["latency_ms"]
    assert {g.name for g in said.explanation.groups} <= set(fitted.plan.sizes)
    told = fitted.report.explanation
    assert told.limits == said.explanation.limits
    assert told.evidence == "simulated"
    draws(said.plot(), tmp_path / "next.png")
    name = told.nearest[0].name
    removed = next(i for i in range(fitted.plan.sizes[name]) if i not in fitted.plan.keep[name])
    one = edgeprune.explain(edgeprune.load_run(fitted.paths["bundle"].parent), group=name, channel=removed)
    assert one.channel.kept is False
    assert one.channel.level.width > one.group.width == fitted.plan.width(name)
    assert f"Channel {removed} of {name} is removed" in shows(one)
    draws(one.plot(), tmp_path / "levels.png")


def test_the_folder_of_a_run_is_read_back(fitted, source, net):
    run = edgeprune.load_run(fitted.bundle.parent, model=edgeprune.load_model(source, input_shape=SHAPE))
    assert run.finished
    assert run.report == fitted.report
    assert run.plan.keep == fitted.plan.keep
    assert run.bundle.release == fitted.result.deployment.release
    assert list(run.stages)[:2] == ["profile", "dense"]
    x = torch.randn(SHAPE)
    assert torch.equal(run.module(x), fitted.module(x))
    assert shows(run) == str(fitted)
    draws(run.plot(), fitted.bundle.parent / "plot.png")
    by_module = edgeprune.load_run(fitted.bundle.parent, model=net, example_inputs=SHAPE)
    assert torch.equal(by_module.module(x), fitted.module(x))
    with pytest.raises(BadInputError):
        _ = edgeprune.load_run(fitted.bundle.parent).module
    with pytest.raises(UsageError, match="no run that could be gone on with"):
        run.resume()


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(BadInputError, match="is not the folder of a run"):
        edgeprune.load_run(tmp_path)


class Stop(Exception):
    """What interrupts a fit in these tests."""


class Until:
    """Progress that ends the call at a stage."""

    def __init__(self, name: str) -> None:
        self.name, self.seen = name, []

    def stage(self, name, total=None):
        self.seen.append(name)
        if name == self.name:
            raise Stop

    def advance(self, n=1): ...

    def note(self, text): ...


def test_an_interrupted_fit_goes_on_in_python_and_on_the_command_line(source, few, board, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = source.replace(":net", ":data")
    asked = {"input_shape": SHAPE, "device": board, "latency": "60%", "data": data, "epochs": 1, "baseline": False}
    for folder in ("one", "two", "three"):
        with pytest.raises(Stop):
            edgeprune.fit(source, out=folder, progress=Until("scoring channels"), **asked, **few)
        run = edgeprune.load_run(folder)
        assert (run.finished, list(run.stages)) == (False, ["profile", "dense"])
        assert "2 stages finished" in shows(run) + repr(run)
    with pytest.raises(UsageError, match="not finished"):
        edgeprune.fit(source, out="one", **asked, **few)
    log = Until("never")
    done = edgeprune.fit(source, out="one", resume=True, progress=log, **asked, **few)
    assert done.met
    assert "profiling kernels" not in log.seen, "what was finished is not made again"
    monkeypatch.chdir(tmp_path.parent)
    again = edgeprune.load_run(tmp_path / "two").resume()
    assert again.plan.keep == done.plan.keep
    assert main(["fit", "--resume", str(tmp_path / "three"), "-q", "--json"]) == 0
    assert edgeprune.load_run(tmp_path / "three").plan.keep == done.plan.keep
    with pytest.raises(UsageError, match="begun otherwise"):
        edgeprune.fit(source, out=tmp_path / "one", resume=True, **{**asked, "latency": "50%"}, **few)
    with pytest.raises(UsageError, match=r"is of .*not of zoo:resnet20"):
        edgeprune.load_run(tmp_path / "two").resume("zoo:resnet20")


def test_a_run_that_somebody_else_began_runs_no_code(source, few, board, tmp_path):
    with pytest.raises(Stop):
        edgeprune.fit(
            source,
            input_shape=SHAPE,
            device=board,
            latency="60%",
            criterion="l2",
            out=tmp_path / "run",
            progress=Until("scoring channels"),
            **few,
        )
    call = tmp_path / "run" / "call.json"
    said = json.loads(call.read_text())
    call.write_text(json.dumps({**said, "signature": "0" * 64}))
    with pytest.raises(UsageError, match="was not begun by you"):
        edgeprune.load_run(tmp_path / "run").resume()
    said["call"]["options"] = {}
    call.write_text(json.dumps(said))
    with pytest.raises(UsageError, match="another version"):
        edgeprune.load_run(tmp_path / "run").resume()


def test_a_fit_of_a_module_leaves_no_call_and_goes_on_by_the_same_call(net, few, board, tmp_path):
    asked = {"example_inputs": SHAPE, "device": board, "flash": "97%", "criterion": "l2", "out": tmp_path / "run"}
    with pytest.raises(Stop):
        edgeprune.fit(net, progress=Until("scoring channels"), **asked, **few)
    assert not (tmp_path / "run" / "call.json").exists()
    done = edgeprune.fit(net, resume=True, **asked, **few)
    assert done.met
    assert done.accuracy is None
    with pytest.raises(UsageError, match="nothing for the plot 'tradeoff'"):
        done.plot("tradeoff")


def test_texts_from_outside_are_escaped():
    from edgeprune.report.tables import Table
    from edgeprune.report.text import html_of, text_of

    table = Table("<b>", ("a", "b"), (("<script>", "x\ny"), ("\x1b[2J", "[red]")))
    assert "<script>" not in html_of([table])
    assert "&lt;script&gt;" in html_of([table])
    assert "\x1b" not in html_of([table]) + text_of([table])
    assert "[red]" in text_of([table])


def test_arrays_of_numpy_serve_as_images(source, few, arrays, board, tmp_path):
    data = {k: np.asarray(v) for k, v in arrays.items()}
    edgeprune.profile(source, input_shape=SHAPE, device=board, **few)
    shared = {"input_shape": SHAPE, "device": board, "latency": "70%", "criterion": "taylor", **few}
    one = edgeprune.prune(source, data=data, out=tmp_path / "a", **shared)
    two = edgeprune.prune(source, data=arrays, out=tmp_path / "b", **shared)
    assert one.plan.keep == two.plan.keep
