"""Trainings in a fit: killed in an epoch they go on with it; early stop and precision are asked for in time."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from edgeprune.budget.promise import Limit, Promise
from edgeprune.devices.fake import FakeDevice
from edgeprune.errors import UsageError
from edgeprune.fitting.fit import fit
from edgeprune.fitting.options import FitOptions
from edgeprune.profiling.profile import ProfileOptions
from edgeprune.training.tasks.classification import classification

OPTIONS = FitOptions(
    epochs=6,
    lr=0.05,
    batch_size=32,
    early_stop=6,
    validation=0.2,
    criterion="l2",
    fill=0.5,
    recover="reconstruct:samples=16+finetune",
    baseline=False,
    profile=ProfileOptions(points=3, step=8),
)
PROMISE = Promise(Limit(0.6, relative=True))

pytestmark = pytest.mark.xdist_group("trained")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Told:
    """A reporter that keeps what is told, and interrupts as an epoch begins."""

    def __init__(self, at: str = "") -> None:
        self.at, self.said = at, list[str]()

    def stage(self, name: str, total: int | None = None) -> None:
        self.said.append(name)
        if name == self.at:
            raise KeyboardInterrupt

    def advance(self, n: int = 1) -> None: ...

    def note(self, text: str) -> None:
        self.said.append(text)


class Trained(Exception):
    """What comes after the training is none of these tests."""


@pytest.fixture(scope="module")
def go(record, target, data, store):
    """(folder, reporter, resume) -> the run folder of a fit that ends as its training did."""

    def stop(*given):
        raise Trained

    def run(folder, told, *, resume=False):
        device = FakeDevice(folder / "board")
        with pytest.MonkeyPatch.context() as patch, suppress(Trained):
            patch.setattr("edgeprune.fitting.fit.install", stop)
            fit(
                record.load(),
                target,
                device,
                store,
                folder / "run",
                PROMISE,
                data=data,
                options=OPTIONS,
                resume=resume,
                progress=told,
            )
        return folder / "run"

    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory, go):
    """A fit that nothing interrupted: (run folder, what was told)."""
    told = Told()
    return go(tmp_path_factory.mktemp("trained"), told), told


def test_a_training_that_is_killed_goes_on_with_the_epoch_it_was_in(whole, go, tmp_path):
    first, before = whole
    run = tmp_path / "run"
    shutil.copytree(first, run)
    (run / "stages" / "recovered-0.json").unlink()
    shutil.rmtree(run / "stages" / "recovered-0")
    left = run / "stages" / "recovered-0.under-way"
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, Told("epoch 5 of 6"), resume=True)
    assert left.is_file()
    torch.manual_seed(5)
    told = Told()
    go(tmp_path, told, resume=True)
    assert not left.exists()
    assert "the training goes on after epoch 4 of 6" in told.said
    assert [s for s in told.said if s.startswith("epoch") and s.endswith(" of 6")] == ["epoch 5 of 6", "epoch 6 of 6"]
    last = [[s for s in t.said if s.startswith("epoch 6 of 6:")] for t in (before, told)]
    assert last[0] == last[1] != []
    for name in ("recovered-0.json", "recovered-0/model.safetensors"):
        assert (run / "stages" / name).read_bytes() == (first / "stages" / name).read_bytes()


def test_early_stop_tells_what_it_chose_by(whole):
    run, told = whole
    history = json.loads((run / "stages" / "recovered-0.json").read_text())
    assert len(history["validation"]) == len(history["accuracy"]) == 6
    assert history["validation"][history["chosen"] - 1] == max(history["validation"][1:])
    assert all(round(40 * v) == pytest.approx(40 * v) for v in history["validation"]), "a fifth of 200 samples"
    assert any("held out" in s for s in told.said)


@pytest.mark.parametrize(
    ("changes", "has_data"),
    [
        ({"early_stop": 0}, True),
        ({"early_stop": 3, "validation": 0.0}, True),
        ({"early_stop": 3, "validation": 0.9}, True),
        ({"early_stop": 3}, False),
        ({"early_stop": 3, "epochs": 0}, True),
        ({"early_stop": 3, "recover": "reconstruct"}, True),
        ({"precision": "fp16"}, True),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(changes, has_data):
    with pytest.raises(UsageError):
        replace(FitOptions(criterion="l2"), **changes).check(has_data=has_data)


def test_bf16_is_refused_where_it_is_emulated(monkeypatch):
    options = FitOptions(criterion="l2", precision="bf16")
    monkeypatch.setattr("edgeprune.training.precision.host_features", lambda: ("avx2", "fma"))
    with pytest.raises(UsageError, match="multiplies no bfloat16"):
        options.check(has_data=True)
    monkeypatch.setattr("edgeprune.training.precision.host_features", lambda: ("avx2", "amx_bf16"))
    options.check(has_data=True)
    with pytest.raises(UsageError, match="nothing is trained"):
        options.check(has_data=False)


@pytest.mark.parametrize("changes", [{"early_stop": 2}, {"sparsity": "weight"}])
def test_a_trainer_of_others_does_what_it_does(changes):
    task = replace(classification(), finetune=lambda *given, **more: None)
    with pytest.raises(UsageError, match=f"knows of no {next(iter(changes))}"):
        replace(FitOptions(), **changes).check_trainer(task)
    replace(FitOptions(), **changes).check_trainer(classification())
    FitOptions().check_trainer(task)
