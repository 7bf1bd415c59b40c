"""What is told before anything is trained: shapes, classes, and sizes of one sample that are written in the code."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.errors import BadInputError
from edgeprune.training.data import DataSet
from edgeprune.training.preflight import require_batches, require_data

IMAGES = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0))


class Shuffled(nn.Module):
    """A channel shuffle with the batch written in it, or taken from the input."""

    def __init__(self, batch: int | None) -> None:
        super().__init__()
        self.conv, self.head, self.batch = nn.Conv2d(4, 8, 3, padding=1), nn.Linear(8, 3), batch

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x.reshape(x.shape[0] if self.batch is None else self.batch, 2, 4, 8, 8).transpose(1, 2).flatten(1, 2)
        return self.head(x.mean((2, 3)))


class Mixed(nn.Module):
    """Runs on any batch, and takes all of it for one sample's features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).reshape(1, 8, -1).mean(2)


class Normalised(nn.Module):
    """Each sample's output depends on the others'."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x.mean((2, 3)), dim=0)


def data(classes: int = 3, shape: tuple[int, ...] = (4, 8, 8)) -> DataSet:
    half = torch.zeros(4, *shape), torch.arange(4) % classes
    return DataSet(half, half, "few")


def test_a_network_that_follows_its_batch_passes() -> None:
    require_data(Shuffled(None), (IMAGES[:1],), 3, data())


def test_a_batch_of_one_that_is_written_in_the_code_is_refused_with_its_line() -> None:
    with pytest.raises(BadInputError, match=r"not on a batch of 3: shape .*test_training_preflight.py:\d+\)") as caught:
        require_data(Shuffled(1), (IMAGES[:1],), 3, data())
    assert "x.shape[0]" in caught.value.hint


@pytest.mark.parametrize("module", [Mixed(), Normalised()])
def test_a_network_that_mixes_a_batch_is_refused(module: nn.Module) -> None:
    with pytest.raises(BadInputError, match="depends on what else is in the batch"):
        require_batches(module, IMAGES[:3])


def test_the_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    require_batches(module, IMAGES[:3])
    assert module.training
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_other_shapes_and_too_many_classes() -> None:
    with pytest.raises(BadInputError, match=r"takes \(1, 4, 8, 8\), data set 'few' has \(1, 4, 8, 9\)"):
        require_data(Shuffled(None), (IMAGES[:1],), 3, data(shape=(4, 8, 9)))
    with pytest.raises(BadInputError, match="has 4 classes, the network 3 outputs"):
        require_data(Shuffled(None), (IMAGES[:1],), 3, data(classes=4))
