"""Twin training: the full network learns beside its twin, teaches it, and is left as it was given."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from edgeprune.errors import UsageError
from edgeprune.training.data import DataSet
from edgeprune.training.finetune import train
from edgeprune.training.halves import Arrays, Batch
from edgeprune.training.tasks.classification import classification
from edgeprune.training.tasks.distillation import distillation
from edgeprune.training.twin import Twin


def net(width: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 3))


def data() -> DataSet:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(128, 6, generator=g)
    y = x[:, :3].argmax(1)
    return DataSet(Arrays(x[:96], y[:96]), Arrays(x[96:], y[96:]), "largest")


def test_a_step_of_the_twin_is_one_of_sgd() -> None:
    full, batch = net(16), Batch(torch.randn(8, 6), torch.randint(3, (8,)))
    twin = Twin(full, classification())
    twin.stepped(full, lr=0.5)
    said = twin.taught(batch)
    other = copy.deepcopy(full).train()
    expected = other(batch.inputs)
    torch.testing.assert_close(said, expected.detach())
    torch.autograd.backward(nn.functional.cross_entropy(expected, batch.targets))
    for ours, theirs in zip(twin.module.parameters(), other.parameters(), strict=True):
        assert theirs.grad is not None
        # The first step with Nesterov's momentum: 1.9 times the gradient.
        torch.testing.assert_close(ours.detach(), theirs.detach() - 0.05 * 1.9 * theirs.grad)


def test_the_teacher_that_was_given_is_untouched_and_the_small_one_learns() -> None:
    full, small = net(32), net(8, 1)
    before = copy.deepcopy(full.state_dict())
    history = train(small, data(), epochs=30, lr=0.1, batch_size=32, teacher=full, twin=True)
    assert all(torch.equal(before[k], v) for k, v in full.state_dict().items())
    # The full network knew nothing at first: it learned what it taught.
    assert history.accuracy[-1] > 0.8
    alone = net(8, 1)
    train(alone, data(), epochs=30, lr=0.1, batch_size=32, teacher=full, distil_weight=0.5)
    assert not torch.equal(alone[0].weight, small[0].weight)  # type: ignore[arg-type, index]


def test_twins_are_made_alike_and_go_on_alike() -> None:
    made = []
    for _ in range(2):
        small = net(8, 1)
        train(small, data(), epochs=3, batch_size=32, teacher=net(32), twin=True, seed=4)
        made.append(small.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(made[0].values(), made[1].values(), strict=True))
    twin = Twin(net(16), classification())
    batches = [Batch(torch.randn(8, 6), torch.randint(3, (8,))) for _ in range(3)]
    for batch in batches[:2]:
        twin.stepped(twin.module, 0.1)
        twin.taught(batch)
    other = Twin(net(16, 9), classification())
    other.restore(other.module, copy.deepcopy(twin.state()))
    torch.testing.assert_close(other.taught(batches[2]), twin.taught(batches[2]), rtol=0, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(twin.module.parameters(), other.module.parameters(), strict=True))


def test_a_task_without_a_loss_has_no_twin() -> None:
    with pytest.raises(UsageError, match="no loss"):
        Twin(net(8), distillation())
