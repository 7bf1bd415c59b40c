from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune.errors import BadInputError, UsageError
from edgeprune.training.augment import shifts
from edgeprune.training.data import DataSet
from edgeprune.training.distill import distil_loss
from edgeprune.training.evaluate import accuracy, accuracy_from_logits, predict
from edgeprune.training.finetune import train
from edgeprune.training.recalibrate import recalibrate


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stripes(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of horizontal (0), vertical (1) or diagonal (2) stripes in noise."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (n,), generator=g)
    rows, columns = torch.arange(8.0)[:, None], torch.arange(8.0)[None, :]
    phases = torch.stack([rows + 0 * columns, columns + 0 * rows, rows + columns])
    shift = torch.randint(0, 4, (n, 1, 1), generator=g)
    x = torch.sin((phases[y] + shift) * math.pi / 2) + 0.3 * torch.randn(n, 8, 8, generator=g)
    return x[:, None], y


DATA = DataSet(stripes(256, 0), stripes(128, 1), "stripes")


def net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(16, 3),
        )


def same(a: nn.Module, b: nn.Module) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return all(torch.equal(x[k], y[k]) for k in x)


def test_training_learns_and_reports() -> None:
    module = net()
    before = accuracy(module, *DATA.test)
    history = train(module, DATA, epochs=6, lr=0.1, batch_size=32)
    assert before < 0.6
    assert history.accuracy[-1] > 0.9
    assert accuracy(module, *DATA.test) == history.accuracy[-1]
    assert len(history.loss) == 6
    assert history.loss[-1] < history.loss[0]
    assert history.to_json() == {"loss": history.loss, "accuracy": history.accuracy}
    assert not module.training
    assert all(p.is_contiguous() for p in module.parameters()), "safetensors needs contiguous weights"


def test_the_same_seed_gives_the_same_weights_bit_for_bit() -> None:
    modules = [net() for _ in range(3)]
    for i, (module, seed) in enumerate(zip(modules, (5, 5, 6), strict=True)):
        torch.manual_seed(i)  # the global state must not matter
        before = torch.get_rng_state()
        train(module, DATA, epochs=2, batch_size=64, seed=seed, augment=shifts(1, flip=True))
        assert torch.equal(torch.get_rng_state(), before), "the global state must not change"
    assert same(modules[0], modules[1])
    assert not same(modules[0], modules[2])


def test_a_teacher_teaches_without_labels() -> None:
    teacher = net(1)
    train(teacher, DATA, epochs=6, lr=0.1, batch_size=32)
    wrong = DataSet((DATA.train[0], torch.zeros_like(DATA.train[1])), DATA.test, "unlabelled")
    student, control = net(2), net(2)
    train(student, wrong, epochs=6, lr=0.1, batch_size=32, teacher=teacher, distil_weight=1.0)
    train(control, wrong, epochs=6, lr=0.1, batch_size=32)
    agreement = (predict(student, DATA.test[0]).argmax(1) == predict(teacher, DATA.test[0]).argmax(1)).float().mean()
    assert agreement > 0.85
    assert accuracy(control, *DATA.test) < 0.5


def test_teacher_with_and_without_a_table_of_its_answers_agree() -> None:
    teacher = net(1)
    kept = copy.deepcopy(teacher)
    a, b = net(2), net(2)
    train(a, DATA, epochs=1, batch_size=64, teacher=teacher)
    train(b, DATA, epochs=1, batch_size=64, teacher=teacher, augment=lambda x, _: x)
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
    assert same(teacher, kept)


def test_divergence_is_an_error_and_leaves_the_weights_alone() -> None:
    module = net()
    before = copy.deepcopy(module)
    with pytest.raises(BadInputError, match="diverged") as caught:
        train(module, DATA, epochs=50, lr=1e12, batch_size=32)
    assert "learning rate" in caught.value.hint
    assert same(module, before)
    assert not module.training


def test_an_interruption_leaves_the_weights_alone() -> None:
    module = net()
    before = copy.deepcopy(module)

    def interrupt(x: Tensor, generator: torch.Generator) -> Tensor:
        if not same(module, before):
            raise KeyboardInterrupt
        return x

    with pytest.raises(KeyboardInterrupt):
        train(module, DATA, epochs=1, batch_size=32, augment=interrupt)
    assert same(module, before)


