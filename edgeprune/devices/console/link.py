"""Bytes in and out: a serial port, or a socket."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from typing import Any, Protocol

from edgeprune.errors import BusyError, DeviceUnreachableError, MissingDependencyError

_READ_BYTES = 1 << 16
_PULLED = "is the cable plugged in and the board powered?"


class Link(Protocol):
    """A line to a board. Every method raises :class:`DeviceUnreachableError` once it is gone."""

    bytes_per_s: float | None  # None: as fast as both ends can

    def read(self, timeout_s: float) -> bytes:
        """What arrived, waiting at most so long for a first byte; empty if none did."""
        ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class PortLink:
    """A serial port, opened for this process alone.

    Raises:
        BusyError: someone else has it open.
        DeviceUnreachableError: there is no such port, or it may not be opened.
        MissingDependencyError: pyserial is not installed.
    """

    def __init__(self, path: str, baud: int) -> None:
        try:
            import serial  # type: ignore[import-untyped]
        except ImportError:
            raise MissingDependencyError("pyserial is not installed", hint="pip install pyserial") from None
        self._errors: tuple[type[Exception], ...] = (serial.SerialException, OSError, TypeError, ValueError)
        self._path = path
        self.bytes_per_s: float | None = baud / 10  # start bit, eight bits, stop bit
        try:
            self._port: Any = serial.Serial(path, baud, exclusive=True, timeout=0, write_timeout=60)
        except (serial.SerialException, OSError, ValueError) as e:
            raise _cannot_open(path, baud, e) from e

    def read(self, timeout_s: float) -> bytes:
        try:
            # Changing the port's own timeout would set all of its parameters anew each time.
            if not select.select([self._port], [], [], max(0.0, timeout_s))[0]:
                return b""
            return bytes(self._port.read(_READ_BYTES))
        except self._errors as e:
            raise self._gone(e) from e

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except self._errors as e:
            raise self._gone(e) from e

    def close(self) -> None:
        self._port.close()

    def _gone(self, error: Exception) -> DeviceUnreachableError:
        return DeviceUnreachableError(f"{self._path}: the line broke: {error}", hint=_PULLED, port=self._path)


class SocketLink:
    """A socket with the console of a board behind it, such as the serial port of QEMU."""

    bytes_per_s: float | None = None

    def __init__(self, sock: socket.socket, name: str) -> None:
        self._socket, self._name = sock, name
        sock.setblocking(False)

    def read(self, timeout_s: float) -> bytes:
        try:
            if not select.select([self._socket], [], [], max(0.0, timeout_s))[0]:
                return b""
            data = self._socket.recv(_READ_BYTES)
        except (OSError, ValueError) as e:
            raise self._gone(str(e)) from e
        if not data:
            raise self._gone("it hung up")
        return data

    def write(self, data: bytes) -> None:
        until = time.monotonic() + 60
        while data:
            try:
                if not select.select([], [self._socket], [], max(0.0, until - time.monotonic()))[1]:
                    raise self._gone("it takes no more bytes")
                data = data[self._socket.send(data) :]
            except (OSError, ValueError) as e:
                raise self._gone(str(e)) from e

    def close(self) -> None:
        self._socket.close()

    def _gone(self, why: str) -> DeviceUnreachableError:
        return DeviceUnreachableError(f"{self._name}: the board is gone: {why}", hint="open it again")


def _cannot_open(path: str, baud: int, error: Exception) -> BusyError | DeviceUnreachableError:
    number = getattr(error, "errno", None)
    if number in (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK) or "exclusively lock" in str(error):
        return BusyError(f"{path} is in use", hint="close the terminal program that has it open", port=path)
    if number == errno.EACCES:
        return DeviceUnreachableError(
            f"{path} may not be opened by this user", hint="edgeprune doctor says what mends that", port=path
        )
    why = os.strerror(number) if isinstance(number, int) else str(error)
    return DeviceUnreachableError(
        f"{path} cannot be opened at {baud} baud: {why}", hint="edgeprune devices lists the ports", port=path
    )
