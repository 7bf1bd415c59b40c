"""The shared suite against OpenSSH's own server, with and without its file channel."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from device_conformance import DeviceConformance
from ssh_servers import LOCALHOST, Me, sshd

from edgeprune.devices.protocol import Device
from edgeprune.devices.registry import open_device


class OpenSsh(DeviceConformance):
    options: tuple[str, ...] = ()

    @pytest.fixture(scope="class")
    def running(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Me, int]]:
        with pytest.MonkeyPatch.context() as patch:
            me = Me.at(tmp_path_factory.mktemp("me"), patch)
        with sshd(tmp_path_factory.mktemp("sshd"), me.public_key, *self.options) as (port, key):
            me.trust(port, key)
            yield me, port

    @pytest.fixture(autouse=True)
    def _at_home(self, running: tuple[Me, int], monkeypatch: pytest.MonkeyPatch) -> None:
        me, self.port = running
        monkeypatch.setenv("HOME", str(me.home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)

    def connect(self, tmp_path: Path) -> Device:
        return open_device(f"ssh://{LOCALHOST}:{self.port}{tmp_path}")


class TestOpenSsh(OpenSsh):
    scheme = "ssh"


class TestOpenSshWithoutSftp(OpenSsh):
    scheme = "ssh"
    options = ("# no Subsystem line, as a dropbear without sftp-server",)

    def test_it_is_the_shell_that_carries_files(self, device):
        assert device._session().sftp() is None
