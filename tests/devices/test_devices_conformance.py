"""Every scheme of the registry through the shared suite."""

from pathlib import Path

import pytest
from device_conformance import DeviceConformance
from rpc_servers import RpcServer, RpcTracker

from edgeprune.devices.protocol import Device
from edgeprune.devices.registry import SCHEMES, open_device


class TestLocal(DeviceConformance):
    scheme = "local"

    def connect(self, tmp_path: Path) -> Device:
        return open_device(f"local:{tmp_path}")


class TestFake(DeviceConformance):
    scheme = "fake"

    def connect(self, tmp_path: Path) -> Device:
        return open_device("fake:")


class TestRpc(DeviceConformance):
    scheme = "rpc"

    def connect(self, tmp_path: Path) -> Device:
        return open_device(f"{self.server.url}{tmp_path}")

    @pytest.fixture(autouse=True)
    def _board(self, rpc_server: RpcServer) -> None:
        self.server = rpc_server


class TestTrackedRpc(DeviceConformance):
    scheme = "rpc+tracker"

    def connect(self, tmp_path: Path) -> Device:
        return open_device(f"{self.tracker.url}/board{tmp_path}")

    @pytest.fixture(autouse=True)
    def _board(self, rpc_tracker: RpcTracker) -> None:
        self.tracker = rpc_tracker


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_runs_the_suite(scheme):
    assert scheme in {suite.scheme for suite in DeviceConformance.__subclasses__()}
