"""``ssh://[user@]host[:port][/absolute/root]``: a board behind an SSH server (docs/SSH.md).

Files are kept in ``~/.edgeprune`` on the board, or in the folder that the URL names. A connection
that drops ends the call with :class:`DeviceUnreachableError`; the next call connects again, once.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import asyncssh

from edgeprune.devices.common import check_argv
from edgeprune.devices.describe import describe_with
from edgeprune.devices.paths import check_path
from edgeprune.devices.protocol import Closing, Completed, DeviceInfo, Progress
from edgeprune.devices.ssh.connect import Connector
from edgeprune.devices.ssh.loop import LoopThread
from edgeprune.devices.ssh.put import put_over
from edgeprune.devices.ssh.session import STEP_S, Session
from edgeprune.devices.ssh.url import parse_ssh_url
from edgeprune.devices.trust import accepts_new_host_keys
from edgeprune.errors import DeviceError, DeviceUnreachableError

_PIECE_BYTES = 1 << 20
_NOT_FOUND = 127


class SshDevice(Closing):
    """A board over SSH.

    Args:
        accept_new_host_key: trust a host that is in no known_hosts file, and write its key down.

    Raises:
        UsageError: the URL makes no sense.
        DeviceUnreachableError, BadInputError: as :meth:`Connector.connect`.
    """

    def __init__(self, url: str, *, accept_new_host_key: bool = False) -> None:
        self.url = url
        self._connector = Connector(url, parse_ssh_url(url), accept_new_host_key=accept_new_host_key)
        self._lock = threading.Lock()
        self._loop = LoopThread(f"edgeprune {url}")
        self._sessions: list[Session] = []
        # Also when nobody calls close: the board shall see the connection end, and the loop its close.
        self._finish = weakref.finalize(self, _finish, self._sessions, self._loop)
        try:
            self._session()
        except BaseException:
            self.close()
            raise

    @classmethod
    def from_url(cls, url: str) -> SshDevice:
        return cls(url, accept_new_host_key=accepts_new_host_keys())

    def describe(self) -> DeviceInfo:
        return describe_with(self.run)

    def put(
        self, source: Path | bytes, path: str, *, executable: bool = False, progress: Progress | None = None
    ) -> None:
        check_path(path)
        put_over(self._session(), source, path, executable=executable, progress=progress)

    def get(self, path: str) -> bytes:
        check_path(path)
        session = self._session()
        full = f"{session.root.rstrip('/')}/{path}"
        sftp = session.sftp()
        if sftp is None:
            done = session.script('[ ! -d "$1" ] || { echo "Is a directory" >&2; exit 1; }; cat "$1"', full)
            if done.returncode != 0:
                raise DeviceError(f"{self.url}: reading {path}: {done.stderr.strip()}")
            return done.stdout
        try:
            return _read(session, sftp, full)
        except asyncssh.SFTPError as e:
            raise DeviceError(f"{self.url}: reading {path}: {e.reason}") from e

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Completed:
        check_argv(argv)
        if argv[0].startswith("-"):
            # exec would read it as its own option; no program on the path has such a name.
            return Completed(_NOT_FOUND, "", f"{argv[0]}: not found\n")
        session = self._session()
        done = session.run(list(argv), timeout_s=timeout_s)
        if not done.started:
            raise DeviceUnreachableError(f"{self.url}: the folder {session.root} is gone: {done.stderr.strip()}")
        return Completed(done.returncode, done.stdout.decode(errors="replace"), done.stderr)

    def remove(self, path: str) -> None:
        check_path(path)
        session = self._session()
        done = session.script('rm -rf -- "$1"', f"{session.root.rstrip('/')}/{path}", timeout_s=5 * STEP_S)
        if done.returncode != 0:
            raise DeviceError(f"{self.url}: removing {path}: {done.stderr.strip()}")

    def close(self) -> None:
        self._finish()

    def _session(self) -> Session:
        """The living connection; a new one if the last was lost."""
        with self._lock:
            if not self._finish.alive:
                raise DeviceUnreachableError(f"{self.url}: the device was closed", hint="open it again")
            if self._sessions and self._sessions[0].alive:
                return self._sessions[0]
            while self._sessions:
                self._sessions.pop().close()
            self._sessions.append(self._connector.connect(self._loop))
            return self._sessions[0]


def _finish(sessions: list[Session], loop: LoopThread) -> None:
    for session in sessions:
        session.close()
    loop.close()


def _read(session: Session, sftp: asyncssh.SFTPClient, path: str) -> bytes:
    file = session.call(sftp.open(path, "rb", encoding=None))
    try:
        pieces: list[bytes] = []
        done = 0
        # To the end, not to the size: files of /proc have none.
        while piece := cast(bytes, session.call(file.read(_PIECE_BYTES, done))):
            pieces.append(piece)
            done += len(piece)
        return b"".join(pieces)
    finally:
        if session.alive:
            session.call(file.close())
