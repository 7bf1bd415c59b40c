"""fit and prune for other tasks than labels: what is trained, judged, reported, and kept by a resumed run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import edgeprune
from edgeprune.errors import BadInputError, UsageError
from edgeprune.report.schema import read_report
from edgeprune.training.evaluate import evaluate
from edgeprune.training.tasks.distillation import distillation
from edgeprune.training.tasks.registry import load_task
from edgeprune.training.teach import with_targets

# Those that share a store of profiles run in one worker.
pytestmark = pytest.mark.xdist_group("api-tasks")

CODE = '''
import pathlib
import torch
from torch import nn
from torch.utils.data import Dataset

import edgeprune
from edgeprune.training.tasks.task import mean_metric

HERE = pathlib.Path(__file__).parent


class Twins(nn.Module):
    """Two inputs; a height and a map."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(1, 16, 3, padding=1)
        self.both, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 1)

    def forward(self, image, depth):
        x = torch.relu(self.left(image) + self.right(depth))
        x = torch.relu(self.both(x))
        return {"height": self.head(x.mean((2, 3))), "map": x.mean(1)}


def net():
    torch.manual_seed(0)
    return Twins(), (torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))


class Pairs(Dataset):
    def __init__(self, size, seed):
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.rand(size, 3, 8, 8, generator=generator)
        self.depths = torch.rand(size, 1, 8, 8, generator=generator)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        height = self.images[i].mean() * 2
        return {"depth": self.depths[i], "image": self.images[i], "target": height}


def data():
    return {"train": Pairs(64, 0), "test": Pairs(16, 1)}


def loss(outputs, target):
    return (outputs["height"][:, 0] - target).square().mean()


def metric():
    return mean_metric("height error", lambda o, t: (o["height"][:, 0] - t).abs(), "m", higher_is_better=False)


def task():
    return edgeprune.Task("height", metric(), loss)


def finetune(module, data, *, epochs, lr, batch_size, seed, teacher, progress, **others):
    (HERE / "asked.txt").write_text(f"{epochs} {lr}")
    optimizer = torch.optim.Adam(module.parameters(), lr)
    module.train()
    losses = []
    for _ in range(epochs):
        batch = data.train.take(torch.arange(data.train.size))
        value = loss(module(*batch.inputs), batch.targets)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return {"loss": losses}


def own():
    return edgeprune.Task("height", metric(), loss, finetune=finetune)
'''


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("code") / "twins.py"
    file.write_text(CODE)
    return file


QUICK = {"latency": "70%", "baseline": False, "rounds": 2, "criterion": "taylor"}


def test_two_inputs_a_mapping_of_outputs_and_a_loss_of_ones_own(code, few, board, tmp_path):
    run = tmp_path / "run"
    arguments = {"data": f"{code}:data", "task": f"{code}:task", "device": board, "out": run, "epochs": 30, "lr": 0.02}
    done = edgeprune.fit(f"{code}:net", **arguments, **QUICK, **few)
    assert done.accuracy is None
    assert (done.metric.name, done.metric.unit, done.metric.higher_is_better) == ("height error", "m", False)
    dense = done.result.dense.metric
    assert done.metric.value < dense.value, "it was trained by the loss"
    half = done.result.data.test
    assert evaluate(done.module, half, done.result.task).value == pytest.approx(done.metric.value, rel=1e-3)
    history = done.result.history["pruned"]
    assert history["metric_name"] == "height error"
    assert len(history["metric"]) == 30
    report = read_report(run / "report.json")
    assert report.accuracy_name == "height error"
    assert (report.data.task, report.data.train, report.data.test) == ("height", 64, 16)
    pruned = report.variant("pruned")
    assert pruned.accuracy is None
    assert (pruned.metric.value, pruned.metric.evidence, pruned.metric.samples) == (done.metric.value, "measured", 16)
    assert " m, measured" in str(done)
    assert "height error" in (run / "report.html").read_text()
    # It can be gone on with: task and data are named in the call, by absolute paths.
    call = json.loads((run / "call.json").read_text())
    assert f"{code}:task" in json.dumps(call)
    (run / "stages" / "proved.json").unlink()
    again = edgeprune.load_run(run).resume()
    assert again.metric == done.metric
    (run / "stages" / "proved.json").unlink()
    with pytest.raises(UsageError, match="was begun otherwise: options"):
        edgeprune.fit(f"{code}:net", **{**arguments, "task": f"{code}:own"}, **QUICK, **few, resume=True)


def test_a_trainer_of_ones_own_trains_what_is_installed(code, few, board, tmp_path):
    done = edgeprune.fit(
        f"{code}:net", data=f"{code}:data", task=f"{code}:own", device=board, out=tmp_path / "run", epochs=30, lr=0.01,
        **QUICK, **few,
    )  # fmt: skip
    assert (code.parent / "asked.txt").read_text() == "30 0.01"
    assert len(done.result.history["pruned"]["loss"]) == 30
    assert done.metric.value < done.result.dense.metric.value


def test_images_without_labels_are_enough(source, few, board, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    noise = torch.randint(0, 255, (40, 8, 8, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for i, pixels in enumerate(noise.numpy()):
        Image.fromarray(pixels).save(images / f"{i}.png")
    done = edgeprune.fit(
        source, input_shape=(1, 3, 8, 8), data=images, pixels="signed,stretch", device=board, out=tmp_path / "run",
        epochs=2, **QUICK, **few,
    )  # fmt: skip
    assert done.metric.name == "agreement with the dense network"
    assert done.result.dense.metric.value == 1
    assert 0 <= done.metric.value <= 1
    assert done.report.data.images == "rgb, 0 to 1, less 0.5, by 0.5, stretch"
    assert "images read as rgb" in (tmp_path / "run" / "report.html").read_text()
    taught = with_targets(done.result.dense.network.module, replace(done.result.data), distillation())
    assert evaluate(done.module, taught.test, distillation()).value == pytest.approx(done.metric.value, abs=0.13)


def test_prune_scores_by_the_task(code, few, tmp_path):
    board = f"fake:{tmp_path / 'board'}"
    edgeprune.profile(f"{code}:net", device=board, **few)
    plans = {}
    for name in (f"{code}:task", None):
        pruned = edgeprune.prune(
            f"{code}:net", data=f"{code}:data", task=name, latency="60%", criterion="taylor", device=board,
            out=tmp_path / f"run{len(plans)}", **few,
        )  # fmt: skip
        plans[name] = pruned.plan.keep
    assert len(plans) == 2
    assert plans[None] != plans[f"{code}:task"], "another loss, other channels"


def test_what_does_not_go_together_is_told_before_anything_is_written(code, few, board, tmp_path):
    run = tmp_path / "run"
    for options, error, match in (
        ({"task": "detection"}, BadInputError, "task 'detection'"),
        ({"task": "nonsense"}, UsageError, "no task 'nonsense'"),
        ({"task": 3}, UsageError, "a int is no task"),
        ({"task": f"{code}:task", "pixels": "unit"}, UsageError, "pixels say how images of a folder are read"),
        ({"task": load_task("language")}, BadInputError, "task 'language'"),
    ):
        with pytest.raises(error, match=match):
            edgeprune.fit(f"{code}:net", data=f"{code}:data", device=board, out=run, **options, **QUICK, **few)
    assert not run.exists()
