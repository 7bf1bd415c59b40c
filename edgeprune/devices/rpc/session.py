"""One session with a TVM RPC server, held by a worker process (rpc/worker.py) that can be left.

Every exchange has an end: a worker that does not answer in time is left to itself, to end the
connection and itself as soon as it can and within a minute, and whoever calls next opens a new
session with another worker.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.devices.rpc.library import ElfHeader, library_for
from edgeprune.devices.rpc.wire import Reply, Verb, pack, unpack
from edgeprune.errors import DeviceUnreachableError, MissingDependencyError

# Seconds. Starting means loading TVM, connecting means waiting for a server that ends a session.
START_S, CONNECT_S, CALL_S = 120.0, 20.0, 20.0
_MOST_IDLE = 2


@dataclass(frozen=True, slots=True)
class Server:
    """Where a session goes. ``address`` is numeric and was checked; ``key`` is what the server asks for."""

    address: str
    port: int
    key: str = ""


class Session:
    """Raises:
    DeviceUnreachableError: no TVM RPC server answers there in time.
    MissingDependencyError: a package for TVM RPC is not installed.
    """

    def __init__(self, url: str, server: Server) -> None:
        self.url = url
        self._lock = threading.RLock()
        self._worker: _Worker | None = None
        opened = False
        try:
            self._worker = _idle_worker()
            if self._worker is None:
                self._worker = _Worker()
                ready = self._worker.exchange(None, START_S)
                if missing := ready.get("missing"):
                    raise MissingDependencyError(
                        f"{url}: TVM RPC needs the package {missing}, which is not installed",
                        hint="pip install 'edgeprune[rpc]'",
                    )
            self._ask(CONNECT_S, do="open", host=server.address, port=server.port, key=server.key)
            opened = True
            about = self._ask(CONNECT_S, do="about")
            library = library_for(url, ElfHeader(about["machine"], about["interpreter"]))
            self._ask(CONNECT_S, do="load", path=str(library))
        except BaseException as e:
            if self._worker is not None and not opened:
                self._worker.kill()  # it must not become a client that nobody wants when its turn comes
                self._worker = None
            self.abandon()
            if isinstance(e, _GoneError):
                raise self._unreachable(str(e)) from None
            raise

    def __del__(self) -> None:
        self.abandon()  # a device that nobody closed

    @property
    def alive(self) -> bool:
        return self._worker is not None

    def call(self, verb: Verb, *fields: int | str | bytes, patience_s: float = 0.0) -> Reply:
        """One request to the board.

        Args:
            patience_s: how long the verb itself may take, on top of the way there and back.

        Raises:
            DeviceUnreachableError: the session is over; nothing is known of what became of the request.
        """
        data = base64.b64encode(pack(verb, *fields)).decode()
        with self._lock:
            try:
                answer = self._ask(CALL_S + patience_s, do="call", data=data)
                return unpack(base64.b64decode(answer["data"]))
            except (_GoneError, ValueError) as e:
                self.abandon()
                raise self._unreachable(str(e)) from None
            except BaseException:  # Ctrl-C: the answer would be taken for that of the next request
                self.abandon()
                raise

    def close(self) -> None:
        """End the session and keep the worker for the next one."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is None:
            return
        try:
            worker.exchange({"do": "close"}, CALL_S)
        except BaseException as e:
            worker.leave()
            if not isinstance(e, _GoneError):
                raise
            return
        if len(_idle) < _MOST_IDLE:
            _idle.append(worker)
        else:
            worker.leave()

    def abandon(self) -> None:
        """End the session without waiting. The board kills what still runs there when the connection ends."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.leave()

    def _ask(self, patience_s: float, **request: Any) -> dict[str, Any]:
        if self._worker is None:
            raise _GoneError("the session is over")
        answer = self._worker.exchange(request, patience_s)
        if "error" in answer:
            raise _GoneError(answer["error"])
        return answer

    def _unreachable(self, why: str) -> DeviceUnreachableError:
        return DeviceUnreachableError(
            f"{self.url}: {why}",
            hint="is the server running, reached by a tunnel that stands, and free? It serves one session at a time",
        )


class _GoneError(Exception):
    """The session cannot go on; the text says why."""


class _Worker:
    def __init__(self) -> None:
        package = str(Path(__file__).parents[2])  # this very edgeprune
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            # -P: the worker must not load what merely lies in the current folder.
            (sys.executable, "-P", "-m", "edgeprune.devices.rpc.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # TVM logs each step of a client that fails; our errors say it in one line.
            stderr=None if os.environ.get("EDGEPRUNE_DEBUG") else subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        os.set_blocking(self._to.fileno(), False)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def exchange(self, request: dict[str, Any] | None, patience_s: float) -> dict[str, Any]:
        """Send a request, if there is one, and wait for an answer.

        Raises:
            _GoneError: it does not come in time, or not at all.
        """
        deadline = time.monotonic() + patience_s
        unsent = memoryview(json.dumps(request).encode() + b"\n" if request else b"")
        got = bytearray()
        while not got.endswith(b"\n"):
            left = deadline - time.monotonic()
            readable, writable, _ = select.select([self._from], [self._to] if unsent else [], [], max(0.0, left))
            if not readable and not writable and left <= 0:
                raise _GoneError(f"the server did not answer in {patience_s:g} s")
            if writable:
                with contextlib.suppress(BlockingIOError):
                    try:
                        unsent = unsent[os.write(self._to.fileno(), unsent) :]
                    except BrokenPipeError:
                        raise _GoneError("the process that speaks to the server ended") from None
            if readable:
                piece = os.read(self._from.fileno(), 1 << 20)
                if not piece:
                    raise _GoneError("the process that speaks to the server ended")
                got += piece
        answer: dict[str, Any] = json.loads(got)
        return answer

    def leave(self) -> None:
        """The end of its input lets it finish what it is at; then it ends."""
        self._to.close()
        self._from.close()
        _leaving.append(self)
        for worker in list(_leaving):
            if not worker.alive:
                with contextlib.suppress(ValueError):  # another thread was quicker
                    _leaving.remove(worker)

    def wait(self, patience_s: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._to.close()
        self._from.close()


_idle: list[_Worker] = []  # list.pop and list.append are atomic
_leaving: list[_Worker] = []


def _idle_worker() -> _Worker | None:
    while _idle:
        try:
            worker = _idle.pop()
        except IndexError:
            break  # another thread was quicker
        if worker.alive:
            return worker
        worker.leave()
    return None


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().leave()
    for worker in _leaving:
        worker.wait(2.0)
