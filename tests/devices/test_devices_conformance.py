"""Every scheme of the registry through the shared suite."""

import random
import shlex
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from device_conformance import DeviceConformance
from rpc_servers import RpcServer, RpcTracker
from serial_board import PtyBoard
from ssh_servers import Board, Me

from edgeprune.devices.console.device import SerialDevice
from edgeprune.devices.emulator.device import EmulatedDevice
from edgeprune.devices.protocol import Closing, Device
from edgeprune.devices.registry import SCHEMES, open_device


class TestLocal(DeviceConformance):
    scheme = "local"

    def connect(self, tmp_path: Path) -> Device:
        return open_device(f"local:{tmp_path}")


class TestLocalGpu(DeviceConformance):
    scheme = "local-gpu"

    @pytest.fixture(autouse=True)
    def _gpu(self, fake_gpu: None) -> None: ...

    def connect(self, tmp_path: Path) -> Device:
        return open_device(f"local-gpu:{tmp_path}")


class TestFake(DeviceConformance):
    scheme = "fake"

    def connect(self, tmp_path: Path) -> Device:
        return open_device("fake:")


class TestSsh(DeviceConformance):
    """Against a server inside the test; test_devices_ssh_openssh.py repeats it against a real one."""

    scheme = "ssh"

    @pytest.fixture(autouse=True)
    def _known_board(self, board: Board, me: Me) -> None:
        me.trust(board.port, board.host_key)
        self.board = board

    def connect(self, tmp_path: Path) -> Device:
        return open_device(self.board.url(tmp_path))


class TestSerial(DeviceConformance):
    """A shell on a pseudo-terminal, with an XMODEM receiver."""

    scheme = "serial"
    large = random.Random(7).randbytes(300_001)

    @pytest.fixture(autouse=True)
    def _board(self, tmp_path: Path) -> Iterator[None]:
        self.board = PtyBoard(tmp_path / "board", receiver="good")
        yield
        self.board.close()

    def connect(self, tmp_path: Path) -> Device:
        return open_device(f"{self.board.url}?root={tmp_path}")


@pytest.mark.xdist_group("rpc")  # TVM's server takes a while to start
class TestRpc(DeviceConformance):
    scheme = "rpc"

    def connect(self, tmp_path: Path) -> Device:
        return open_device(f"{self.server.url}{tmp_path}")

    @pytest.mark.long  # over the tracker it is each time
    def test_a_network_is_built_timed_profiled_installed_and_rolled_back(self, device: Device) -> None:
        super().test_a_network_is_built_timed_profiled_installed_and_rolled_back(device)

    @pytest.fixture(autouse=True)
    def _board(self, rpc_server: RpcServer) -> None:
        self.server = rpc_server


@pytest.mark.xdist_group("rpc")
class TestTrackedRpc(DeviceConformance):
    scheme = "rpc+tracker"

    def connect(self, tmp_path: Path) -> Device:
        return open_device(f"{self.tracker.url}/board{tmp_path}")

    @pytest.fixture(autouse=True)
    def _board(self, rpc_tracker: RpcTracker) -> None:
        self.tracker = rpc_tracker


class TestUserMode(DeviceConformance):
    scheme = "emulated"
    target = "emulated_a53"  # linked statically: there is no C library for 64-bit ARM here

    def connect(self, tmp_path: Path) -> Device:
        if not shutil.which("qemu-aarch64-static"):
            pytest.skip("qemu-aarch64-static is not installed: sudo apt-get install qemu-user-static")
        return open_device(f"emulated:aarch64:{tmp_path}")

    @pytest.mark.long
    def test_a_network_is_built_timed_profiled_installed_and_rolled_back(self, device: Device) -> None:
        super().test_a_network_is_built_timed_profiled_installed_and_rolled_back(device)


class KeptOpen(Closing):
    """A board on a console that stays open for all tests, each in a folder of its own: a login takes a moment."""

    def __init__(self, device: SerialDevice, folder: str) -> None:
        root = shlex.quote(folder)
        assert device.session.ask(f"mkdir {root} && cd {root}").status == 0
        self.url = device.url
        self.describe, self.put, self.get = device.describe, device.put, device.get
        self.run, self.remove = device.run, device.remove

    def close(self) -> None:
        pass


@pytest.mark.xdist_group("counting")
class TestCountingBoard(DeviceConformance):
    scheme = "emulated"
    target = "emulated_a53"
    large = random.Random(7).randbytes(9_001)
    rounds = 1
    numbers = count()
    # The example of emulated boards does all of it on this one, and more.
    test_a_network_is_built_timed_profiled_installed_and_rolled_back = None

    @pytest.fixture(autouse=True)
    def _board(self, counting_board: EmulatedDevice) -> None:
        self.board = counting_board

    def connect(self, tmp_path: Path) -> Device:
        return KeptOpen(self.board, f"/root/test {next(self.numbers)}")

    def names(self, device: Device, folder: str = ".") -> list[str]:
        # ls of busybox shows other characters than ASCII as "?"
        found = device.run(["find", folder, "-mindepth", "1", "-maxdepth", "1"]).stdout.splitlines()
        return sorted(path.rpartition("/")[2] for path in found)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_runs_the_suite(scheme):
    assert scheme in {suite.scheme for suite in DeviceConformance.__subclasses__()}
