"""A training that is killed goes on where it stood, to the same bit; what is damaged is not gone on with."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune.errors import BadInputError
from edgeprune.graph.network import read_network
from edgeprune.training.augment import shifts
from edgeprune.training.checkpoint import Checkpoint, digest_of
from edgeprune.training.data import DataSet, data_of
from edgeprune.training.finetune import train
from edgeprune.training.history import History
from edgeprune.training.sparse.registry import sparsities_of

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))
from forks import in_a_fork


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def quarters(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images whose class is the brightest quarter."""
    g = torch.Generator().manual_seed(seed)
    x, y = torch.rand(n, 3, 8, 8, generator=g), torch.randint(4, (n,), generator=g)
    for i, k in enumerate(y.tolist()):
        x[i, :, 4 * (k // 2) : 4 * (k // 2) + 4, 4 * (k % 2) : 4 * (k % 2) + 4] += 0.4
    return x, y


DATA = DataSet(quarters(96, 0), quarters(48, 1), "quarters")


def net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(8, 4),
        )


class Stops:
    """A reporter that keeps what is told, and interrupts after an epoch."""

    def __init__(self, after: int = 0, how: Callable[[], Any] | None = None) -> None:
        self.after, self.said = after, list[str]()
        self.how = how

    def stage(self, name: str, total: int | None = None) -> None:
        self.said.append(name)
        if self.after and name.startswith(f"epoch {self.after + 1} of"):
            if self.how is None:
                raise KeyboardInterrupt
            self.how()

    def advance(self, n: int = 1) -> None: ...

    def note(self, text: str) -> None:
        self.said.append(text)


def same(a: nn.Module, b: nn.Module) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return all(torch.equal(x[k], y[k]) for k in x)


def noisy() -> DataSet:
    """Samples with noise from all three global generators, drawn anew each time they are read."""

    class Noisy(torch.utils.data.Dataset[tuple[Tensor, int]]):
        def __init__(self, x: Tensor, y: Tensor) -> None:
            self.x, self.y = x, y

        def __len__(self) -> int:
            return len(self.x)

        def __getitem__(self, i: int) -> tuple[Tensor, int]:
            noise = 0.1 * torch.rand(1) + 0.1 * random.random() + 0.1 * np.random.rand()
            return self.x[i] + noise.float(), int(self.y[i])

    halves = {name: Noisy(*quarters(n, i)) for i, (name, n) in enumerate((("train", 96), ("test", 48)))}
    return data_of(halves, "noisy", free=True)


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "augmented": lambda: {"augment": shifts(1, flip=True)},
    "taught": lambda: {"teacher": net(7)},
    "noisy": lambda: {"data": noisy()},
    "early stop": lambda: {"early_stop": 3, "validation": 0.25},
    "kept": lambda: {"companions": sparsities_of("kept")},
    **{
        asked: lambda asked=asked: {"companions": sparsities_of(asked)}  # type: ignore[misc]
        for asked in (
            "weight:remove=0.7",
            "block:remove=0.5,rows=4+l1:target=0.6",
            "n_m",
            "l1:target=0.6,drop=0.01",
            "group_lasso:target=0.4",
            "l0:target=0.4",
            "l0:of=weights,target=0.4,drop=0.1",
        )
    },
}


def trained(case: str, file: Path | None = None, seed: int = 3, **more: Any) -> tuple[nn.Module, History]:
    module = net()
    settings = {"data": DATA, **CASES[case]()}
    if found := settings.get("companions"):
        network = read_network(module, (torch.zeros(1, 3, 8, 8),))
        for sparsity in found:
            sparsity.prepare(network.channels)
    checkpoint = None if file is None else Checkpoint(file)
    data = settings.pop("data")
    history = train(
        module, data, epochs=7, lr=0.1, batch_size=24, seed=seed, checkpoint=checkpoint, **{**settings, **more}
    )
    return module, history


@pytest.mark.parametrize("case", CASES)
def test_what_was_interrupted_ends_as_what_was_not(case: str, tmp_path: Path) -> None:
    whole, history = trained(case)
    for number, after in enumerate((2, 5)):
        file = tmp_path / f"{number}.safetensors"
        with pytest.raises(KeyboardInterrupt):
            trained(case, file, progress=Stops(after))
        torch.manual_seed(after)  # whatever happens between, it does not matter
        told = Stops()
        module, again = trained(case, file, progress=told)
        assert f"the training goes on after epoch {after} of 7" in told.said
        assert next(s for s in told.said if s.startswith("epoch") and ":" not in s) == f"epoch {after + 1} of 7"
        assert same(module, whole)
        assert again == history
    other, _ = trained(case, seed=4)
    assert not same(other, whole), "training shows what the seed is"


