"""Requests to the agent on the board, and the frames it answers with.

A console carries more than what was asked for: kernel messages, echo, colours, prompts. A frame is
therefore one line with a hash of all that it says; what does not match its hash never happened.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

REQUEST_BYTES = 4000
"""Longest line: a terminal in line mode drops what exceeds 4095 characters."""

WRITE = "w"
"""The script that appends the payload to the file ``$f``; the most frequent one, and sent as it is."""

# Colours and cursor moves, titles, and the characters that terminals put in for themselves.
_NOISE = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[=>()][0B]?|[\r\0]")
_FRAME = re.compile(rb"EP:(\w+) (\d+) (\d+) ([A-Za-z0-9+/]+=*|-) ([0-9a-f]{64})(?![0-9a-f])")
_MARK = b"EP:"


@dataclass(frozen=True, slots=True)
class Frame:
    """What the board answered: the number of the request, its exit status and its output."""

    number: int
    status: int
    data: bytes


def request(number: int, script: str, payload: bytes = b"") -> bytes:
    """One request line for the agent.

    Args:
        script: for the board's shell. One line of plain characters goes as it is, any other in base64.
        payload: what :data:`WRITE` appends; other scripts take none.

    Raises:
        ValueError: it is longer than a terminal can take; the caller splits what it sends. Or a payload that no script
            would read.
    """
    if payload and script != WRITE:
        raise ValueError("only a request to write has a payload")
    if script == WRITE:
        said = b"w " + base64.b64encode(payload)
    elif script.isascii() and script.isprintable():
        said = b": " + script.encode()
    else:
        said = base64.b64encode(script.encode())
    body = b"%d %s" % (number, said)
    line = b"do %s %s\n" % (digest(body), body)
    if len(line) > REQUEST_BYTES:
        raise ValueError(f"a request of {len(line)} bytes")
    return line


def digest(said: bytes) -> bytes:
    """The hash of what a line says, as the agent takes it: its shell ends what it gives to sha256sum with a newline."""
    return hashlib.sha256(said + b"\n").hexdigest().encode()


def payload_room() -> int:
    """Bytes that fit into one request to write."""
    used = len(request(10**8, WRITE))
    return (REQUEST_BYTES - used) // 4 * 3


class FrameReader:
    """Finds the frames of one session in what a console prints."""

    def __init__(self, session: str) -> None:
        self._session = session.encode()
        self._pending = b""
        self.damaged = False

    def feed(self, data: bytes) -> list[Frame]:
        """Frames that are whole now, oldest first. ``damaged`` is set when one came that is not."""
        *lines, self._pending = _NOISE.sub(b"", self._pending + data).split(b"\n")
        frames = []
        for line in lines:
            frame = self._read(line)
            if frame:
                frames.append(frame)
            elif _MARK in line:
                self.damaged = True
        return frames

    def forget(self) -> None:
        """Drop the beginning of a line: what follows belongs to another request."""
        self._pending, self.damaged = b"", False

    def _read(self, line: bytes) -> Frame | None:
        for found in _FRAME.finditer(line):
            session, number, status, data, told = found.groups()
            said = b" ".join((session, number, status, data))
            if session == self._session and digest(said) == told:
                try:
                    content = b"" if data == b"-" else base64.b64decode(data, validate=True)
                except binascii.Error:  # hashed by the board, and yet not base64
                    return None
                return Frame(int(number), int(status), content)
        return None


def plain(data: bytes) -> str:
    """Console output as text, without escape sequences."""
    return _NOISE.sub(b"", data).decode(errors="replace")
