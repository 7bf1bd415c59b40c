from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune.devices.fake import FakeDevice
from edgeprune.graph.network import Network, read_network
from edgeprune.latency.store import ProfileStore
from edgeprune.models.loading import load_model
from edgeprune.targets import Target, load_target

NET = Path(__file__).parents[1] / "fitting" / "tiny_net.py"


@pytest.fixture(scope="session")
def network() -> Network:
    loaded = load_model(f"{NET}:net", input_shape=(1, 3, 8, 8))
    return read_network(loaded.module, loaded.example_inputs)


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
