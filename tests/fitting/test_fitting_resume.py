"""Nothing that a fit has finished is lost, or made again: kill -9 at random moments, bad stages, other requests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from long_tests import long

from edgeprune.api.call import sign, signed
from edgeprune.budget.promise import Limit, Promise
from edgeprune.deploy.status import status
from edgeprune.devices.fake import FakeDevice
from edgeprune.errors import BadInputError, UsageError, VerificationError
from edgeprune.fitting.fit import fit
from edgeprune.fitting.options import FitOptions
from edgeprune.fitting.stages import Stages
from edgeprune.profiling.profile import ProfileOptions

CHILD = Path(__file__).with_name("resume_child.py")
MOMENTS = {"fake:": 2, "local:": 1}
"""How often a fit is killed here; ``benchmarks/resume.py`` does it 40 times."""
OPTIONS = FitOptions(criterion="l2", epochs=0, profile=ProfileOptions(points=3, step=8), baseline=False)
PROMISE = Promise(Limit(0.6, relative=True))
shared = pytest.mark.xdist_group("resumed")
"""Tests that begin with one finished run."""


@pytest.mark.parametrize("scheme", long(["fake:", "local:"], ["local:"]))
def test_fault_25_kill_9_of_a_fit_at_random_moments(scheme, tmp_path):
    command = [sys.executable, str(CHILD), str(tmp_path), scheme, str(MOMENTS[scheme]), "7"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    whole, *rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == MOMENTS[scheme]
    for row in rows:
        assert row["again"] == 0, done.stderr[-3000:]
        assert row["twice"] == [], "a finished stage is never made again"
        assert (row["current"], row["kept"], row["left"]) == (True, True, [])
        assert row["plan"] == row["trained_plan"], "what is installed is what was trained"
        if scheme == "fake:":  # where nothing depends on the minute, the very same comes of it
            assert row["plan"] == whole["plan"]
    assert any(row["killed"] for row in rows)


@pytest.fixture(scope="module")
def whole(record, target, store, tmp_path_factory):
    """A finished run and its board, to be copied."""
    folder = tmp_path_factory.mktemp("whole")
    device = FakeDevice(folder / "board")
    result = fit(record.load(), target, device, store, folder / "run", PROMISE, options=OPTIONS, record=record)
    assert result.met
    return folder, result


@pytest.fixture
def finished(run, whole):
    """``run`` with the run finished, as if it had been made here; what came of it."""
    for name in ("run", "board"):
        shutil.copytree(whole[0] / name, run.folder.with_name(name), symlinks=True, dirs_exist_ok=True)
    return whole[1]


@pytest.fixture
def run(record, target, store, tmp_path):
    device = FakeDevice(tmp_path / "board")

    def go(promise=PROMISE, options=OPTIONS, **more):
        return fit(
            record.load(), target, device, store, tmp_path / "run", promise, options=options, record=record, **more
        )

    go.folder, go.device = tmp_path / "run", device
    return go


@shared
def test_an_unfinished_run_is_not_begun_over(run, finished):
    (run.folder / "stages" / "proved.json").unlink()
    with pytest.raises(UsageError, match="not finished") as caught:
        run()
    assert f"--resume {run.folder}" in caught.value.hint
    again = run(resume=True)
    assert again.met


@shared
def test_a_finished_run_is_replaced_by_a_new_one_of_that_name(run, finished):
    second = run(Promise(Limit(0.8, relative=True)))
    assert second.plan.keep != finished.plan.keep
    assert second.met


@shared
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"promise": Promise(Limit(0.7, relative=True))}, "promise"),
        ({"options": replace(OPTIONS, criterion="l1")}, "options"),
    ],
)
def test_a_run_is_gone_on_with_as_it_was_begun(run, finished, change, named):
    with pytest.raises(UsageError, match="was begun otherwise") as caught:
        run(**change, resume=True)
    assert caught.value.details["different"] == [named]
    assert run(options=replace(OPTIONS, rounds=9, patience_s=1.0), resume=True).met, "that much may change"


def test_there_has_to_be_a_run(run):
    with pytest.raises(UsageError, match="holds no run"):
        run(resume=True)


@shared
def test_a_stage_that_cannot_be_read_names_itself(run, finished):
    (run.folder / "stages" / "dense.json").write_text("{")
    with pytest.raises(BadInputError, match=r"stage dense in .* cannot be read back") as caught:
        run(resume=True)
    assert "dense.json" in caught.value.hint


@shared
def test_another_board_gets_the_release_again(run, finished, record, target, store, tmp_path):
    other = FakeDevice(tmp_path / "other")
    again = fit(record.load(), target, other, store, run.folder, PROMISE, options=OPTIONS, record=record, resume=True)
    assert again.deployment.release == finished.deployment.release
    assert again.met


def test_no_plan_inside_the_budget_may_be_gone_on_with_more_rounds(run, monkeypatch):
    real = FakeDevice.run

    def slow(self, argv, *, timeout_s=60.0):
        done = real(self, argv, timeout_s=timeout_s)
        if argv[1:2] != ["bench"]:
            return done
        row = json.loads(done.stdout)
        factor = 1.0 if not slow.seen or slow.seen == argv[0] else 1.25
        slow.seen = slow.seen or argv[0]
        return replace(done, stdout=json.dumps({**row, "samples": [s * factor for s in row["samples"]]}))

    slow.seen = ""
    monkeypatch.setattr(FakeDevice, "run", slow)
    with pytest.raises(VerificationError, match="after 1 rounds"):
        run(options=replace(OPTIONS, rounds=1))
    ended = [e["stage"] for e in map(json.loads, (run.folder / "stages.jsonl").read_text().splitlines())]
    slow.seen = "none of these: the dense network is not timed again"
    result = run(options=replace(OPTIONS, rounds=6), resume=True)
    assert result.met
    assert not result.rounds[0].judged.kept
    again = [json.loads(x) for x in (run.folder / "stages.jsonl").read_text().splitlines()][len(ended) :]
    assert not {e["stage"] for e in again} & set(ended)


def test_measured_losses_are_not_measured_again(run, data, monkeypatch):
    options = replace(OPTIONS, objective="loss", rounds=1)
    monkeypatch.setattr("edgeprune.fitting.fit.shrunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(options=options, data=data)
    monkeypatch.undo()
    monkeypatch.setattr("edgeprune.fitting.objective.loss_curves", interrupted)
    with pytest.raises(UsageError, match=r"then .*'objective': 'loss'"):
        run(options=replace(options, objective="importance"), data=data, resume=True)
    result = run(options=options, data=data, resume=True)
    assert result.plan.method["objective"] == "loss"


def interrupted(*_, **__):
    raise KeyboardInterrupt


# -- over budget once installed -----------------------------------------------------------------------------


class TurnsSlow(FakeDevice):
    """Whatever is installed takes ``factor(n)`` times as long as when it was tried, n releases later."""

    factor = staticmethod(lambda n: 1.0)
    releases: tuple[str, ...] = ()

    def run(self, argv, *, timeout_s=60.0):
        done = super().run(argv, timeout_s=timeout_s)
        if argv[1:2] != ["bench"] or not argv[0].startswith("releases/"):
            return done
        if argv[0] not in self.releases:
            self.releases = (*self.releases, argv[0])
        row = json.loads(done.stdout)
        row["samples"] = [s * self.factor(self.releases.index(argv[0])) for s in row["samples"]]
        return replace(done, stdout=json.dumps(row))


@shared
def test_a_network_that_is_over_its_budget_once_installed_is_made_smaller(
    record, target, store, data, tmp_path, finished
):
    """All by itself: the trained network is shrunk further, trained briefly, and installed; an earlier release runs on
    until then."""
    device = TurnsSlow(tmp_path / "board")
    device.factor = lambda n: 1.2
    assert status(device).current == finished.deployment.release
    options = replace(OPTIONS, criterion="taylor", epochs=1, lr=0.1, batch_size=32)
    run = tmp_path / "another"
    result = fit(record.load(), target, device, store, run, PROMISE, data=data, options=options, record=record)
    assert result.met
    assert result.verdicts[0].value <= result.budget.latency_ms
    first = json.loads((run / "stages" / "recovered-0" / "widths.json").read_text())["plan"]["keep"]
    assert all(set(result.plan.keep[g]) <= set(kept) for g, kept in first.items()), "nothing comes back"
    assert sum(map(len, result.plan.keep.values())) < sum(map(len, first.values())) or len(result.plan.keep) > len(
        first
    )
    assert "tighter 1" in result.history
    assert Stages(run).finished("refused-0")
    assert status(device).previous == finished.deployment.release


def test_what_stays_too_slow_leaves_with_everything_saved(record, target, store, tmp_path):
    device = TurnsSlow(tmp_path / "board")
    device.factor = lambda n: 1.5
    run = tmp_path / "run"
    arguments = (target, device, store, run, PROMISE)
    with pytest.raises(VerificationError) as caught:
        fit(record.load(), *arguments, options=replace(OPTIONS, tighter=0), record=record)
    assert f"edgeprune fit --resume {run}" in caught.value.hint
    assert (run / "model.safetensors").is_file()
    device.factor = lambda n: 1.0
    assert fit(record.load(), *arguments, options=replace(OPTIONS, tighter=0), record=record, resume=True).met


# -- whose code is run ----------------------------------------------------------------------------------------


def test_a_call_is_signed_by_its_user(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_HOME", str(tmp_path / "home"))
    sign(tmp_path, {"model": "evil.py:net"})
    assert signed(tmp_path) == ({"model": "evil.py:net"}, True)
    text = (tmp_path / "call.json").read_text()
    (tmp_path / "call.json").write_text(text.replace("evil", "worse"))
    assert signed(tmp_path) == ({"model": "worse.py:net"}, False)
    (tmp_path / "call.json").write_text(text)
    monkeypatch.setenv("EDGEPRUNE_HOME", str(tmp_path / "another"))
    assert signed(tmp_path)[1] is False, "a folder from somebody else"
    assert (tmp_path / "home" / "key").stat().st_mode & 0o077 == 0