def test_a_last_batch_of_one_is_no_trouble() -> None:
    data = DataSet((DATA.train[0][:33], DATA.train[1][:33]), DATA.test, "odd")
    module = nn.Sequential(nn.Conv2d(1, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))
    train(module, data, epochs=1, batch_size=32)


@pytest.mark.parametrize(
    "settings",
    [{"epochs": 0}, {"lr": 0.0}, {"lr": math.nan}, {"batch_size": 0}, {"distil_weight": 1.5}, {"temperature": 0.0}],
)
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(settings))):
        train(net(), DATA, **{"epochs": 1, "teacher": net(), **settings})


def test_too_few_outputs() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(BadInputError, match="3 classes, the network 2 outputs"):
        train(module, DATA, epochs=1)


def test_distillation_by_hand() -> None:
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, math.log(9.0)]])
    # At T=1 the teacher says (0.1, 0.9), the student (0.5, 0.5).
    expected = 0.1 * math.log(0.1 / 0.5) + 0.9 * math.log(0.9 / 0.5)
    assert distil_loss(student, teacher, 1.0).item() == pytest.approx(expected, rel=1e-5)
    # At T=2 the teacher says (0.25, 0.75); the factor is 4.
    expected = 4 * (0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5))
    assert distil_loss(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-5)
    assert distil_loss(teacher, teacher, 3.0).item() == pytest.approx(0.0, abs=1e-6)
    image = distil_loss(student[..., None, None].expand(2, 2, 3, 3), teacher[..., None, None].expand(2, 2, 3, 3), 2.0)
    assert image.item() == pytest.approx(expected, rel=1e-5)


def test_accuracy_from_logits() -> None:
    logits = np.array([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert accuracy_from_logits(logits, np.array([1, 0, 1, 0])) == 0.75
    assert accuracy_from_logits(logits[:, :, None, None], torch.tensor([1, 0, 0, 0])[:, None, None]) == 0.5
    with pytest.raises(BadInputError, match="do not go with"):
        accuracy_from_logits(logits, np.array([1, 0]))
    with pytest.raises(BadInputError, match="NaN"):
        accuracy_from_logits(np.full((1, 2), np.nan), np.array([0]))


def test_predict_keeps_modes_and_batches_do_not_matter() -> None:
    module = net().train()
    module[1].eval()
    whole, parts = predict(module, DATA.test[0]), predict(module, DATA.test[0], batch_size=7)
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)
    assert module.training
    assert not module[1].training


def test_recalibration_measures_the_average_over_batches() -> None:
    module = net().eval()
    weights = {k: v.clone() for k, v in module.named_parameters()}
    x = 5 * DATA.train[0]
    assert recalibrate(module, torch.split(x, 64)) == 1
    expected = torch.stack([module[0](part).mean((0, 2, 3)) for part in torch.split(x, 64)]).mean(0)
    torch.testing.assert_close(module[1].running_mean, expected)
    assert module[1].momentum == 0.1
    assert not any(m.training for m in module.modules())
    assert all(torch.equal(weights[k], v) for k, v in module.named_parameters())
    recalibrate(module, torch.split(x, 64))
    torch.testing.assert_close(module[1].running_mean, expected)


def test_recalibration_gone_wrong_puts_the_old_statistics_back() -> None:
    module = net()
    before = copy.deepcopy(module)
    with pytest.raises(BadInputError, match="no batches"):
        recalibrate(module, [])
    assert same(module, before)
    with pytest.raises(BadInputError, match="'1'"):
        recalibrate(module, [torch.full((2, 1, 8, 8), math.nan)])
    assert same(module, before)
    with pytest.raises(RuntimeError):
        recalibrate(module, [DATA.train[0], torch.zeros(2, 9, 8, 8)])
    assert same(module, before)
    assert recalibrate(nn.Linear(2, 2), []) == 0


def test_shifts_move_flip_and_fill_with_zeros() -> None:
    x = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3).repeat(200, 1, 1, 1)
    moved = shifts(1, flip=True)(x, torch.Generator().manual_seed(0))
    assert moved.shape == x.shape
    kinds = {tuple(m.flatten().tolist()) for m in moved}
    assert len(kinds) == 18, "nine shifts, mirrored or not"
    assert (1.0, 2, 3, 4, 5, 6, 7, 8, 9) in kinds
    assert (3.0, 2, 1, 6, 5, 4, 9, 8, 7) in kinds
    assert (5.0, 6, 0, 8, 9, 0, 0, 0, 0) in kinds
    assert torch.equal(shifts(0)(x, torch.Generator()), x)
