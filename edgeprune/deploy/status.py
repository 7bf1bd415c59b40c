"""What is installed on a device, read without changing or locking anything."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.deploy.board import Board
from edgeprune.deploy.journal import Journal, read_journal
from edgeprune.deploy.layout import RELEASES
from edgeprune.deploy.lock import read_owner
from edgeprune.devices.owner import Owner
from edgeprune.devices.protocol import Device
from edgeprune.jsonable import Jsonable


@dataclass(frozen=True, slots=True)
class DeviceStatus(Jsonable):
    """The state of deployment on one device.

    Attributes:
        current, previous: release ids.
        releases: every complete release, sorted.
        partial: ids of releases whose upload is not complete.
        interrupted: the journal of a deployment that did not end, or that is under way now.
        owner: who holds the lock, and ``owner_dead`` whether it is certainly dead.
    """

    current: str | None
    previous: str | None
    releases: tuple[str, ...]
    partial: tuple[str, ...]
    interrupted: Journal | None
    owner: Owner | None
    owner_dead: bool


def status(device: Device) -> DeviceStatus:
    """Ask a device what is installed on it.

    Raises:
        DeviceError: the device fails, or its journal makes no sense.
    """
    board = Board(device)
    owner = read_owner(board)
    partial = (name.removesuffix(".partial") for name in board.names(RELEASES) if name.endswith(".partial"))
    return DeviceStatus(
        current=board.current(),
        previous=board.previous(),
        releases=tuple(sorted(board.releases())),
        partial=tuple(sorted(partial)),
        interrupted=read_journal(board),
        owner=owner,
        owner_dead=owner is not None and owner.is_dead(),
    )
