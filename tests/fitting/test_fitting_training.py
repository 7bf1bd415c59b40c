"""Trainings in a fit: killed in an epoch they go on with it; early stop and precision are asked for in time."""

from __future__ import annotations

import shutil
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
    baseline=False,
    profile=ProfileOptions(points=3, step=8),
)
PROMISE = Promise(Limit(0.6, relative=True))

pytestmark = pytest.mark.xdist_group("trained")


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


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, record, target, data, store):
    """A fit that nothing interrupted: (result, run folder, what was told)."""
    folder, told = tmp_path_factory.mktemp("trained"), Told()
    device = FakeDevice(folder / "board")
    result = fit(
        record.load(), target, device, store, folder / "run", PROMISE, data=data, options=OPTIONS, progress=told
    )
    return result, folder / "run", told


def test_a_training_that_is_killed_goes_on_with_the_epoch_it_was_in(fitted, record, target, data, store, tmp_path):
    _, whole, before = fitted
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    finished = ("request", "profile", "dense", "scores", "round-")
    for file in (run / "stages").glob("*.json"):
        if not file.stem.startswith(finished):
            file.unlink()
    shutil.rmtree(run / "stages" / "recovered-0")

    def go(told, options=OPTIONS):
        device = FakeDevice(tmp_path / "board")
        return fit(
            record.load(),
            target,
            device,
            store,
            run,
            PROMISE,
            data=data,
            options=options,
            resume=True,
            progress=told,
        )

    left = run / "stages" / "recovered-0.under-way"
    with pytest.raises(KeyboardInterrupt):
        go(Told("epoch 5 of 6"))
    assert left.is_file()
    torch.manual_seed(5)
    told = Told()
    result = go(told)
    assert not left.exists()
    assert "the training goes on after epoch 4 of 6" in told.said
    assert [s for s in told.said if s.startswith("epoch") and s.endswith(" of 6")] == ["epoch 5 of 6", "epoch 6 of 6"]
    assert [s for s in before.said if s.startswith("epoch 6 of 6:")] == [
        s for s in told.said if s.startswith("epoch 6 of 6:")
    ]
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert result.history == fitted[0].history


def test_early_stop_tells_what_it_chose_by(fitted, data):
    result, _, told = fitted
    history = result.history["pruned"]
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
