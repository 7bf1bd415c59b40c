"""TVM's own RPC server and tracker, started on 127.0.0.1 as a user would start them on a board."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from edgeprune.devices.rpc.tracker import servers_of


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Process:
    """A server in a session of its own, so that all its processes can be stopped, paused and ended."""

    module = ""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", self.module, "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--port-end", str(self.port + 1), *options]
        self._process = subprocess.Popen(
            command,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent / "rpc_no_torch")},
        )

    def wait(self) -> None:
        """Until it listens: starting is TVM's import twice over, so several are started side by side."""
        while not self._listens():
            assert self._process.poll() is None, "the server ended"
            time.sleep(0.05)

    def _listens(self) -> bool:
        """Asked of the kernel: a connection would be a client."""
        wanted = f"0100007F:{self.port:04X} 00000000:0000 0A"
        return wanted in Path("/proc/net/tcp").read_text()

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)

    def close(self) -> None:
        if self._process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
        self._process.wait()


class RpcServer(Process):
    module = "tvm.exec.rpc_server"

    @property
    def url(self) -> str:
        return f"rpc://127.0.0.1:{self.port}"


class RpcTracker(Process):
    module = "tvm.exec.rpc_tracker"

    def wait_for(self, *servers: RpcServer) -> None:
        """Until the tracker knows them: they register after they listen."""
        wanted = {server.port for server in servers}
        while not wanted <= {known.port for known in servers_of("127.0.0.1", self.port, self.url)}:
            time.sleep(0.05)

    @property
    def url(self) -> str:
        return f"rpc+tracker://127.0.0.1:{self.port}"
