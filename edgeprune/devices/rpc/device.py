"""``rpc://`` and ``rpc+tracker://``: a board that runs a TVM RPC server (docs/RPC.md).

TVM's server can take files into a folder of its own and load libraries from there. So it gets a small
library (board/rpc) and through it edgeprune does what it does on any board: files that appear whole
or not at all, commands whose arguments arrive as they are and that die at their deadline.
"""

from __future__ import annotations

import errno
import os
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from edgeprune.devices.common import check_argv, chunks_of, require_space
from edgeprune.devices.describe import describe_with
from edgeprune.devices.paths import check_path
from edgeprune.devices.protocol import Closing, Completed, DeviceInfo, Progress
from edgeprune.devices.rpc.address import Address, loopback, parse_server, parse_tracker
from edgeprune.devices.rpc.session import CALL_S, Server, Session
from edgeprune.devices.rpc.tracker import take
from edgeprune.devices.rpc.wire import Reply, State, Verb
from edgeprune.errors import DeviceError, DeviceUnreachableError

_READ_BYTES = 1 << 18
_POLL_S = 0.25
# What an SD card may take to get a file onto itself, or to forget a large folder.
_DISK_S = 300.0
# What a shell returns, so that every transport answers alike.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_LONGEST_MS = 2**31


class RpcDevice(Closing):
    """A TVM RPC server of this computer, or of a board at the other end of an SSH tunnel.

    A session that ended (a server that was restarted, a call without an answer) is opened anew by
    the next call.

    Raises:
        UsageError: the address is not loopback; it was not connected to.
        DeviceUnreachableError: no TVM RPC server answers there.
        MissingDependencyError: a package for TVM RPC is not installed.
    """

    def __init__(self, address: Address) -> None:
        self.url = address.url
        self._address = address
        self._opening = threading.Lock()
        self._session: Session | None = None
        self._root = ""
        self._litter: set[str] = set()  # partial files of sessions that broke
        self._open()

    @classmethod
    def from_url(cls, url: str) -> RpcDevice:
        return cls(parse_server(url))

    def describe(self) -> DeviceInfo:
        return describe_with(self.run)

    def put(
        self, source: Path | bytes, path: str, *, executable: bool = False, progress: Progress | None = None
    ) -> None:
        check_path(path)
        chunks, size = chunks_of(source)
        session, doing = self._open(), f"writing {path}"
        target = f"{self._root}/{path}"
        folder, _, name = target.rpartition("/")
        # Random, so that two writers of one path never share a partial file.
        partial = f"{folder}/.{name}.{secrets.token_hex(4)}.partial"
        self._litter.add(partial)
        made = session.call(Verb.CREATE, partial, size)
        if made.status == errno.ENOSPC and len(made.fields) == 2:
            self._litter.discard(partial)
            require_space(self.url, path, size, made.integer(1))
        file = self._checked(made, doing).integer(0)
        try:
            done = 0
            for chunk in chunks:
                self._checked(session.call(Verb.WRITE, file, chunk), doing)
                done += len(chunk)
                if progress:
                    progress(done, size)
        except BaseException:
            with suppress(DeviceUnreachableError):  # the next session tidies up
                session.call(Verb.ABORT, file, partial)
                self._litter.discard(partial)
            raise
        mode = 0o755 if executable else 0o644
        committed = session.call(Verb.COMMIT, file, partial, target, mode, patience_s=_DISK_S)
        self._litter.discard(partial)
        self._checked(committed, doing)

    def get(self, path: str) -> bytes:
        check_path(path)
        session, doing = self._open(), f"reading {path}"
        file = self._checked(session.call(Verb.OPEN, f"{self._root}/{path}"), doing).integer(0)
        pieces = []
        while piece := self._checked(session.call(Verb.READ, file, _READ_BYTES), doing).fields[0]:
            pieces.append(piece)
        return b"".join(pieces)

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Completed:
        check_argv(argv)
        session = self._open()
        timeout_ms = min(_LONGEST_MS, max(1, round(timeout_s * 1000)))
        started = session.call(Verb.START, self._root, timeout_ms, *argv)
        if started.status == errno.ENOENT:
            raise DeviceUnreachableError(f"{self.url}: the folder {self._root} is gone")
        command = self._checked(started, f"starting {argv[0]}").integer(0)
        try:
            return self._outcome(session, command, argv, timeout_s)
        except BaseException:
            if session.alive:
                with suppress(DeviceUnreachableError):
                    session.call(Verb.CANCEL, command)
            raise

    def remove(self, path: str) -> None:
        check_path(path)
        session = self._open()
        removed = session.call(Verb.REMOVE, f"{self._root}/{path}", patience_s=_DISK_S)
        self._checked(removed, f"removing {path}")

    def close(self) -> None:
        with self._opening:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _server(self) -> Server:
        """Where the next session goes."""
        address = self._address
        return Server(loopback(address.host, address.port, self.url), address.port, address.key)

    def _open(self) -> Session:
        """The session, or a new one."""
        with self._opening:
            if self._session is None or not self._session.alive:
                session = Session(self.url, self._server())
                try:
                    made = session.call(Verb.ROOT, self._address.folder)
                    if made.status:
                        folder = self._address.folder or "~/.edgeprune"
                        raise DeviceUnreachableError(
                            f"{self.url}: the folder {folder} cannot be made: {os.strerror(made.status)}",
                            hint="name a folder in the URL that the server may write",
                        )
                    self._root = made.fields[0].decode(errors="surrogateescape").rstrip("/")
                    for partial in list(self._litter):
                        session.call(Verb.ABORT, -1, partial)
                        self._litter.discard(partial)
                except BaseException:
                    session.abandon()
                    raise
                self._session = session
            return self._session

    def _outcome(self, session: Session, command: int, argv: Sequence[str], timeout_s: float) -> Completed:
        out, err = bytearray(), bytearray()
        # The board ends the command; should its clock stand still, this one runs on.
        latest = time.monotonic() + timeout_s + CALL_S
        while True:
            reply = session.call(Verb.POLL, command, round(_POLL_S * 1000), patience_s=_POLL_S)
            self._checked(reply, f"waiting for {argv[0]}")
            state, code = reply.integer(0), reply.integer(1)
            out += reply.fields[2]
            err += reply.fields[3]
            if state != State.RUNNING or time.monotonic() > latest:
                break
        if state in (State.RUNNING, State.TIMED_OUT):
            raise DeviceError(
                f"{self.url}: {argv[0]} did not finish in {timeout_s:g} s and was killed",
                argv=list(argv),
                timeout_s=timeout_s,
            )
        if state == State.NOT_STARTED:
            # A missing loader reads the same: the kernel does not say which of the two is absent.
            if code == errno.ENOENT:
                return Completed(_NOT_FOUND, "", f"{argv[0]}: not found\n")
            return Completed(_NOT_EXECUTABLE, "", f"{argv[0]}: {os.strerror(code)}\n")
        return Completed(code, out.decode(errors="replace"), err.decode(errors="replace"))

    def _checked(self, reply: Reply, doing: str) -> Reply:
        """The reply, if the board could do it. Numbers of errors are those of Linux, on every board."""
        if reply.status:
            name = errno.errorcode.get(reply.status, "")
            hint = {"ENOSPC": "free some space on the device", "EROFS": "mount it writable"}.get(name, "")
            raise DeviceError(f"{self.url}: {doing}: {os.strerror(reply.status)}", hint=hint, errno=name)
        return reply


class TrackedRpcDevice(RpcDevice):
    """One of the boards that a TVM RPC tracker has under a key. ``url`` says which one it became,
    and a later session goes to that very board, for the files are there.

    Raises:
        BusyError: all boards of the key are in use.
    """

    @classmethod
    def from_url(cls, url: str) -> TrackedRpcDevice:
        return cls(parse_tracker(url))

    def _server(self) -> Server:
        server, name = take(self._address)
        if not self._address.server:
            self.url = f"{self.url}?server={name}"
            self._address = replace(self._address, url=self.url, server=name)
        return server
