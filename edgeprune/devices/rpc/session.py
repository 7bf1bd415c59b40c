"""One session with a TVM RPC server, held by a worker process (rpc/worker.py) that can be left.

Every exchange has an end: a worker that does not answer in time is left to itself, to end the
connection and itself as soon as it can and within a minute, and whoever calls next opens a new
session with another worker.
"""

from __future__ import annotations

import base64
import os
import threading
from dataclasses import dataclass
from typing import Any

from edgeprune.children import Child, ChildGoneError, Waiting, running
from edgeprune.devices.rpc.library import ElfHeader, library_for
from edgeprune.devices.rpc.wire import Reply, Verb, pack, unpack
from edgeprune.errors import DeviceUnreachableError, MissingDependencyError

# Seconds. Starting means loading TVM, connecting means waiting for a server that ends a session.
START_S, CONNECT_S, CALL_S = 120.0, 20.0, 20.0
_COMMAND = running("edgeprune.devices.rpc.worker")
_WAITING = Waiting(most=2, patience_s=2.0)


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
        self._worker: Child | None = None
        opened = False
        try:
            self._worker = _WAITING.take()
            if self._worker is None:
                # TVM logs each step of a client that fails; our errors say it in one line.
                self._worker = Child(_COMMAND, quiet=not os.environ.get("EDGEPRUNE_DEBUG"))
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
            if isinstance(e, ChildGoneError):
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
            except (ChildGoneError, ValueError) as e:
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
            _WAITING.dismiss(worker)
            if not isinstance(e, ChildGoneError):
                raise
            return
        _WAITING.keep(worker)

    def abandon(self) -> None:
        """End the session without waiting. The board kills what still runs there when the connection ends."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            _WAITING.dismiss(worker)

    def _ask(self, patience_s: float, **request: Any) -> dict[str, Any]:
        if self._worker is None:
            raise ChildGoneError("the session is over")
        answer = self._worker.exchange(request, patience_s)
        if "error" in answer:
            raise ChildGoneError(answer["error"])
        return answer

    def _unreachable(self, why: str) -> DeviceUnreachableError:
        return DeviceUnreachableError(
            f"{self.url}: {why}",
            hint="is the server running, reached by a tunnel that stands, and free? It serves one session at a time",
        )
