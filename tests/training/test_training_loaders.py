"""Torch data sets and loaders of any kind, several inputs, and targets that are no labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from edgeprune.errors import BadInputError, ModelLoadError
from edgeprune.training import data as data_module
from edgeprune.training.data import data_of, load_data
from edgeprune.training.halves import Arrays, Stacked, spread
from edgeprune.training.preflight import in_order, require_data
from edgeprune.training.sources.loaders import Samples
from edgeprune.training.tasks.registry import load_task
from edgeprune.training.tasks.task import Task, mean_metric

X = torch.randn(10, 3, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(10) % 3


class Counted(Dataset[Any]):
    """Samples that are made when they are asked for; each knows how often."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples, self.asked = samples, 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> Any:
        self.asked += 1
        if self.samples[i] is None:
            raise OSError("disk on fire")
        return self.samples[i]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield from zip(X, Y.float(), strict=True)


def whole(half: Any) -> Any:
    return half.take(torch.arange(half.size))


def test_small_sets_of_images_and_labels_are_read_once() -> None:
    source = Counted(list(zip(X, Y.tolist(), strict=True)))
    data = data_of((source, source), "d")
    assert isinstance(data.train, Arrays)
    assert torch.equal(data.train.x, X)
    asked = source.asked
    whole(data.train)
    assert source.asked == asked


def test_large_ones_are_read_as_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "MEMORY_BYTES", 100)
    source = Counted(list(zip(X, Y.tolist(), strict=True)))
    data = data_of({"train": source, "val": DataLoader(source, batch_size=3)}, "d")
    assert (type(data.train), data.kind, data.train.fixed) == (Samples, "labels", False)
    assert source.asked <= 8, "nothing but first samples was read"
    assert torch.equal(whole(data.test).inputs, X)
    assert torch.equal(whole(data.test).targets, Y)


def test_one_set_is_split_by_the_seed() -> None:
    data, again, other = (data_of(TensorDataset(X, Y), "d", seed) for seed in (0, 0, 1))
    assert (data.train.size, data.test.size) == (8, 2)
    assert torch.equal(whole(data.test).inputs, whole(again.test).inputs)
    assert not torch.equal(whole(data.test).inputs, whole(other.test).inputs)


def test_kinds_of_targets_are_told() -> None:
    boxes = [{"boxes": torch.zeros(n, 4), "labels": torch.zeros(n)} for n in (2, 2, 1)]
    for samples, kind in (
        ([(x,) for x in X], "none"),
        (list(zip(X[:3], boxes, strict=True)), "boxes"),
        ([{"pixels": x, "labels": 1} for x in X], "labels"),
    ):
        source = Counted(samples)
        assert data_of((source, source), "d").kind == kind
    real = Counted(list(zip(X, Y.float().tolist(), strict=True)))
    assert data_of((real, real), "d", free=True).kind == "other"
    with pytest.raises(ModelLoadError, match="labels are integers") as caught:
        data_of((real, real), "d")
    assert "give a task" in caught.value.hint
    two = data_of((Counted(list(zip(X[:3], boxes, strict=True))),) * 2, "d")
    assert [len(t["boxes"]) for t in two.train.take(torch.tensor([0, 1])).targets] == [2, 2], "never stacked"


def test_collate_functions_are_used_and_streams_are_read_once() -> None:
    doubled = DataLoader(TensorDataset(X), batch_size=2, collate_fn=lambda rows: torch.stack([2 * x for (x,) in rows]))
    assert torch.equal(whole(data_of((doubled, doubled), "d").train).inputs, 2 * X)
    data = data_of((Stream(), DataLoader(Stream(), batch_size=3)), "d", free=True)
    assert (type(data.train), data.kind) == (Stacked, "other")
    assert torch.equal(whole(data.test).targets, Y.float())


def test_what_cannot_be_read_is_named() -> None:
    with pytest.raises(ModelLoadError, match=r"train is a list, not a torch DataLoader or Dataset"):
        data_of(([1], [2]), "d")
    with pytest.raises(ModelLoadError, match="does not yield pairs"):
        data_of((Counted(["a"]),) * 2, "d")
    with pytest.raises(ModelLoadError, match="is empty"):
        data_of((Counted([]),) * 2, "d")
    burning = data_of((Counted([(x,) for x in X[:3]] + [None]),) * 2, "d")
    with pytest.raises(BadInputError, match=r"sample 3 of .* cannot be read: OSError: disk on fire"):
        whole(burning.train)


def test_an_npz_file_without_labels_or_with_several_inputs(tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", x_train=X, x_test=X)
    assert load_data(str(tmp_path / "bare.npz")).kind == "none"
    parts = {f"x_{half}.{name}": v for half in ("train", "test") for name, v in (("b", X[:, 0]), ("a", Y.numpy()))}
    np.savez(tmp_path / "two.npz", y_train=np.ones((10, 2)), y_test=np.ones((10, 2)), **parts)
    data = load_data(str(tmp_path / "two.npz"), free=True)
    assert data.kind == "other"
    ordered = in_order(data, (torch.zeros(1, dtype=torch.long), torch.zeros(1, 4, 4)), ("a", "b"))
    first, second = whole(ordered.train).inputs
    assert torch.equal(first, Y)
    assert torch.equal(second, X[:, 0])
    with pytest.raises(BadInputError, match="the network takes a, c, and the data have b, a"):
        whole(in_order(data, (torch.zeros(1), torch.zeros(1)), ("a", "c")).train)


def test_bytes_become_what_the_network_takes() -> None:
    data = data_of({"x_train": (X * 10).to(torch.uint8), "x_test": (X * 10).to(torch.uint8)}, "d")
    assert whole(in_order(data, (X[:1],), ("x",)).train).inputs.dtype == torch.float32


def test_arrays_that_do_not_go_together() -> None:
    for arrays, match in (
        ({"x_train": X, "x_test": X, "y_train": Y[:3], "y_test": Y}, "different numbers of samples"),
        ({"x_train": X * float("nan"), "x_test": X}, "NaN"),
        ({"x_train": "abc", "x_test": X}, "no array of numbers"),
    ):
        with pytest.raises(ModelLoadError, match=match):
            data_of(arrays, "d", free=True)


def test_samples_stand_for_all_of_the_data() -> None:
    for half in (Arrays(X, Y), Stacked(X, Y)):
        assert sorted(spread(half, 4).tolist()) == [0, 3, 6, 9]
        assert sorted(spread(half, 50).tolist()) == list(range(10))


def test_a_task_that_does_not_take_the_data_is_told_before_training() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    data = data_of({"x_train": X, "y_train": X.mean((2, 3)), "x_test": X, "y_test": X.mean((2, 3))}, "d", free=True)
    require_data(Net(), (X[:1],), 3, data, load_task("regression"))
    with pytest.raises(BadInputError, match="task 'language' and the data do not go together"):
        require_data(Net(), (X[:1],), 3, data, load_task("language"))
    mine = Task("mine", mean_metric("m", lambda o, t: o), loss=lambda o, t: o["no"])
    with pytest.raises(BadInputError, match="task 'mine' fails on 3 samples"):
        require_data(Net(), (X[:1],), 3, data, mine)
