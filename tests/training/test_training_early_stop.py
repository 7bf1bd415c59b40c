"""Early stop chooses by samples that no step saw, never by the test half; bfloat16 trains weights of float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune.errors import UsageError
from edgeprune.progress import time_left
from edgeprune.training.companion import Silent
from edgeprune.training.data import DataSet
from edgeprune.training.early_stop import HeldOut
from edgeprune.training.finetune import train
from edgeprune.training.halves import Arrays
from edgeprune.training.precision import lowered, raised
from edgeprune.training.sparse.registry import sparsities_of
from edgeprune.training.tasks.classification import classification
from edgeprune.training.tasks.task import Score, Task, mean_metric


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def points(n: int, seed: int) -> Arrays:
    """Images of one pixel each, whose number is their value: a network can tell which samples it sees."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, 1, 1, generator=g)
    return Arrays(x, (x[:, 0, 0, 0] > 0).long())


DATA = DataSet(points(60, 0), points(40, 1), "points")


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


class Scripted(nn.Module):
    """A network whose figure on samples that were held out follows a script, one entry an epoch; it counts steps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 4))
        self.steps = nn.Buffer(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled():
            self.steps += 1
        return x.flatten(1) @ self.weight.T + self.steps.detach() * 0


def scripted(figures: list[float], *, higher: bool = True, size: int = 6, **more: Any) -> tuple[nn.Module, Any]:
    """Train by a task whose metric reads a script on the held-out samples, and 1, 2, 3, … on the test half."""
    asked: list[float] = []
    module = Scripted()

    class Reads:
        def __init__(self) -> None:
            self.count = 0

        def update(self, outputs: Any, targets: Any) -> None:
            self.count += len(targets)

        def compute(self) -> float:
            if self.count == size:  # what is held out
                asked.append(self.count)
                return figures[len(asked) - 1]
            return float(module.steps)

    metric = mean_metric("figure", lambda o, t: 0.0, "", higher_is_better=higher)
    loss = classification().loss
    task = Task("scripted", type(metric)("figure", Reads, "", higher), loss)
    history = train(module, DATA, task=task, batch_size=54, epochs=len(figures), **more)
    return module, history


def test_the_best_epoch_is_put_back_and_training_ends_after_the_patience() -> None:
    module, history = scripted([0.1, 0.2, 0.3, 0.6, 0.9, 0.5, 0.9, 0.8, 1.0, 1.0], early_stop=3)
    # One step an epoch: the count of steps among the weights says which epoch they are of.
    assert module.steps == history.chosen == 5  # the first of two alike
    assert history.validation == [0.1, 0.2, 0.3, 0.6, 0.9, 0.5, 0.9, 0.8]
    assert history.metric == [1, 2, 3, 4, 5, 6, 7, 8], "the test half gets better all the time, and has no say"
    assert history.to_json()["chosen"] == 5


def test_of_errors_the_lowest_is_best() -> None:
    module, history = scripted([0.5] * 3 + [0.4, 0.1, 0.2, 0.3, 0.0], higher=False, early_stop=2)
    assert module.steps == history.chosen == 5
    assert len(history.loss) == 7


def test_epochs_in_which_the_learning_rate_rises_do_not_count() -> None:
    # Three tenths of ten epochs: the first three are neither chosen nor waited for.
    module, history = scripted([0.9, 0.8, 0.7, 0.5, 0.4, 0.3, 0, 0, 0, 0], early_stop=2)
    assert module.steps == history.chosen == 4
    assert len(history.loss) == 6


def test_epochs_before_all_that_goes_is_gone_do_not_count() -> None:
    class Late(Silent):
        judged: list[Score]

        def begin(self, module: nn.Module, steps: int) -> None:
            self.done, self.judged = 0, []

        def stepped(self, module: nn.Module, lr: float) -> None:
            self.done += 1

        def epoch_ended(self, module: nn.Module, score: Score) -> None:
            self.judged.append(score)

        @property
        def settled(self) -> bool:
            return self.done >= 6

    late = Late()
    module, history = scripted([0.9] * 5 + [0.2, 0.3, 0.1, 0.1, 0.1], early_stop=3, companions=[late])
    assert module.steps == history.chosen == 7
    assert [s.value for s in late.judged] == history.validation, "companions are told what was held out"


@pytest.mark.parametrize("asked", ["weight:remove=0.6", "block:remove=0.6,rows=2", "l1:target=0.6", "kept"])
def test_what_is_chosen_is_as_sparse_as_was_asked_for(asked: str) -> None:
    (sparsity,) = sparsities_of(asked)
    sparsity.prepare()
    module = net()
    history = train(module, DATA, epochs=10, batch_size=10, lr=0.2, early_stop=1, validation=0.2, companions=[sparsity])
    zeros = sum(int((p == 0).sum()) for p in module.parameters() if p.dim() > 1)
    assert zeros >= (0 if asked == "kept" else 0.55 * 48)
    assert history.chosen > (3 if asked == "kept" else 5)


def test_no_step_sees_what_is_held_out_and_the_test_half_chooses_nothing() -> None:
    seen, asked = set[float](), list[set[float]]()

    class Watching(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            values = set(x[:, 0, 0, 0].tolist())
            seen.update(values) if self.training else asked.append(values)
            return super().forward(x)

    module = Watching(*net())
    history = train(module, DATA, epochs=4, early_stop=4, validation=0.25, seed=1)
    whole, test = set(DATA.train.x[:, 0, 0, 0].tolist()), set(DATA.test.x[:, 0, 0, 0].tolist())
    assert len(seen) == 45
    assert whole - seen in asked
    assert seen < whole
    # Other labels in the test half change the figures that are told, and neither the weights nor the choice.
    other = Watching(*net())
    wrong = DataSet(DATA.train, Arrays(DATA.test.x, 1 - DATA.test.y), "points")
    again = train(other, wrong, epochs=4, early_stop=4, validation=0.25, seed=1)
    assert again.accuracy == pytest.approx([1 - a for a in history.accuracy])
    assert (again.chosen, again.validation) == (history.chosen, history.validation)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))
    assert test in asked


def test_a_penalty_that_judges_by_figures_gets_none_of_the_test_half() -> None:
    told: list[Score] = []

    class Judge(Silent):
        @property
        def judges(self) -> bool:
            return True

        def epoch_ended(self, module: nn.Module, score: Score) -> None:
            told.append(score)

    module = net()
    history = train(module, DATA, epochs=2, companions=[Judge()])
    assert [s.samples for s in told] == [6, 6]
    assert history.chosen == 0, "all epochs count: no early stop was asked for"
    assert [s.value for s in told] == history.validation
    assert "chosen" not in history.to_json()


@pytest.mark.parametrize("settings", [{"early_stop": 0}, {"early_stop": 1, "validation": 0.0}, {"precision": "int8"}])
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        train(net(), DATA, epochs=1, **settings)


def test_without_an_epoch_that_counts_nothing_is_put_back() -> None:
    held = HeldOut(DATA.test, classification(), 2)
    module = net()
    held.judge(module, Score("accuracy", 0.9), 1, counts=False)
    before = [p.clone() for p in module.parameters()]
    held.put_back(module)
    assert not held.over
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that multiplies bfloat16; torch computes the same on others, slowly."""
    monkeypatch.setattr("edgeprune.training.precision.host_features", lambda: ("avx512_bf16",))


