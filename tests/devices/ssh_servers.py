"""Boards to connect to: an SSH server inside the test, and a real sshd. Both listen on 127.0.0.1 alone."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import pytest

SSHD = shutil.which("sshd") or next(
    (p for p in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if os.access(p, os.X_OK)), ""
)
LOCALHOST = "127.0.0.1"


@dataclass
class Me:
    """The person at this computer: a home of their own, with a key that boards let in."""

    home: Path
    public_key: str = ""

    @classmethod
    def at(cls, home: Path, monkeypatch: pytest.MonkeyPatch) -> "Me":
        (home / ".ssh").mkdir(parents=True)
        monkeypatch.setenv("HOME", str(home))
        for name in ("SSH_AUTH_SOCK", "EDGEPRUNE_SSH_PASSWORD"):
            monkeypatch.delenv(name, raising=False)
        key = asyncssh.generate_private_key("ssh-ed25519")
        file = home / ".ssh/id_ed25519"
        file.write_bytes(key.export_private_key())
        file.chmod(0o600)
        return cls(home, key.export_public_key().decode())

    @property
    def known_hosts(self) -> Path:
        return self.home / ".ssh/known_hosts"

    def trust(self, port: int | None, key: asyncssh.SSHKey) -> None:
        """Without a port: on any port, as one that leads there through a proxy."""
        name = f"[{LOCALHOST}]:{port}" if port else LOCALHOST
        self.known_hosts.write_text(f"{name} {key.export_public_key().decode()}")


@dataclass
class Board:
    """An SSH server inside this process, with a real shell in a home of its own."""

    home: Path
    authorized: str = ""
    password: str = ""
    sftp: Any = True
    host_key: asyncssh.SSHKey = field(default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519"))
    port: int = 0
    path: str = os.environ["PATH"]
    greeting: bytes = b""
    shell: str = "/bin/sh"
    own_group: bool = True  # as sshd; dropbear leaves commands in its own group
    late_s: float = 0.0  # what a command prints is so long under way
    connections: int = 0
    clients: list[Any] = field(default_factory=list)

    def start(self) -> "Board":
        self.home.mkdir(parents=True, exist_ok=True)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = self._run(self._listen())
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        self._run(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()

    def hang_up(self) -> None:
        """Cut every connection, as a board that loses its power."""
        self._run(self._abort())

    def turn_off(self) -> None:
        """Listen no longer."""
        self.loop.call_soon_threadsafe(self.server.close)

    def url(self, root: Path | str = "") -> str:
        return f"ssh://tester@{LOCALHOST}:{self.port}{root}"

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    async def _abort(self) -> None:
        for client in self.clients:
            client.abort()

    async def _listen(self) -> Any:
        board = self

        class Server(asyncssh.SSHServer):
            def connection_made(self, conn: Any) -> None:
                board.connections += 1
                board.clients.append(conn)

            def connection_requested(self, *where: Any) -> bool:
                return True  # a jump host

            def password_auth_supported(self) -> bool:
                return bool(board.password)

            def validate_password(self, username: str, password: str) -> bool:
                return password == board.password

        keys = asyncssh.import_authorized_keys(self.authorized) if self.authorized else None
        return await asyncssh.create_server(
            Server,
            LOCALHOST,
            0,
            server_host_keys=[self.host_key],
            authorized_client_keys=keys,
            process_factory=self._serve,
            sftp_factory=self.sftp,
            encoding=None,
        )

    async def _stop(self) -> None:
        self.server.close()
        for client in self.clients:
            client.abort()
        await self.server.wait_closed()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, process: Any) -> None:
        if process.command is None:
            process.exit(1)
            return
        child = await asyncio.create_subprocess_exec(
            self.shell,
            "-c",
            process.command,
            cwd=self.home,
            env={"HOME": str(self.home), "PATH": self.path},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=self.own_group,
        )
        process.stdout.write(self.greeting)
        try:
            feeding = asyncio.ensure_future(_pump(process.stdin, child.stdin))
            await asyncio.sleep(self.late_s)
            await asyncio.gather(_pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr))
            code = await child.wait()
            feeding.cancel()
            if code < 0:
                process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
            else:
                process.exit(code)
        finally:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                await child.wait()


async def _pump(source: Any, sink: Any) -> None:
    with suppress(OSError, asyncssh.Error):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
        if isinstance(sink, asyncio.StreamWriter):
            sink.close()


@contextmanager
def sshd(folder: Path, authorized: str, *options: str) -> Iterator[tuple[int, asyncssh.SSHKey]]:
    """OpenSSH's server with a configuration of its own; yields its port and host key.

    It lets in the user that runs the tests, with the home ``folder / "home"`` instead of the real one.
    """
    if not SSHD:
        pytest.skip("sshd is not installed (sh tools/install_sshd.sh)")
    (folder / "home").mkdir(parents=True)
    if os.geteuid() == 0:
        # As root it insists on an empty folder for its unprivileged half.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    key = asyncssh.generate_private_key("ssh-ed25519")
    (folder / "host_key").write_bytes(key.export_private_key())
    (folder / "host_key").chmod(0o600)
    (folder / "authorized_keys").write_text(authorized)
    with socket.socket() as free:
        free.bind((LOCALHOST, 0))
        port = free.getsockname()[1]
    (folder / "config").write_text(
        "\n".join(
            [
                f"ListenAddress {LOCALHOST}:{port}",
                f"HostKey {folder}/host_key",
                f"AuthorizedKeysFile {folder}/authorized_keys",
                f"PidFile {folder}/pid",
                f"SetEnv HOME={folder}/home",
                "StrictModes no",
                "UsePAM no",
                "PasswordAuthentication no",
                "KbdInteractiveAuthentication no",
                "PermitRootLogin prohibit-password",
                "MaxStartups 100",
                *(options or ("Subsystem sftp internal-sftp",)),
                "",
            ]
        )
    )
    log = folder / "log"
    with log.open("wb") as out:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stdout=out, stderr=out)
    try:
        _until(lambda: _answers(port) or server.poll() is not None)
        assert server.poll() is None, log.read_text()
        yield port, key
    finally:
        server.terminate()
        server.wait()


def _until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOCALHOST, port)) == 0


class Link:
    """A cable to the board: cut after so many bytes from here to there, or silent from now on."""

    def __init__(self, port: int, *, cut_after: int | None = None) -> None:
        self._to = port
        self._left = cut_after
        self.silent = False
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server((LOCALHOST, 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut_after(self, more: int) -> None:
        self._left = more

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *exc: object) -> None:
        self._hang_up(self._listener, *self._ends)
        for thread in self._threads:
            thread.join(5)
        for end in (self._listener, *self._ends):
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection((LOCALHOST, self._to))
                self._ends += [here, there]
                for end in (here, there):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for pair, counted in (((here, there), True), ((there, here), False)):
                    thread = threading.Thread(target=self._carry, args=(*pair, counted), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _carry(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 14):
                if self.silent:
                    continue
                if counted and self._left is not None:
                    data, self._left = data[: self._left], max(0, self._left - len(data))
                sink.sendall(data)
                if counted and self._left == 0:
                    break
        self._hang_up(source, sink)

    def _hang_up(self, *ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
