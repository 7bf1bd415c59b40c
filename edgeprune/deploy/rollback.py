"""Go back to the previous release, which then can be left again the same way."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.board.client import GoldenResult
from edgeprune.deploy.board import Board
from edgeprune.deploy.journal import Journal, OnState, State
from edgeprune.deploy.layout import release_path, short
from edgeprune.deploy.lock import hold
from edgeprune.deploy.package import installed_manifest
from edgeprune.deploy.placed import Placed
from edgeprune.deploy.switch import settle, switch, withdraw
from edgeprune.devices.protocol import Device
from edgeprune.errors import UsageError, VerificationError
from edgeprune.jsonable import Jsonable
from edgeprune.progress import SILENT, Progress


@dataclass(frozen=True, slots=True)
class Rollback(Jsonable):
    """``release`` is current again; ``previous`` was current and is kept."""

    release: str
    previous: str
    golden: GoldenResult

    def __str__(self) -> str:
        return f"release {short(self.release)} is current again, {short(self.previous)} is kept"


def rollback(
    device: Device, *, timeout_s: float = 300.0, progress: Progress = SILENT, on_state: OnState | None = None
) -> Rollback:
    """Make the previous release current, after its files and its golden output were checked.

    Raises:
        UsageError: there is no previous release.
        BusyError: someone else is deploying to the device.
        VerificationError: the previous release fails its checks; current stays what it was.
    """
    enter: OnState = on_state or (lambda state: None)
    board = Board(device)
    with hold(board):
        info = device.describe()
        settle(board, info, timeout_s=timeout_s, progress=progress)
        enter(State.LOCKED)
        current, release = board.current(), board.previous()
        if current is None or release is None:
            raise UsageError(f"{device.url}: there is no previous release to go back to", hint="flash a bundle")
        journal = Journal(State.LOCKED, release, current, release)
        try:
            manifest = installed_manifest(board, release)
            wanted = {f"{release_path(release)}/{n}": e.sha256 for n, e in manifest.files.items() if e.deploy}
            if altered := board.altered(wanted):
                name = altered[0].removeprefix(f"{release_path(release)}/")
                raise VerificationError(f"{name} is missing or altered", file=name)
            Placed(device, release_path(release), manifest, info, timeout_s).check()
            enter(State.PROVED)
            golden = switch(board, journal, info, timeout_s=timeout_s, on_state=enter)
        except VerificationError as fault:
            withdraw(board, journal)
            raise VerificationError(
                f"{device.url}: the previous release {short(release)} fails its checks: {fault.message}; "
                f"release {short(current)} stays current",
                hint="flash the bundle that you want",
                **{**fault.details, "refused": release, "current": current},
            ) from fault
    return Rollback(release, current, golden)
