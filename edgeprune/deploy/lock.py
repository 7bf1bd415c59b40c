"""One deployment at a time: a lock on the device that names its owner and survives its death.

The lock is a symbolic link whose target is the owner as JSON. ``ln -s`` makes it in one step, name
and contents together, so there is no moment with a lock and no owner. An owner that was killed is
recognised on its own computer only; anywhere else the lock counts as live.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edgeprune.deploy.board import Board
from edgeprune.deploy.layout import LOCK
from edgeprune.errors import BusyError, DeviceError

_ATTEMPTS = 3

_held: set[str] = set()
"""Tokens that this process holds: a token of ours that is not here was left by a dropped link."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock.

    Attributes:
        host: name of the computer, for people.
        computer: which computer it is, and ``boot`` which of its boots.
        namespace: the process ids it counts in (a container has its own).
        pid, started: the process, and its start in clock ticks since boot: ids are used again.
        token: this one holding of the lock.
    """

    host: str
    computer: str
    boot: str
    namespace: str
    pid: int
    started: str
    token: str

    @classmethod
    def me(cls) -> Owner:
        host = socket.gethostname()
        identity = _text("/etc/machine-id") or str(uuid.getnode())
        return cls(
            host=host,
            computer=hashlib.sha256(f"edgeprune {host} {identity}".encode()).hexdigest()[:16],
            boot=_text("/proc/sys/kernel/random/boot_id"),
            namespace=_namespace(),
            pid=os.getpid(),
            started=_started(os.getpid()),
            token=secrets.token_hex(8),
        )

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """None if ``text`` is not what :meth:`to_text` writes."""
        try:
            data = json.loads(text)
            owner = cls(**data)
        except (ValueError, TypeError):
            return None
        return (
            owner
            if all(isinstance(getattr(owner, f.name), int if f.name == "pid" else str) for f in fields(cls))
            else None
        )

    def to_text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def is_dead(self) -> bool:
        """True only if that is certain from here."""
        me = Owner.me()
        if self.computer != me.computer:
            return False
        if self.boot != me.boot:
            return True
        if self.namespace != me.namespace:
            return False
        if self.pid == me.pid and self.started == me.started:
            return self.token not in _held
        return not _runs(self.pid) or _started(self.pid) != self.started


@contextmanager
def hold(board: Board) -> Iterator[Owner]:
    """Hold the device's lock.

    Raises:
        BusyError: a living owner holds it, or one that cannot be judged from here.
    """
    with _hold(board, LOCK) as owner:
        yield owner


def read_owner(board: Board) -> Owner | None:
    """Who holds the lock now; None if nobody does."""
    return Owner.parse(board.link_target(LOCK) or "")


@contextmanager
def _hold(board: Board, name: str) -> Iterator[Owner]:
    me = Owner.me()
    # Before the link is made: its making may succeed and the reply be lost.
    _held.add(me.token)
    try:
        _take(board, name, me)
        yield me
    except BaseException:
        # What went wrong inside matters more than a lock that the dead link keeps.
        with suppress(DeviceError):
            _give(board, name, me)
        raise
    else:
        _give(board, name, me)
    finally:
        _held.discard(me.token)


def _take(board: Board, name: str, me: Owner) -> None:
    owner = None
    for _ in range(_ATTEMPTS):
        made = board.tool("ln", "-sn", me.to_text(), name)
        if made.returncode == 0:
            return
        target = board.link_target(name)
        if target is None:
            continue  # given back in between, or this disk takes no links at all
        owner = Owner.parse(target)
        if owner is None or not owner.is_dead():
            raise _busy(board, name, owner)
        # Two runs may find the same stale lock. Whoever holds the lock of that lock may remove it,
        # after looking again: else the slower one would remove the faster one's new lock.
        with _hold(board, f"{name}.{owner.token}"):
            if board.link_target(name) == target:
                board.device.remove(name)
    if owner is None:
        raise DeviceError(
            f"{board.device.url}: the lock cannot be made: {made.stderr.strip()}",
            hint="mount the device's disk writable, on a file system with symbolic links",
        )
    raise _busy(board, name, owner)


def _give(board: Board, name: str, me: Owner) -> None:
    if board.link_target(name) == me.to_text():
        board.device.remove(name)
        board.to_disk()  # a lock that came back with the power would have to be judged


def _busy(board: Board, name: str, owner: Owner | None) -> BusyError:
    who = f"process {owner.pid} on {owner.host}" if owner else "someone"
    return BusyError(
        f"{board.device.url}: {who} is deploying to this device",
        hint=f"wait until it ends; if it is certainly dead, remove {name!r} in the device's folder",
        owner=owner.to_json() if owner else None,
    )


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _started(pid: int) -> str:
    # Field 22 of proc(5) stat; the name in field 2 may hold spaces and parentheses.
    stat = _text(f"/proc/{pid}/stat")
    return stat.rpartition(")")[2].split()[19] if stat else ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
