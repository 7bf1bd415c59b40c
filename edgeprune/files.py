"""Atomic writing: a file on this computer appears whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeprune.errors import UsageError


def require_writable(path: Path) -> None:
    """Refuse a path that cannot be written as a file, before the work that it is for is done.

    Raises:
        UsageError: it is a folder, or lies in none.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint=f"name a file in it: {path / 'NAME'}")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} for {path.name}", hint="make it first")


def write_whole(path: Path, data: bytes | str) -> None:
    """Atomic replacement of a file's content by ``data`` (text as UTF-8), on the disk when this returns.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    with whole_file(path) as partial:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A partial path beside ``path``, with the same suffix, for libraries that write files themselves.

    The file there becomes ``path`` when the ``with`` block ends; if the block fails, nothing changes. Folders above are
    made. As with ``open``, a new file has the mode that the umask gives, and one that is replaced keeps its own.

    Raises:
        OSError: the file cannot be written or replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Random, so that two writers of one path never share a partial file; and short enough for any file system.
    partial = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(8)}.partial{path.suffix[:16]}")
    try:
        yield partial
        _sync(partial)
        with suppress(FileNotFoundError):
            shutil.copymode(path, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    # Some file systems cannot sync a folder. The file is whole all the same.
    with suppress(OSError):
        _sync(path.parent)


def _sync(path: Path) -> None:
    """The disk has what was written to a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
