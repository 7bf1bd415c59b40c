"""The tiny network, its images and a fake board: what the calls of a user are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import edgeprune

NET = Path(__file__).parents[1] / "fitting" / "tiny_net.py"
SHAPE = (1, 3, 8, 8)


@pytest.fixture(scope="session")
def source() -> str:
    return f"{NET}:net"


@pytest.fixture
def net(source: str) -> nn.Module:
    """As a user has it: an own class, in training mode."""
    return edgeprune.load_model(source, input_shape=SHAPE).module.train()


@pytest.fixture(scope="session")
def arrays() -> dict[str, torch.Tensor]:
    data = edgeprune.load_data(f"{NET}:data")
    halves = {"train": data.train, "test": data.test}
    return {f"{axis}_{half}": pair[i] for half, pair in halves.items() for i, axis in enumerate("xy")}


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Few widths, one store: the virtual clock gives every fake device the same profile."""
    return {"points": 3, "step": 8, "tune": 1, "store": tmp_path_factory.mktemp("store") / "profiles.sqlite3"}


@pytest.fixture
def board(tmp_path: Path) -> str:
    return f"fake:{tmp_path / 'board'}"


@pytest.fixture(scope="session")
def fitted(source, arrays, few, tmp_path_factory) -> edgeprune.Fit:
    """A fit of a module, with data and a limit that is relative."""
    folder = tmp_path_factory.mktemp("fitted")
    return edgeprune.fit(
        edgeprune.load_model(source, input_shape=SHAPE).module,
        example_inputs=SHAPE,
        device=f"fake:{folder / 'board'}",
        latency="60%",
        data=arrays,
        epochs=1,
        out=folder / "run",
        **few,
    )


@pytest.fixture(scope="session")
def closed() -> Callable[[pytest.MonkeyPatch], list[str]]:
    """Notes the URLs of fake devices as they are closed."""

    def watch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
        from edgeprune.devices.fake import FakeDevice

        urls: list[str] = []
        close = FakeDevice.close
        monkeypatch.setattr(FakeDevice, "close", lambda self: (urls.append(self.url), close(self))[1])
        return urls

    return watch
