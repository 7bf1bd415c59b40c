"""Requests to the library that edgeprune loads into a TVM RPC server, and its replies (board/rpc).

A message is a row of fields, each a 32-bit size and that many bytes: integers are 8 bytes, texts
end in a NUL, all is little-endian. The first field of a request is its verb, that of a reply its
status: 0 or an errno of the board's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, auto


class Verb(IntEnum):
    """In the order of the table in board/rpc/shim.c, where the fields of each are told."""

    ROOT = 0
    CREATE = auto()
    WRITE = auto()
    COMMIT = auto()
    ABORT = auto()
    OPEN = auto()
    READ = auto()
    REMOVE = auto()
    START = auto()
    POLL = auto()
    CANCEL = auto()


class State(IntEnum):
    """How a command stands."""

    RUNNING = 0
    EXITED = auto()
    TIMED_OUT = auto()
    NOT_STARTED = auto()


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    fields: tuple[bytes, ...]

    def integer(self, index: int) -> int:
        return _integer(self.fields[index])


def pack(verb: Verb, *fields: int | str | bytes) -> bytes:
    return b"".join(struct.pack("<I", len(data)) + data for data in map(_data, (int(verb), *fields)))


def unpack(message: bytes) -> Reply:
    """Raises:
    ValueError: the message is cut off or no reply at all.
    """
    fields, at = [], 0
    while at < len(message):
        size = int.from_bytes(message[at : at + 4], "little")
        fields.append(message[at + 4 : at + 4 + size])
        at += 4 + size
    if at != len(message) or not fields:
        raise ValueError(f"a reply of {len(message)} bytes is not whole")
    return Reply(_integer(fields[0]), tuple(fields[1:]))


def _data(field: int | str | bytes) -> bytes:
    if isinstance(field, int):
        return struct.pack("<q", field)
    return field if isinstance(field, bytes) else field.encode() + b"\0"


def _integer(field: bytes) -> int:
    if len(field) != 8:
        raise ValueError(f"an integer of {len(field)} bytes")
    return int.from_bytes(field, "little", signed=True)
