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

    Raises:
        ValueError: it is longer than a terminal can take; the caller splits what it sends.
    """
    parts = [b"%d" % number, WRITE.encode() if script == WRITE else base64.b64encode(script.encode())]
    if payload:
        parts.append(base64.b64encode(payload))
    body = b" ".join(parts)
    line = b"do %s %s\n" % (hashlib.sha256(body).hexdigest().encode(), body)
    if len(line) > REQUEST_BYTES:
        raise ValueError(f"a request of {len(line)} bytes")
    return line


def payload_room(script: str) -> int:
    """Bytes of payload that fit into one request beside ``script``."""
    used = len(request(10**8, script)) + 1
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
            session, number, status, data, digest = found.groups()
            said = b" ".join((session, number, status, data))
            if session == self._session and hashlib.sha256(said).hexdigest().encode() == digest:
                try:
                    content = b"" if data == b"-" else base64.b64decode(data, validate=True)
                except binascii.Error:  # hashed by the board, and yet not base64
                    return None
                return Frame(int(number), int(status), content)
        return None


def plain(data: bytes) -> str:
    """Console output as text, without escape sequences."""
    return _NOISE.sub(b"", data).decode(errors="replace")
