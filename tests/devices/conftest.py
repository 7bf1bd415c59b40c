"""Servers that take seconds to start, one of each for all tests of a run."""

from collections.abc import Iterator

import pytest
from rpc_servers import RpcServer, RpcTracker


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
