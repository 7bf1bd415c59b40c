"""Files from the board, in pieces that are asked for one by one; where noise spoils them, in smaller ones."""

from __future__ import annotations

import gzip as gz
import hashlib
import shlex
import zlib

from edgeprune.devices.console.session import NoisyLineError, Session, patience_s
from edgeprune.errors import DeviceError

_FIRST, _SMALLEST, _LARGEST = 1 << 14, 1 << 8, 1 << 17
_BRIEF, _WORTH_PACKING = 1024, 2048
_ATTEMPTS = 3


def fetch(session: Session, path: str, *, gzip: bool, quoted: bool = False) -> bytes:
    """Contents of a file.

    Args:
        path: relative to the device's folder; a word of the board's shell if ``quoted``.
        gzip: the board can compress.

    Raises:
        DeviceError: there is no such file, or it changes all the time.
        DeviceUnreachableError: the line is gone.
    """
    name = path if quoted else shlex.quote(path)
    for _ in range(_ATTEMPTS):
        told = session.ask(
            f"if ! [ -f {name} ]; then echo no such file; false; elif n=$(wc -c <{name}) && echo $n; then "
            f"if [ $n -gt {_BRIEF} ]; then sha256sum; else cat; fi <{name}; else false; fi",
            timeout_s=600,
            patience_s=3,
        )
        length, _, said = told.data.partition(b"\n")
        if told.status or not length.isdigit():
            why = told.data.decode(errors="replace").strip()
            raise DeviceError(f"{session.name}: reading {path}: {why}", path=path)
        if (size := int(length)) <= _BRIEF:
            if len(said) == size:
                return said  # read at one stroke, and its frame was checked
            continue
        data = _packed(session, name, size) if gzip and size >= _WORTH_PACKING else None
        if data is None:
            data = _pieces(session, name, size)
        if hashlib.sha256(data).hexdigest().encode() == said[:64]:
            return data
    raise DeviceError(f"{session.name}: {path} changes while it is read", path=path)


def _packed(session: Session, name: str, size: int) -> bytes | None:
    """The file through gzip on the board; None if that has no room, or saves none."""
    told = session.ask(f'gzip -1 -c {name} >"$D/z" && wc -c <"$D/z"', timeout_s=600, patience_s=patience_s(size))
    try:
        packed = int(told.data) if told.status == 0 else size
        return None if packed > 0.95 * size else gz.decompress(_pieces(session, '"$D/z"', packed))
    except (ValueError, EOFError, OSError, zlib.error):
        return None
    finally:
        session.ask('rm -f "$D/z"')


def _pieces(session: Session, name: str, size: int) -> bytes:
    data = bytearray()
    length = _FIRST
    while len(data) < size:
        before = session.retries
        slow = 4 / 3 * length / session.link.bytes_per_s if session.link.bytes_per_s else 0.0
        try:
            got = session.ask(
                f"dd if={name} bs={length} skip={len(data) // length} count=1 2>/dev/null",
                timeout_s=20 + 4 * slow,
                patience_s=2 + 2 * slow,
                attempts=None if length == _SMALLEST else 3,
            )
        except NoisyLineError:
            # Under heavy noise no long frame is ever whole.
            length = max(_SMALLEST, length // 4)
            continue
        if got.status or len(got.data) != min(length, size - len(data)):
            break  # it became shorter: the hash tells
        data += got.data
        if session.retries > before:
            length = max(_SMALLEST, length // 2)
        elif len(data) % (2 * length) == 0:
            length = min(_LARGEST, 2 * length)
    return bytes(data)
