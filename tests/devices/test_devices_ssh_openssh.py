"""OpenSSH's own server: the shared suite with and without its file channel, and a network from end to end."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from device_conformance import DeviceConformance
from ssh_servers import LOCALHOST, Link, Me, sshd

from edgeprune.cli.main import main
from edgeprune.compiler.compile import compile_network
from edgeprune.deploy.flash import flash
from edgeprune.deploy.journal import State
from edgeprune.deploy.rollback import rollback
from edgeprune.deploy.status import status
from edgeprune.devices.protocol import Device
from edgeprune.devices.registry import open_device
from edgeprune.devices.ssh import put
from edgeprune.errors import DeviceUnreachableError
from edgeprune.graph.network import read_network
from edgeprune.targets import load_target


class OpenSsh(DeviceConformance):
    scheme = "ssh"
    options: tuple[str, ...] = ()

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Me, int]]:
        with pytest.MonkeyPatch.context() as patch:
            me = Me.at(tmp_path_factory.mktemp("me"), patch)
        with sshd(tmp_path_factory.mktemp("sshd"), me.public_key, *cls.options) as (port, key):
            me.trust(port, key)
            yield me, port

    @pytest.fixture(autouse=True)
    def _at_home(self, running: tuple[Me, int], monkeypatch: pytest.MonkeyPatch) -> None:
        me, self.port = running
        monkeypatch.setenv("HOME", str(me.home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)

    def connect(self, tmp_path: Path) -> Device:
        return open_device(f"ssh://{LOCALHOST}:{self.port}{tmp_path}")

    @pytest.mark.long  # each time it is over the other server, of test_devices_conformance.py
    def test_a_network_is_built_timed_profiled_installed_and_rolled_back(self, device: Device) -> None:
        super().test_a_network_is_built_timed_profiled_installed_and_rolled_back(device)


class TestOpenSsh(OpenSsh):
    def test_without_a_folder_files_are_kept_in_the_home(self):
        device = open_device(f"ssh://{LOCALHOST}:{self.port}")
        assert re.search(r"/home/\.edgeprune\n$", device.run(["pwd"]).stdout)
        device.close()


class TestOpenSshWithoutSftp(OpenSsh):
    options = ("# no Subsystem line, as a dropbear without sftp-server",)

    def test_it_is_the_shell_that_carries_files(self, device):
        assert device._session().sftp() is None

    def test_an_interrupted_put_waits_for_a_board_that_is_slow_to_begin(self, device, monkeypatch):
        monkeypatch.setattr(put, "_APPEND", f"sleep 0.5; {put._APPEND}")
        self.test_an_interrupted_put_leaves_the_old_file_and_nothing_else(device)
        device.run(["sleep", "1"])
        assert self.names(device) == ["file"], "the command went on, and made its file after all"


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, torch.nn.Module]]:
    """Two releases of a network for this computer."""
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten()).eval()
        bundle = tmp_path_factory.mktemp("release") / "bundle"
        compile_network(read_network(module, (torch.zeros(1, 3, 8, 8),)), load_target("host"), bundle)
        made.append((bundle, module))
    return made


def test_a_network_from_end_to_end(networks, me: Me, tmp_path, capsys):
    images = torch.randn(4, 3, 8, 8)
    np.save(tmp_path / "x.npy", images.numpy())
    (first, first_net), (second, second_net) = networks

    with sshd(tmp_path / "sshd", me.public_key) as (port, _):
        url = f"ssh://{LOCALHOST}:{port}{tmp_path}/board"

        def call(*args: object) -> dict:
            assert main([*map(str, args), "--device", url, "--json"]) == 0
            return json.loads(capsys.readouterr().out)

        def outputs_agree(net: torch.nn.Module) -> None:
            call("run", "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
            with torch.no_grad():
                expected = net(images).numpy()
            np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-4, atol=1e-5)

        flashed = call("flash", first, "-q", "--accept-new-host-key")
        assert (flashed["state"], flashed["evidence"], flashed["files_sent"] > 0) == ("installed", "measured", True)
        outputs_agree(first_net)
        assert call("flash", second, "-q")["previous"] == flashed["release"]
        outputs_agree(second_net)
        assert call("rollback")["release"] == flashed["release"]
        outputs_agree(first_net)
        assert call("bench", "--repeats", "3")["latency_ms"] > 0


def test_fault_13_a_link_that_breaks_while_flashing_leaves_the_old_release_running(networks, me: Me, tmp_path):
    (first, _), (second, _) = networks
    with sshd(tmp_path / "sshd", me.public_key) as (port, key):
        me.trust(None, key)
        board = open_device(f"ssh://{LOCALHOST}:{port}{tmp_path}/board")
        before = flash(first, board)
        with Link(port) as link:
            cut = open_device(f"ssh://{LOCALHOST}:{link.port}{tmp_path}/board")

            def break_it(state: State) -> None:
                if state is State.UPLOADING:
                    link.cut_after(20_000)

            with pytest.raises(DeviceUnreachableError):
                flash(second, cut, on_state=break_it)
            cut.close()
        assert status(board).current == before.release
        (partial,) = (tmp_path / "board/releases").glob("*.partial/.*.partial")
        assert re.fullmatch(r"\.[0-9a-f]{16}\.[0-9a-f]{8}\.partial", partial.name)
        done = flash(second, board, resume=True)
        assert (done.previous, status(board).current) == (before.release, done.release)
        assert not list((tmp_path / "board").rglob("*.partial"))
        assert rollback(board).release == before.release
        board.close()
