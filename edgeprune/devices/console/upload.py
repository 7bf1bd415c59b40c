"""Files to the board: compressed where that helps, by XMODEM where the board can, resumed where it was cut.

What arrived is collected in a partial file whose name holds the hash of the contents, so a later
call for the same contents goes on from there, and no other call ever mixes with it. The whole is
hashed on the board before it takes its name.
"""

from __future__ import annotations

import base64
import contextlib
import gzip as gz
import hashlib
import re
import shlex
from collections.abc import Callable
from pathlib import PurePosixPath

from edgeprune.devices.common import require_space
from edgeprune.devices.console import xmodem
from edgeprune.devices.console.frames import WRITE, Frame, payload_room
from edgeprune.devices.console.session import POWER_CYCLE, Session, patience_s
from edgeprune.devices.protocol import Progress
from edgeprune.errors import DeviceError, DeviceUnreachableError, VerificationError

SEGMENT = 1 << 18
_SHORTEST = 1 << 12
_XMODEM_WORTH = 4096
_ATTEMPTS = 6
_ANSWER_S = 3.0
_GUARD = b"\n"  # receivers strip trailing padding; what ends in this never looks like any
_LONG_S = 600.0  # hashing and unpacking on a slow card
_FOLDER = '{ [ -d "$d" ] || mkdir -p "$d"; }'
_FULL = "is the disk full or read-only?"


def upload(
    session: Session,
    content: bytes,
    path: str,
    *,
    executable: bool,
    progress: Progress | None,
    gzip: bool,
    receiver: str,
) -> None:
    """Create or replace ``path``; it appears whole or not at all.

    Args:
        gzip: the board can decompress.
        receiver: the board's XMODEM receiver with its options, or empty.

    Raises:
        DeviceError: no space, a folder in the way, or a receiver that stalls.
        DeviceUnreachableError: the line is gone; the partial file stays for another call.
        VerificationError: what the board stored is not what it was sent.
    """
    digest = hashlib.sha256(content).hexdigest()
    place = PurePosixPath(path)
    partial = str(place.with_name(f".{place.name[:100]}.{digest[:16]}.partial"))
    names = f"t={shlex.quote(path)} f={shlex.quote(partial)} d={shlex.quote(str(place.parent))}; "
    packed = gz.compress(content, 9, mtime=0) if gzip else content
    payload = packed if len(packed) < 0.97 * len(content) else content
    try:
        if session.takes(brief := _brief(names, content, digest, executable=executable)):
            told = session.ask(brief, timeout_s=_LONG_S, patience_s=patience_s(0))
            _require(session, path, told, len(content))
            if progress and content:
                progress(len(content), len(content))
            return
        done = _begin(session, path, names, payload, len(content))
        _send(session, payload, done, receiver, _scaled(progress, len(payload), len(content)))
        _finish(session, path, payload, digest, packed=payload is not content, executable=executable)
    except DeviceUnreachableError:
        raise
    except BaseException:
        # The board answers: leave nothing behind. f is still set in its shell.
        with contextlib.suppress(DeviceError):
            session.ask('rm -f "$f" "$f.whole"')
        raise


def _brief(names: str, content: bytes, digest: str, *, executable: bool) -> str:
    """All of it in one request, for contents of a few lines: each request takes a board as long as many bytes do."""
    made = f'printf %s {base64.b64encode(content).decode()} | base64 -d >"$f"' if content else 'true >"$f"'
    return (
        f'{names}if [ -d "$t" ]; then echo it is a folder; false; elif {_FOLDER} && {made}; then '
        f"{_named(digest, digest, len(content), executable=executable)}; else false; fi"
    )


def _begin(session: Session, path: str, names: str, payload: bytes, size: int) -> int:
    """Make folder and partial file; how many bytes of an earlier attempt are good."""
    answer = session.ask(
        f'{names}if [ -d "$t" ]; then echo it is a folder; false; '
        f'elif {_FOLDER} && {{ [ -f "$f" ] || true >"$f"; }}; then rm -f "$f.whole"; '
        'if [ -s "$f" ]; then wc -c <"$f"; sha256sum <"$f"; fi; df -P -k "$d"; else false; fi',
        timeout_s=_LONG_S,
        patience_s=patience_s(len(payload)),
    )
    found = re.match(rb"(?:\s*(\d+)\s+([0-9a-f]{64})\s+-\s)?.*\s\d+\s+\d+\s+(\d+)\s+\d+%", answer.data, re.DOTALL)
    if answer.status or not found:
        why = answer.data.decode(errors="replace").strip()
        raise DeviceError(f"{session.name}: writing {path}: {why}", hint=_FULL, path=path)
    have = int(found[1] or 0)
    # Beside the compressed file lies the whole one for a moment.
    require_space(session.name, path, size + len(payload) - have, int(found[3]) * 1024)
    if have <= len(payload) and (not have or hashlib.sha256(payload[:have]).hexdigest().encode() == found[2]):
        return have
    session.ask('true >"$f"')
    return 0


