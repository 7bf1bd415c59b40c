from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from edgeprune.devices.fake import FakeDevice
from edgeprune.graph.network import Network, read_network
from edgeprune.latency.store import ProfileStore
from edgeprune.models.zoo import build
from edgeprune.targets import Target, load_target


@pytest.fixture(scope="session")
def network() -> Network:
    return read_network(build("resnet8", seed=0).eval(), (torch.zeros(1, 3, 32, 32),))


@pytest.fixture(scope="session")
def target() -> Target:
    return load_target("host")


@pytest.fixture
def device(tmp_path: Path) -> FakeDevice:
    return FakeDevice(tmp_path / "device")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ProfileStore]:
    with ProfileStore(tmp_path / "profiles.sqlite3") as opened:
        yield opened