def test_bf16_trains_weights_of_float32(native: None) -> None:
    kinds = set[torch.dtype]()

    class Watching(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            found = super().forward(x)
            kinds.add((found.dtype, self.training))  # type: ignore[arg-type]
            return found

    modules = [Watching(*net()) for _ in range(3)]
    histories = [
        train(m, DATA, epochs=8, lr=0.3, batch_size=15, precision=p)
        for m, p in zip(modules, ("bf16", "bf16", "float32"), strict=True)
    ]
    assert kinds == {(torch.bfloat16, True), (torch.float32, False), (torch.float32, True)}
    low, again, high = modules
    assert all(p.dtype == torch.float32 for p in low.state_dict().values())
    assert any(torch.any(p.bfloat16().float() != p) for p in low.parameters()), "no weight was rounded"
    assert all(torch.equal(a, b) for a, b in zip(low.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(low.parameters(), high.parameters(), strict=True))
    assert histories[0].loss[-1] < 0.5 * histories[0].loss[0]
    # The first mean loss, before rounding adds up: 8 bits of mantissa.
    assert histories[0].loss[0] == pytest.approx(histories[2].loss[0], rel=0.02)


def test_bf16_with_a_teacher_and_a_step_of_the_task(native: None) -> None:
    teacher = net()
    taught = net()
    with torch.no_grad():
        taught[1].weight.mul_(0.5)
    train(taught, DATA, epochs=2, teacher=teacher, precision="bf16")
    metric = classification().metric
    kinds: list[torch.dtype] = []

    def step(module: nn.Module, batch: Any) -> Tensor:
        found = module(batch.inputs)
        kinds.append(found.dtype)
        return nn.functional.cross_entropy(found.float(), batch.targets)

    stepped = net()
    train(stepped, DATA, epochs=2, task=Task("own", metric, step=step), precision="bf16")
    assert set(kinds) == {torch.bfloat16}
    for module in (taught, stepped):
        assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in module.parameters())


def test_what_is_lowered_is_rounded_as_bfloat16_is() -> None:
    layer, x = nn.Linear(8, 4), torch.rand(3, 8)
    with lowered("bf16"):
        found = raised({"a": [layer(x)]})["a"][0]
    with lowered("float32"):
        assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    exact = x.double().numpy() @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
    assert found.dtype == torch.float32
    assert 0 < np.abs(found.detach().numpy() - exact).max() < 4 * 2**-8


def test_time_that_is_left() -> None:
    assert [time_left(s) for s in (0, 4.9, 5, 99.4, 120, 3600)] == [
        "",
        "",
        ", 5 s left",
        ", 99 s left",
        ", 2 min left",
        ", 60 min left",
    ]
