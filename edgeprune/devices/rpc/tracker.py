"""Client of a TVM RPC tracker: it lists the servers and takes a free one.

The protocol is JSON behind a 32-bit size. Spoken here and not by TVM's client, because the address
that a tracker hands out must be looked at before anything connects to it.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgeprune.devices.rpc.address import Address, loopback
from edgeprune.devices.rpc.session import Server
from edgeprune.errors import BusyError, DeviceUnreachableError

ANSWER_S, FREE_S = 10.0, 30.0

_MAGIC = 0x2F271
_SUCCESS, _REQUEST, _SUMMARY = 0, 4, 6
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Tracked:
    """One server of a tracker."""

    key: str
    host: str
    port: int
    free: int  # servers of this key that are free now
    total: int  # and all of them

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


def servers_of(address: str, port: int, url: str) -> list[Tracked]:
    """All servers of a tracker, by key and name.

    Raises:
        DeviceUnreachableError: no tracker answers there.
    """
    with _talk(address, port, url) as talk:
        summary = talk.ask([_SUMMARY])
    with _as_nonsense(url):
        status, content = summary
        if status != _SUCCESS:
            raise ValueError(f"status {status}")
        places = [
            (str(e["key"]).removeprefix("server:"), str(e["addr"][0]), int(e["addr"][1]))
            for e in content["server_info"]
        ]
        queues = {str(key): int(entry["free"]) for key, entry in content["queue_info"].items()}
    keys = [key for key, _, _ in places]
    return sorted(
        (Tracked(key, host, number, queues.get(key, 0), keys.count(key)) for key, host, number in places),
        key=lambda server: (server.key, server.host, server.port),
    )


def take(tracker: Address) -> tuple[Server, str]:
    """A free server of the key, or the one that the address names; and its name.

    A tracker hands out any server. One that was not meant is let go: it offers itself again after
    some seconds without a client.

    Raises:
        DeviceUnreachableError: no tracker answers, or it knows no such server.
        BusyError: none is free.
        UsageError: the tracker names a server that is not on this computer.
    """
    url = tracker.url
    address = loopback(tracker.host, tracker.port, url)
    known = servers_of(address, tracker.port, url)
    pool = [server.name for server in known if server.key == tracker.key]
    if not pool or (tracker.server and tracker.server not in pool):
        raise DeviceUnreachableError(
            f"{url}: the tracker knows no server {tracker.server or tracker.key}",
            hint="it knows " + (", ".join(f"{server.key} at {server.name}" for server in known) or "none at all"),
            servers=[server.name for server in known],
        )
    deadline = time.monotonic() + FREE_S
    with _talk(address, tracker.port, url) as talk:
        while True:
            try:
                answer = talk.ask([_REQUEST, tracker.key, "", 1], deadline - time.monotonic())
            except TimeoutError:
                raise BusyError(
                    f"{url}: {tracker.server or f'all of {len(pool)}'} stayed busy for {FREE_S:g} s",
                    hint="try again when others are done, or register a further board",
                    servers=pool,
                ) from None
            with _as_nonsense(url):
                status, (host, port, key) = answer
                if status != _SUCCESS or not isinstance(key, str):
                    raise ValueError(f"status {status}")
                host, port = str(host), int(port)
            if tracker.server in ("", f"{host}:{port}"):
                return Server(loopback(host, port, url, tracked=True), port, key), f"{host}:{port}"


class _Talk:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def ask(self, request: list[Any], patience_s: float = ANSWER_S) -> Any:
        """Raises:
        TimeoutError, OSError, ValueError: no answer in time, none at all, or no JSON.
        """
        deadline = time.monotonic() + patience_s
        data = json.dumps(request).encode()
        self._connection.settimeout(ANSWER_S)
        self._connection.sendall(struct.pack("<i", len(data)) + data)
        (size,) = struct.unpack("<i", self.read(4, deadline))
        if not 0 < size <= _MOST_BYTES:
            raise ValueError(f"an answer of {size} bytes")
        return json.loads(self.read(size, deadline))

    def read(self, size: int, deadline: float) -> bytes:
        data = b""
        while len(data) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(left)
            piece = self._connection.recv(size - len(data))
            if not piece:
                raise ConnectionResetError("it closed the connection")
            data += piece
        return data


@contextmanager
def _talk(address: str, port: int, url: str) -> Iterator[_Talk]:
    try:
        with socket.create_connection((address, port), ANSWER_S) as connection:
            talk = _Talk(connection)
            connection.sendall(struct.pack("<i", _MAGIC))
            if talk.read(4, time.monotonic() + ANSWER_S) != struct.pack("<i", _MAGIC):
                raise ConnectionError("something else than a tracker answers")
            yield talk
    except (OSError, ValueError) as e:
        why = "no answer in time" if isinstance(e, TimeoutError) else getattr(e, "strerror", None) or str(e)
        raise DeviceUnreachableError(
            f"{url}: the tracker cannot be asked: {why}",
            hint="is it running, and reached by a tunnel that stands?",
        ) from None


@contextmanager
def _as_nonsense(url: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as e:
        raise DeviceUnreachableError(f"{url}: the tracker answers what no tracker of TVM 0.27 does: {e!r}") from None
