from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from board_fixtures import device, store, target

from edgeprune.devices.protocol import Device
from edgeprune.graph.network import Network, read_network
from edgeprune.latency.store import ProfileStore
from edgeprune.models.loading import load_model
from edgeprune.profiling import measure, profile
from edgeprune.targets import Target

NET = Path(__file__).parents[1] / "fitting" / "tiny_net.py"

__all__ = ["device", "network", "profiled", "store", "target"]


@pytest.fixture(scope="session")
def network() -> Network:
    loaded = load_model(f"{NET}:net", input_shape=(1, 3, 8, 8))
    return read_network(loaded.module, loaded.example_inputs)


@pytest.fixture
def profiled(
    network: Network, target: Target, store: ProfileStore, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., profile.ProfileResult]:
    """The network profiled on a device, its widths and schedules alone, without rests between launches."""
    monkeypatch.setattr(measure, "REST_S", 0.0)

    def run(device: Device, **options: Any) -> profile.ProfileResult:
        wanted = profile.ProfileOptions(points=1, tune=1, **options)
        return profile.profile(network.kernels, network.channels, target, device, store, wanted)

    return run