@pytest.mark.parametrize("case", ["early stop", "noisy", "l0:target=0.4"])
def test_writing_checkpoints_changes_nothing_and_two_runs_are_alike(case: str, tmp_path: Path) -> None:
    first, _ = trained(case)
    random.seed(1)
    second, history = trained(case, tmp_path / "a")
    assert same(first, second)
    third, again = trained(case, tmp_path / "a")  # nothing is left to do
    assert same(first, third)
    assert again == history


def test_kill_9_in_an_epoch_costs_that_epoch(tmp_path: Path) -> None:
    file = tmp_path / "training.safetensors"
    code = in_a_fork(
        lambda: trained("augmented", file, progress=Stops(4, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    )
    assert code is not None
    told = Stops()
    module, history = trained("augmented", file, progress=told)
    assert "the training goes on after epoch 4 of 7" in told.said
    whole, expected = trained("augmented")
    assert same(module, whole)
    assert history == expected
    assert [p.name for p in tmp_path.iterdir()] == [file.name], "no partial file stays"


def test_what_is_damaged_is_not_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "training.safetensors"
    with pytest.raises(KeyboardInterrupt):
        trained("plain", file, progress=Stops(5))
    good = file.read_bytes()
    whole, _ = trained("plain")
    header = good.index(b"identity")
    flipped = [bytearray(good) for _ in range(3)]
    flipped[0][-5] ^= 1  # a weight, in its last bits
    flipped[1][good.index(b"momentum_buffer")] ^= 1
    flipped[2][header + good[header:].index(b"loss") + 20] ^= 1
    for bad in (b"", b"\x80\x04]", good[: len(good) // 2], good[:-1], *map(bytes, flipped)):
        file.write_bytes(bad)
        told = Stops()
        module, _ = trained("plain", file, progress=told)
        assert any("is damaged" in s for s in told.said), len(bad)
        assert same(module, whole), "it began anew"
        assert file.read_bytes() != bad


@pytest.mark.parametrize("other", ["seed", "lr", "weights", "companions", "teacher"])
def test_another_training_begins_anew(other: str, tmp_path: Path) -> None:
    file = tmp_path / "training.safetensors"
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 24}
    train(net(), DATA, checkpoint=Checkpoint(file), **settings)
    settings |= {
        "seed": {"seed": 1},
        "lr": {"lr": 0.02},
        "weights": {},
        "companions": {"companions": sparsities_of("weight")},
        "teacher": {"teacher": net(1)},
    }[other]
    first, second = (net(1 if other == "weights" else 0) for _ in range(2))
    told = Stops()
    train(first, DATA, checkpoint=Checkpoint(file), progress=told, **settings)
    assert any("is of another training" in s for s in told.said)
    for sparsity in settings.get("companions", ()):
        sparsity.prepare()
    train(second, DATA, **settings)
    assert same(first, second)


def test_first_weights_may_differ_where_the_caller_says_what_is_trained(tmp_path: Path) -> None:
    file = tmp_path / "training.safetensors"
    module, other = net(), net()
    with torch.no_grad():
        other[0].weight.mul_(1 + 1e-6)
    train(module, DATA, epochs=2, checkpoint=Checkpoint(file, "it"))
    told = Stops()
    train(other, DATA, epochs=2, checkpoint=Checkpoint(file, "it"), progress=told)
    assert "the training goes on after epoch 2 of 2" in told.said
    assert same(module, other)


def test_a_training_that_fails_after_it_went_on_leaves_the_weights_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "training.safetensors"
    with pytest.raises(KeyboardInterrupt):
        trained("plain", file, progress=Stops(3))
    module = net()

    def broken(x: Tensor, generator: torch.Generator) -> Tensor:
        return x * float("nan") if module[1].num_batches_tracked > 5 * 4 else x

    with pytest.raises(BadInputError, match="epoch 6"):
        train(module, DATA, epochs=7, lr=0.1, batch_size=24, augment=broken, checkpoint=Checkpoint(tmp_path / "other"))
    assert same(module, net())


def test_a_digest_tells_names_shapes_and_values_apart() -> None:
    a = torch.arange(4.0)
    alike = {"a": a.clone(memory_format=torch.contiguous_format)}
    assert digest_of({"a": a}) == digest_of(alike)
    others = [{"b": a}, {"a": a.reshape(2, 2)}, {"a": a.double()}, {"a": a + 1e-6}]
    assert len({digest_of(o) for o in [{"a": a}, *others]}) == 5
    x = torch.rand(2, 3, 4, 4)
    assert digest_of({"x": x}) == digest_of({"x": x.contiguous(memory_format=torch.channels_last)})
