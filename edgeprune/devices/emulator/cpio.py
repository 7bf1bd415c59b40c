"""A writer of the "newc" archives that the Linux kernel unpacks as its first file system.

Numbers of files are counted and times are zero, so the same contents give the same bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder or symbolic link; ``mode`` with its type bits."""

    name: str
    mode: int
    data: bytes = b""

    @classmethod
    def file(cls, name: str, data: bytes, *, executable: bool = False) -> Entry:
        return cls(name, stat.S_IFREG | (0o755 if executable else 0o644), data)

    @classmethod
    def folder(cls, name: str, permissions: int = 0o755) -> Entry:
        return cls(name, stat.S_IFDIR | permissions)

    @classmethod
    def link(cls, name: str, target: str) -> Entry:
        return cls(name, stat.S_IFLNK | 0o777, target.encode())


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive; a folder has to come before what lies in it."""
    out = bytearray()
    for number, entry in enumerate(entries, 1):
        out += _record(number, entry)
    return bytes(out + _record(0, Entry("TRAILER!!!", 0)))


def _record(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # inode, mode, user, group, links, time, size, device (2), of a device node (2), name's length, checksum
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(head + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
