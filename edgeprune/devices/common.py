"""Helpers that all transports share: checks of commands, chunks of files, free space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeprune.errors import BadInputError, DeviceError, UsageError

_CHUNK_BYTES = 1 << 18


def check_argv(argv: Sequence[str]) -> None:
    """Refuse what no operating system can start.

    Raises:
        UsageError: an empty command, or an argument that is not UTF-8 or holds a NUL character.
    """
    if isinstance(argv, str) or not argv or not argv[0]:
        raise UsageError("a command is a list of arguments that begins with a program", argv=repr(argv))
    for argument in argv:
        if "\0" in argument or any("\ud800" <= c <= "\udfff" for c in argument):
            raise UsageError(f"{argument!r} cannot be an argument of a program", argv=repr(list(argv)))


def chunks_of(source: Path | bytes) -> tuple[Iterator[bytes], int]:
    """The pieces of a file or of bytes, and their size in all.

    Raises:
        BadInputError: the file cannot be read.
    """
    if isinstance(source, bytes):
        return (source[i : i + _CHUNK_BYTES] for i in range(0, len(source), _CHUNK_BYTES)), len(source)
    try:
        size = source.stat().st_size
        source.open("rb").close()
    except OSError as e:
        raise BadInputError(f"{source} cannot be read: {e.strerror}", path=str(source)) from e
    return _file_chunks(source), size


def require_space(url: str, path: str, size: int, free: int) -> None:
    """Raises:
    DeviceError: ``size`` bytes do not fit into ``free`` bytes.
    """
    if size > free:
        raise DeviceError(
            f"{url}: {path} needs {size} bytes and {free} are free",
            hint="free some space on the device",
            needed_bytes=size,
            free_bytes=free,
        )


def _file_chunks(source: Path) -> Iterator[bytes]:
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