def _send(session: Session, payload: bytes, done: int, receiver: str, tell: Callable[[int], None]) -> None:
    segment = SEGMENT
    failures = 0
    while done < len(payload):
        if receiver and len(payload) - done >= _XMODEM_WORTH:
            piece = payload[done : done + segment]
            if not _xmodem(session, piece, receiver, lambda n, start=done: tell(start + n)):  # type: ignore[misc]
                failures += 1
                segment = max(_SHORTEST, segment // 2)
                if failures == _ATTEMPTS:
                    raise DeviceError(f"{session.name}: the board's receiver gives up", hint=POWER_CYCLE)
                continue
            failures = 0
        else:
            piece = payload[done : done + _line_bytes(session)]
            told = session.ask(WRITE, piece)
            if told.status:
                raise _stopped(session, told.data)
        done += len(piece)
        tell(done)


def _line_bytes(session: Session) -> int:
    # Where characters get lost, a short line has better chances.
    room = payload_room()
    return room if session.retries == 0 else room // 3


def _xmodem(session: Session, piece: bytes, receiver: str, on_bytes: Callable[[int], None]) -> bool:
    """One segment into the partial file; False if it did not arrive."""
    mark = f"EP-READY {hashlib.sha256(piece).hexdigest()[:12]}".encode()
    failed = False
    sent = 0

    def on_block(n: int) -> None:
        nonlocal sent
        sent = min(sent + n, len(piece))
        on_bytes(sent)

    def meanwhile() -> None:
        nonlocal failed
        try:
            if not session.listen(mark, 2.0 * session.pace):
                raise xmodem.TransferError("the receiver did not start")
            session.receiver_pause_s = xmodem.send(
                session.link,
                piece + _GUARD,
                answer_s=_ANSWER_S * min(session.pace, 4),
                pause_s=session.receiver_pause_s,
                on_block=on_block,
            )
        except xmodem.TransferError:
            failed = True
            session.cancel_receiver()
        except DeviceUnreachableError:
            raise
        except BaseException:
            session.cancel_receiver()
            raise

    size = len(piece)
    told = session.ask(
        f'rm -f "$D/x"; (cd "$D" && echo "{mark.decode()}" >&3 && exec {receiver} x >&3 2>/dev/null); tune\n'
        f'[ "$(head -c {size} "$D/x" | sha256sum)" = "{hashlib.sha256(piece).hexdigest()}  -" ] || exit_=9\n'
        f'if [ -z "$exit_" ]; then head -c {size} "$D/x" >>"$f" || exit_=28; fi\n'
        'rm -f "$D/x"; q=$exit_ exit_=; (exit ${q:-0})',
        patience_s=5,
        timeout_s=120 + (2 * size / session.link.bytes_per_s if session.link.bytes_per_s else 0),
        meanwhile=meanwhile,
    )
    if told.status == 28:
        raise _stopped(session, told.data)
    return told.status == 0 and not failed


def _finish(session: Session, path: str, payload: bytes, digest: str, *, packed: bool, executable: bool) -> None:
    """Give the file its name, once the board has hashed what it stored, or what it unpacked from that."""
    arrived = hashlib.sha256(payload).hexdigest()
    named = _named(digest, arrived, len(payload), executable=executable, packed=packed)
    told = session.ask(named, timeout_s=_LONG_S, patience_s=patience_s(len(payload)))
    _require(session, path, told, len(payload))


def _named(digest: str, arrived: str, size: int, *, executable: bool, packed: bool = False) -> str:
    """A script that gives the partial file, or what it unpacks to, the name that it is for; else status 28 if that has
    not the right size (base64 of busybox says nothing of a disk that fills up), 7 if it has other bytes.
    """
    unpacked = 'x=$f.whole; gzip -dc <"$f" >"$x" || u=1' if packed else "x=$f"
    mode = 'chmod 755 "$x" && ' if executable else ""
    rest = ' && rm -f "$f"' if packed else ""
    return (
        f'u=; {unpacked}; if [ -z "$u" ] && [ "$(sha256sum <"$x")" = "{digest}  -" ]; then '
        f'{mode}sync && mv -f "$x" "$t"{rest}; '
        f'elif [ $(wc -c <"$f") -ne {size} ]; then wc -c <"$f"; (exit 28); '
        f'elif [ "$(sha256sum <"$f")" != "{arrived}  -" ]; then (exit 7); '
        "else (exit ${u:-7}); fi"
    )


def _require(session: Session, path: str, told: Frame, size: int) -> None:
    """Raises what a script of :func:`_named` found."""
    why = told.data.decode(errors="replace").strip()
    if told.status == 7:
        raise VerificationError(
            f"{session.name}: {path} is not on the board's disk what was sent", hint="suspect the card", path=path
        )
    if told.status == 28:
        why = f"{why} of {size} bytes were stored"
    if told.status:
        raise DeviceError(f"{session.name}: writing {path}: {why}", hint=_FULL, path=path)


def _stopped(session: Session, said: bytes) -> DeviceError:
    why = said.decode(errors="replace").strip() or "the board cannot write"
    return DeviceError(f"{session.name}: {why}", hint=_FULL)


def _scaled(progress: Progress | None, sent: int, size: int) -> Callable[[int], None]:
    """Progress in bytes of the contents, whatever they are packed to; each figure is told once."""
    last = 0

    def tell(done: int) -> None:
        nonlocal last
        now = size * done // sent
        if progress and now > last:
            last = now
            progress(now, size)

    return tell
