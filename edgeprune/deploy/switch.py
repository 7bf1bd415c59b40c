"""Making a release current, and taking that back: the only code that moves the two links.

``current`` moves first and in one step (a rename over the old link), so at every moment it names a
release that reproduced its golden output on this device. The journal tells which two releases the
links named before, so an interrupted switch can be finished or undone by whoever comes next.
"""

from __future__ import annotations

from edgeprune.board.client import GoldenResult
from edgeprune.deploy.board import Board
from edgeprune.deploy.journal import Journal, OnState, State, clear_journal, read_journal
from edgeprune.deploy.layout import CURRENT, PREVIOUS, release_path, short
from edgeprune.deploy.package import installed_manifest
from edgeprune.deploy.placed import Placed
from edgeprune.deploy.tidy import tidy
from edgeprune.devices.protocol import DeviceInfo
from edgeprune.errors import VerificationError
from edgeprune.progress import Progress


def switch(board: Board, journal: Journal, info: DeviceInfo, *, timeout_s: float, on_state: OnState) -> GoldenResult:
    """Make ``journal.release`` current, keep what was current as previous, and check once more.

    Raises:
        VerificationError: the release fails through ``current``; it still is current, and the
            caller says :func:`withdraw`.
    """
    journal.write(board, State.SWITCHING)
    on_state(State.SWITCHING)
    board.point(CURRENT, release_path(journal.release))
    board.point(PREVIOUS, _path(journal.current))
    journal.write(board, State.SWITCHED)
    on_state(State.SWITCHED)
    result = check_current(board, journal.release, info, timeout_s=timeout_s)
    on_state(State.CONFIRMED)
    clear_journal(board)
    on_state(State.COMMITTED)
    return result


def withdraw(board: Board, journal: Journal) -> None:
    """Put both links back to what they were, and remove the release unless one of them names it."""
    _restore(board, journal)
    if journal.release not in (journal.current, journal.previous):
        board.device.remove(release_path(journal.release))
    clear_journal(board)


def settle(board: Board, info: DeviceInfo, *, timeout_s: float, progress: Progress) -> None:
    """Finish or undo a switch that was interrupted; uploads are left for ``resume``."""
    tidy(board)
    journal = read_journal(board)
    if journal is None or not journal.switching:
        return
    if board.current() != journal.release:
        # Before the switch, or in the middle of taking it back.
        # The release stays, for resume to find.
        _restore(board, journal)
        clear_journal(board)
        progress.note(f"an interrupted switch to release {short(journal.release)} was undone")
        return
    try:
        check_current(board, journal.release, info, timeout_s=timeout_s)
    except VerificationError as fault:
        withdraw(board, journal)
        progress.note(f"the interrupted release {short(journal.release)} was undone: {fault.message}")
        return
    board.point(PREVIOUS, _path(journal.current))
    clear_journal(board)
    progress.note(f"an interrupted switch to release {short(journal.release)} was completed")


def check_current(board: Board, release: str, info: DeviceInfo, *, timeout_s: float) -> GoldenResult:
    """Golden check of ``release`` through the ``current`` link, as its users will run it."""
    return Placed(board.device, CURRENT, installed_manifest(board, release), info, timeout_s).check()


def _restore(board: Board, journal: Journal) -> None:
    board.point(CURRENT, _path(journal.current))
    board.point(PREVIOUS, _path(journal.previous))


def _path(release: str | None) -> str | None:
    return release_path(release) if release else None
