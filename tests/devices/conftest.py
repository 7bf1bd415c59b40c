"""Boards: SSH ones anew for each test; RPC ones and emulated ones, which take seconds to start, once a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rpc_servers import RpcServer, RpcTracker
from ssh_servers import Board, Me

from edgeprune.devices.emulator.device import EmulatedDevice


@pytest.fixture
def me(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Me:
    """A home without known hosts, and a key."""
    return Me.at(tmp_path / "me", monkeypatch)


@pytest.fixture
def board(tmp_path: Path, me: Me) -> Iterator[Board]:
    """A board that lets ``me`` in and that nobody knows yet."""
    board = Board(tmp_path / "board", me.public_key).start()
    yield board
    board.stop()


@pytest.fixture(scope="session")
def rpc_server() -> Iterator[RpcServer]:
    server = RpcServer()
    try:
        server.wait()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def rpc_tracker() -> Iterator[RpcTracker]:
    """With one server under the key ``board``."""
    tracker = RpcTracker()
    tracker.wait()  # a server that does not find it waits five seconds
    server = RpcServer("--tracker", f"127.0.0.1:{tracker.port}", "--key", "board")
    try:
        tracker.wait_for(server)
        yield tracker
    finally:
        server.close()
        tracker.close()


@pytest.fixture(scope="session")
def counting_board(emulator_images: Path) -> Iterator[EmulatedDevice]:
    """A Cortex-A53 that counts instructions, switched on once."""
    device = EmulatedDevice("a53")
    device.session.pace = 4  # no test computes much, and some wait for a timeout
    yield device
    device.close()
