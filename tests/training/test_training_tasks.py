"""Ready tasks: their losses fall where they should, and their figures are those that one computes by hand."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.errors import BadInputError, ModelLoadError, UsageError
from edgeprune.fitting.planner import score
from edgeprune.graph.network import read_network
from edgeprune.models.inputs import training_outputs, yields_the_same
from edgeprune.training.data import DataSet, data_of
from edgeprune.training.distill import match, strength
from edgeprune.training.evaluate import evaluate, predict
from edgeprune.training.finetune import train
from edgeprune.training.foreign import finetuned
from edgeprune.training.halves import Arrays, Batch, Stacked
from edgeprune.training.preflight import require_data
from edgeprune.training.tasks.choose import chosen_task
from edgeprune.training.tasks.classification import classification
from edgeprune.training.tasks.registry import TASKS, load_task
from edgeprune.training.tasks.task import Metric, Task, mean_metric
from edgeprune.training.teach import with_targets


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


X = torch.randn(64, 3, 6, 6, generator=seeded())


class Two(nn.Module):
    """Two inputs, and outputs in a mapping with a tuple: (N, 3, 6, 6), (N, 2) -> logits (N, 4), map (N, 5, 6, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.side = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.Linear(2, 5)
        self.head = nn.Linear(5, 4)

    def forward(self, image: Tensor, more: Tensor) -> dict[str, object]:
        x = F.relu(self.bn(self.conv(image)) + self.side(more)[:, :, None, None])
        return {"classes": self.head(x.mean((2, 3))), "maps": (x,)}


def two(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Two().eval()


def figure(name: str, outputs: object, targets: object) -> dict[str, float]:
    task = load_task(name)
    found = task.metric.start()
    found.update(task.read(outputs), targets)
    computed = found.compute()
    return computed if isinstance(computed, dict) else {task.metric.name: computed}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_its_name_a_metric_and_a_place_on_the_page(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    assert task.metric.name
    assert f"`{name}`" in (Path(__file__).parents[2] / "docs" / "TASKS.md").read_text()


def test_options_and_what_does_not_exist() -> None:
    assert load_task("segmentation?ignored=7").name == "segmentation"
    with pytest.raises(UsageError, match="no task 'detecton'") as caught:
        load_task("detecton")
    assert "detection" in caught.value.hint
    for wrong in ("segmentation?ignore=7", "detection?layout=yolov9", "classification?x"):
        with pytest.raises(UsageError):
            load_task(wrong)


def test_factories(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import edgeprune\n"
        "from edgeprune.training.tasks.task import mean_metric\n"
        "def good():\n"
        "    return edgeprune.Task('mine', mean_metric('error', lambda o, t: (o - t).abs().mean(1), 'V'))\n"
        "def bad():\n    return 3\n"
    )
    assert load_task(f"{file}:good").metric.unit == "V"
    with pytest.raises(UsageError, match="returned a int"):
        load_task(f"{file}:bad")
    with pytest.raises(ModelLoadError):
        load_task(f"{file}:none")


def test_segmentation_figures() -> None:
    labels = torch.tensor([[[0, 0, 1], [1, 2, 255]]])
    said = torch.tensor([[[0, 1, 1], [1, 1, 0]]])
    logits = F.one_hot(said, 4).permute(0, 3, 1, 2).float()
    found = figure("segmentation", logits, labels)
    # Class 0: 1 of 2; class 1: 2 of 4; class 2: 0 of 1; class 3 occurs nowhere.
    assert found == {"mean IoU": pytest.approx((1 / 2 + 2 / 4 + 0) / 3), "pixel accuracy": pytest.approx(3 / 5)}
    small = F.interpolate(logits, (1, 2))
    assert figure("segmentation", small, labels).keys() == found.keys()
    with pytest.raises(BadInputError, match="labels from 0 to 2, and the network tells 2 classes"):
        load_task("segmentation").loss(logits[:, :2], labels)


def test_regression_figures() -> None:
    outputs, targets = torch.tensor([[1.0], [2.0]]), torch.tensor([2.0, 5.0])
    assert figure("regression", outputs, targets) == {"mean absolute error": 2.0, "mean squared error": 5.0}
    assert load_task("regression").loss(outputs, targets) == 5.0
    assert not load_task("regression").metric.higher_is_better
    with pytest.raises(BadInputError, match="do not go with targets"):
        load_task("regression").loss(outputs, torch.zeros(2, 3))


def test_perplexity_of_a_guess_is_the_vocabulary_and_places_are_shifted_once() -> None:
    tokens = torch.randint(0, 11, (3, 7), generator=seeded())
    assert figure("language", torch.zeros(3, 7, 11), tokens)["perplexity"] == pytest.approx(11)
    knowing = 50.0 * F.one_hot(tokens.roll(-1, 1), 11).float()
    assert figure("language", knowing, tokens)["perplexity"] == pytest.approx(1)
    assert figure("language?shift=0", knowing.roll(1, 1), tokens)["perplexity"] == pytest.approx(1)
    assert figure("language?shift=0", knowing, tokens)["perplexity"] > 100
    hidden = tokens.clone()
    hidden[:, 1:] = -100
    hidden[0, 3] = int(tokens[0, 3])
    loss = load_task("language").loss(torch.zeros(3, 7, 11), hidden)
    assert float(loss) == pytest.approx(math.log(11))


def test_distillation_compares_output_by_output() -> None:
    student, teacher = two(0), two(1)
    inputs = (X[:8], torch.randn(8, 2, generator=seeded()))
    ours, theirs = predict(student, inputs), predict(teacher, inputs)
    assert float(match(theirs, theirs, 4.0)) == pytest.approx(0, abs=1e-6)
    assert float(match(ours, theirs, 4.0)) > 0.1
    assert figure("distillation", theirs, theirs) == {"agreement with the dense network": pytest.approx(1)}
    assert figure("distillation", ours, theirs)["agreement with the dense network"] < 0.9
    with pytest.raises(BadInputError, match="cannot be compared"):
        match(ours["classes"], theirs, 4.0)


def test_neither_pixels_nor_probabilities_drown_the_other() -> None:
    teacher = torch.rand(16, 6, 50, generator=seeded())
    teacher[:, :2] *= 600
    for channel in (0, 5):
        moved = teacher.clone()
        moved[:, channel] = moved[:, channel].mean()
        assert float(match(moved, teacher, 1.0)) == pytest.approx(math.log(2) / 6, rel=0.05)


def test_strength_has_gradients_where_distillation_from_oneself_has_none() -> None:
    module, inputs = two(), (X[:4], torch.ones(4, 2))
    outputs = module(*inputs)
    (none,) = torch.autograd.grad(match(outputs, outputs, 1.0), module.conv.weight, retain_graph=True)
    (some,) = torch.autograd.grad(strength(outputs), module.conv.weight)
    assert float(none.abs().max()) < 1e-6 < float(some.abs().max())


def test_training_without_labels_of_several_inputs_and_outputs() -> None:
    teacher, student = two(1), two(0)
    more = torch.randn(64, 2, generator=seeded(1))
    data = DataSet(Stacked((X[:48], more[:48])), Stacked((X[48:], more[48:])), "bare", kind="none")
    task, remark = chosen_task(teacher, data)
    assert (task.name, bool(remark)) == ("distillation", True)
    taught = with_targets(teacher, data, task)
    before = evaluate(student, taught.test, task)
    history = train(student, taught, epochs=8, lr=0.1, batch_size=16, teacher=teacher, task=task)
    after = evaluate(student, taught.test, task)
    assert history.metric[-1] == after.value > before.value + 0.1
    assert history.to_json().keys() == {"loss", "metric", "metric_name"}
    assert evaluate(teacher, taught.test, task).value == pytest.approx(1)


def test_where_no_task_is_given_labels_that_fit_are_learned() -> None:
    labels = torch.arange(64) % 4
    data = DataSet((X, labels), (X, labels), "labelled")
    one = nn.Sequential(nn.Flatten(), nn.Linear(108, 4))
    task, remark = chosen_task(one, data)
    assert (task.name, remark) == ("classification", "")
    pair = data_of(
        {"x_train": {"image": X, "more": X[:, :2, 0, 0]}, "x_test": {"image": X, "more": X[:, :2, 0, 0]}}, "d"
    )
    assert chosen_task(two(), DataSet(Stacked((X, X[:, :2, 0, 0]), labels), pair.test, "d"))[0].name == "distillation"


def test_the_loss_of_a_task_is_what_was_minimised_before_there_were_tasks() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(108, 4), nn.Softmax(1))
    labels = torch.arange(64) % 4
    expected = F.cross_entropy(module(X).clamp_min(1e-7).log(), labels)
    assert torch.equal(classification().loss(module(X), labels), expected)
    assert torch.equal(classification().scoring(module(X), labels), expected)


def apart(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(outputs, targets)


@pytest.mark.parametrize("own", ["loss", "step", "loss and saliency"])
def test_a_distance_from_the_dense_network_is_not_what_channels_are_scored_by(own: str) -> None:
    """It has no gradient there."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    dense = copy.deepcopy(module)
    network, data = read_network(module, (X[:1],)), DataSet(Arrays(X, X), Arrays(X, X), "images", kind="other")

    def step(student: nn.Module, batch: Batch) -> Tensor:
        return apart(student(batch.inputs), dense(batch.inputs).detach())

    options = {
        "loss": {"loss": apart},
        "step": {"step": step},
        "loss and saliency": {"loss": apart, "saliency": lambda outputs, targets: outputs[:, 0].square().mean()},
    }
    task = Task("likeness", mean_metric("distance", apart, ""), targets="dense", **options[own])
    found = score(network, "taylor", data, task)["0"]
    assert (found > 0).all()
    strong = score(network, "taylor", data, Task("none", task.metric, targets="dense"))["0"]
    assert (found == strong).all() == (own != "loss and saliency")


def test_a_task_with_a_step_is_scored_by_its_saliency() -> None:
    """A loss for scoring is the user's word, whatever the training minimises."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    network, data = read_network(module, (X[:1],)), DataSet(Arrays(X, X), Arrays(X, X), "images", kind="other")
    metric = mean_metric("distance", apart, "")
    own = {"saliency": lambda outputs, targets: outputs[:, 0].square().mean()}
    both = Task("both", metric, step=lambda student, batch: student(batch.inputs).abs().mean(), **own)
    found, expected = (score(network, "taylor", data, task)["0"] for task in (both, Task("own", metric, **own)))
    assert (found == expected).all()


def test_the_loss_that_channels_are_scored_by_is_tried_beside_a_step() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    data = DataSet(Arrays(X, X), Arrays(X, X), "images", kind="other")

    def wrong(outputs: Tensor, targets: Tensor) -> Tensor:
        raise ValueError("a loss that fails")

    metric = mean_metric("size", lambda outputs, targets: outputs.mean(1), "")
    task = Task("own", metric, step=lambda student, batch: student(batch.inputs).mean(), saliency=wrong)
    with pytest.raises(BadInputError, match="task 'own' fails on 3 samples: ValueError: a loss that fails"):
        require_data(module, (X[:1],), 4, data, task)


class Head(nn.Module):
    """Yields features in training mode and their sum otherwise, as heads of detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.drop = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        x = self.drop(self.bn(self.conv(x)))
        return [x] if self.training else x.sum((1, 2, 3))


def by_features(module: nn.Module, batch: Batch) -> Tensor:
    (features,) = module(batch.inputs)
    return features.square().mean()


def test_a_loss_sees_what_the_network_yields_in_use() -> None:
    torch.manual_seed(0)
    module, teacher = Head().eval(), Head().eval()
    assert not yields_the_same(module, X)
    assert yields_the_same(two(), (X, X[:, :2, 0, 0]))
    data = DataSet(Stacked(X), Stacked(X), "bare", kind="none")
    task = load_task("distillation")
    before = module.bn.running_mean.clone()
    history = train(module, with_targets(teacher, data, task), epochs=2, lr=0.01, batch_size=16, task=task)
    assert history.loss[1] < history.loss[0]
    assert not torch.equal(before, module.bn.running_mean), "batch norms were trained all the same"


def error_of(metric: str = "height") -> Metric:
    return mean_metric(metric, lambda outputs, targets: outputs.abs(), "m", higher_is_better=False)


def test_a_step_sees_training_outputs_and_its_metric_the_others() -> None:
    torch.manual_seed(0)
    module = Head().eval()
    with training_outputs(module):
        assert isinstance(module(X), list)
        assert torch.equal(module(X)[0], module(X)[0]), "no dropout, no statistics of the batch"
    assert not any(m.training for m in module.modules())
    data = DataSet(Stacked(X), Stacked(X), "bare", kind="none")
    task = Task("heights", error_of(), step=by_features)
    history = train(module, data, epochs=3, lr=0.1, batch_size=16, task=task)
    assert history.loss[-1] < history.loss[0]
    assert history.metric_name == "height"
    with pytest.raises(UsageError, match="a loss and a step"):
        Task("both", error_of(), loss=lambda o, t: o, step=by_features)


def test_a_trainer_of_others_trains_in_place_and_is_not_trusted() -> None:
    labels = torch.arange(64) % 4
    data = DataSet(Arrays(X, labels), Arrays(X, labels), "labelled")
    plain = classification()

    def run(trainer: object) -> tuple[nn.Module, dict[str, object]]:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(108, 4))
        task = Task("mine", plain.metric, finetune=trainer)
        return module, finetuned(module, data, task, epochs=2, lr=0.1, batch_size=8, seed=0)

    def trains(module: nn.Module, data: DataSet, *, epochs: int, **others: object) -> dict[str, object]:
        module.double()
        module[1].weight.requires_grad_(False)
        with torch.no_grad():
            module[1].bias[3] = 100.0
        return {"loss": [epochs, 1], "note": "text"}

    module, history = run(trains)
    assert history == {"loss": [2.0, 1.0], "note": [], "metric": [0.25], "metric_name": "accuracy"}
    assert module[1].weight.dtype == torch.float32
    assert module[1].weight.requires_grad
    assert not module.training

    def breaks(module: nn.Module, data: DataSet, **others: object) -> None:
        with torch.no_grad():
            module[1].weight.fill_(float("nan"))

    def fails(module: nn.Module, data: DataSet, **others: object) -> None:
        with torch.no_grad():
            module[1].weight.fill_(1.0)
        raise RuntimeError("no such GPU")

    def swaps(module: nn.Module, data: DataSet, **others: object) -> None:
        module[1] = nn.Linear(108, 5)

    for trainer, match_ in (
        (breaks, "not finite"),
        (fails, "failed: RuntimeError: no such GPU"),
        (swaps, "changed the"),
    ):
        with pytest.raises(BadInputError, match=match_):
            run(trainer)
    torch.manual_seed(0)
    fresh = nn.Sequential(nn.Flatten(), nn.Linear(108, 4))
    kept = nn.Sequential(nn.Flatten(), nn.Linear(108, 4))
    kept.load_state_dict(fresh.state_dict())
    with pytest.raises(BadInputError):
        finetuned(kept, data, Task("mine", plain.metric, finetune=fails), epochs=1)
    assert torch.equal(kept[1].weight, fresh[1].weight), "what it broke was put back"
