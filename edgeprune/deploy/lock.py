"""One deployment at a time: a lock on the device that names its owner and survives its death.

The lock is a symbolic link whose target is the owner as JSON. ``ln -s`` makes it in one step, name
and contents together, so there is no moment with a lock and no owner. An owner that was killed is
recognised on its own computer only; anywhere else the lock counts as live.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from edgeprune.deploy.board import Board
from edgeprune.deploy.layout import LOCK
from edgeprune.devices.owner import Owner, held
from edgeprune.errors import BusyError, DeviceError

_ATTEMPTS = 3


@contextmanager
def hold(board: Board, name: str = LOCK) -> Iterator[Owner]:
    """Hold the device's lock, or the lock of a lock.

    Raises:
        BusyError: a living owner holds it, or one that cannot be judged from here.
    """
    me = Owner.me()
    # Before the link is made: its making may succeed and the reply be lost.
    held.add(me.token)
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
        held.discard(me.token)


def read_owner(board: Board) -> Owner | None:
    """Who holds the lock now; None if nobody does."""
    return Owner.parse(board.link_target(LOCK) or "")


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
        with hold(board, f"{name}.{owner.token}"):
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
