from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeprune.errors import ModelLoadError
from edgeprune.training.data import KEYS, check, load_data
from edgeprune.training.halves import Stacked, batches_of
from edgeprune.training.teach import labelled_by_teacher


def arrays(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    good: dict[str, Any] = {
        "x_train": rng.random((6, 1, 4, 5)),
        "y_train": np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8),
        "x_test": rng.random((3, 1, 4, 5), dtype=np.float32),
        "y_test": np.array([2, 1, 0], dtype=np.int32),
    }
    return {**good, **changes}


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "digits.npz", **arrays())
    data = load_data(str(tmp_path / "digits.npz"))
    assert data.name == "digits"
    assert data.train[0].dtype == torch.float32
    assert data.train[1].dtype == torch.int64
    assert data.classes == 3
    assert data.input_shape == (1, 1, 4, 5)
    assert data.test[1].tolist() == [2, 1, 0]


def test_factories(tmp_path: Path) -> None:
    file = tmp_path / "data.py"
    file.write_text(
        "import torch\n"
        "def mapping():\n"
        "    x = torch.rand(4, 1, 2, 2)\n"
        "    return dict(x_train=x, y_train=[0, 1, 0, 1], x_test=x, y_test=[0, 1, 0, 1])\n"
        "class Data:\n"
        "    def __init__(self):\n"
        "        self.__dict__.update(mapping())\n"
        "def partial():\n"
        "    return {'x_train': 1}\n"
    )
    first, second, third = (load_data(f"{file}:mapping", s) for s in (1, 1, 2))
    assert torch.equal(first.train[0], second.train[0])
    assert not torch.equal(first.train[0], third.train[0])
    assert load_data(f"{file}:Data").classes == 2
    with pytest.raises(ModelLoadError, match="no x_test, y_test"):
        load_data(f"{file}:partial")


class Payload:
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.folder,)


def test_fault_1_pickles_in_npz_are_never_loaded(tmp_path: Path) -> None:
    evil = np.array([Payload(str(tmp_path / "ran"))], dtype=object)
    np.savez(tmp_path / "evil.npz", **arrays(x_train=evil))
    with pytest.raises(ModelLoadError, match="plain arrays"):
        load_data(str(tmp_path / "evil.npz"))
    (tmp_path / "raw.npz").write_bytes(evil.dumps())
    with pytest.raises(ModelLoadError, match="plain arrays"):
        load_data(str(tmp_path / "raw.npz"))
    assert not (tmp_path / "ran").exists()


def test_a_single_array_is_no_data_set(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(ModelLoadError, match="single array"):
        load_data(str(tmp_path / "one.npz"))


@pytest.mark.parametrize("keep", [0, 10, 300, -50])
def test_fault_4_npz_cut_short(tmp_path: Path, keep: int) -> None:
    np.savez(tmp_path / "cut.npz", **arrays())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:keep])
    with pytest.raises(ModelLoadError, match=r"cut\.npz"):
        load_data(str(tmp_path / "cut.npz"))


@pytest.mark.parametrize("source", ["digits", "missing.npz", "data.csv"])
def test_what_is_no_data_set(source: str) -> None:
    with pytest.raises(ModelLoadError):
        load_data(source)


NAN = np.zeros((6, 1, 4, 5))
NAN[3, 0, 1, 1] = np.nan


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"x_train": NAN}, "x_train holds NaN"),
        ({"x_test": np.full((3, 1, 4, 5), np.inf)}, "x_test holds NaN or infinity"),
        ({"x_train": np.zeros((6, 20))}, r"x_train has the shape \(6, 20\)"),
        ({"x_test": np.zeros((0, 1, 4, 5)), "y_test": np.zeros(0, dtype=int)}, "x_test has the shape"),
        ({"x_test": np.zeros((3, 1, 5, 5))}, "x_test has examples of the shape"),
        ({"y_train": np.zeros(5, dtype=int)}, "y_train has the shape"),
        ({"y_train": np.zeros(6)}, "labels are integers"),
        ({"y_train": np.array([0, 1, -1, 0, 1, 2])}, "label -1"),
        ({"y_test": np.array([0, 1, 3])}, "y_test has label 3"),
        ({"x_train": np.array(["a"] * 6)}, "no array of numbers"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ModelLoadError, match=match):
        check(arrays(**changes), "digits")
    assert set(KEYS) == set(arrays())


def test_segmentation_labels() -> None:
    data = check(arrays(y_train=np.zeros((6, 4, 5), dtype=int), y_test=np.zeros((3, 4, 5), dtype=int)), "masks")
    assert data.train[1].shape == (6, 4, 5)


def test_batches_visit_everything_once_in_the_order_of_the_numbers() -> None:
    x = torch.arange(10)
    half = Stacked(x, -x)
    assert [len(b.inputs) for b in batches_of(half, 4)] == [4, 4, 2]
    assert torch.cat([b.inputs for b in batches_of(half, 4)]).tolist() == list(range(10))
    numbers = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    for batch, chosen in zip(batches_of(half, 4, numbers), numbers.split(4), strict=True):
        assert torch.equal(batch.inputs, chosen)
        assert torch.equal(batch.targets, -chosen)


def test_a_data_set_without_training_labels_is_taught_by_a_network() -> None:
    given = arrays()
    del given["y_train"]
    data = check(given, "bare")
    assert not data.labelled
    network = nn.Sequential(nn.Flatten(1), nn.Linear(data.train[0][0].numel(), 3)).eval()
    learned = labelled_by_teacher(network, data)
    assert learned.labelled
    with torch.no_grad():
        assert torch.equal(learned.train[1], network(data.train[0]).argmax(1))
    assert learned.test is data.test
    assert labelled_by_teacher(network, learned) is learned
