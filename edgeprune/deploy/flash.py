"""Flash a bundle: upload, prove it on the device, and only then make it current.

What is promised, for every failure and a ``kill -9`` at any moment: ``current`` names a release
that reproduced its golden output on this device, the release that was current before is still
there and runs, and the same call with ``resume=True`` completes.

What a refused release leads to:

- some other release is current: it stays, or becomes again, current; the new one is removed;
  :class:`RolledBackError` tells both.
- nothing was current: nothing is; the new one is removed; :class:`VerificationError`.
- the release is the current one already: nothing changes; :class:`VerificationError`.
- its latency cannot be decided in the time it was given: as if it were broken, but :class:`UndecidedError`.
- a hash computed on the device differs: :class:`VerificationError`, before anything could run; the
  altered files are removed and ``resume=True`` sends them again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeprune.board.client import GoldenResult
from edgeprune.budget.check import check_budget
from edgeprune.budget.verdict import Verdict
from edgeprune.compiler.manifest import read_manifest
from edgeprune.deploy.board import Board
from edgeprune.deploy.fits import require_fit
from edgeprune.deploy.journal import Journal, OnState, State, clear_journal
from edgeprune.deploy.layout import RELEASES, partial_path, release_of, release_path, short
from edgeprune.deploy.lock import hold
from edgeprune.deploy.package import Item, read_items
from edgeprune.deploy.placed import Placed
from edgeprune.deploy.standard import Judgement, Standard
from edgeprune.deploy.switch import check_current, settle, switch, withdraw
from edgeprune.deploy.timing import Timing, timed
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.errors import (
    DeviceError,
    DeviceUnreachableError,
    EdgepruneError,
    RolledBackError,
    UndecidedError,
    VerificationError,
)
from edgeprune.jsonable import Jsonable
from edgeprune.progress import SILENT, Progress

_SPARE_BYTES = 64 << 10  # journal, links, folders


@dataclass(frozen=True, slots=True)
class Deployment(Jsonable):
    """Result of :func:`flash`: the releases, the checks and the verdicts.

    Attributes:
        release: id of the release that is current now; ``previous`` the one kept for rollback.
        state: "installed", or "unchanged" if the release was current already.
        golden, timing, verdicts: what the checks on the device found; no verdicts where nothing was promised.
        files_sent, bytes_sent: what was uploaded; less than the bundle after a resume.
    """

    release: str
    previous: str | None
    state: str
    golden: GoldenResult
    timing: Timing
    verdicts: tuple[Verdict, ...]
    files_sent: int
    bytes_sent: int

    def __str__(self) -> str:
        said = f"release {short(self.release)} is {self.state}: {self.timing}"
        return "; ".join((said, *map(str, self.verdicts)))


def flash(
    bundle: Path,
    device: Device,
    *,
    resume: bool = False,
    standard: Standard | None = None,
    info: DeviceInfo | None = None,
    timeout_s: float = 300.0,
    progress: Progress = SILENT,
    on_state: OnState | None = None,
) -> Deployment:
    """Install a bundle as the current release of a device.

    Args:
        bundle: the folder that compile wrote.
        device: where to; stays open.
        resume: keep what an interrupted upload of the same bundle left on the device, where its
            hash agrees. Otherwise such leftovers are removed first.
        standard: what it has to keep; the bundle's own if it is None, nothing if there is neither.
        info: what the device says of itself, if it was asked already.
        timeout_s: longest that one run of the program on the device may take.
        on_state: called on entering each state.

    Raises:
        UsageError: a budget that makes no sense, or is relative to a dense network that is not known.
        BundleError: the bundle is incomplete, or built for another processor or a newer C library.
        BusyError: someone else is deploying to the device.
        DeviceError: the device failed or has too little space; nothing was switched.
        VerificationError, RolledBackError, UndecidedError: as the module says.
    """
    enter: OnState = on_state or (lambda state: None)
    manifest = read_manifest(bundle)
    items = read_items(bundle, manifest)
    release = manifest.release_id
    home = release_path(release)
    standard = standard or Standard.from_json(manifest.budget)
    if standard is not None:
        check_budget(standard.budget)
    board = Board(device)
    with hold(board):
        info = info or device.describe()
        settle(board, info, timeout_s=timeout_s, progress=progress)
        enter(State.LOCKED)
        journal = Journal(State.LOCKED, release, board.current(), board.previous())
        require_fit(bundle, manifest, info)
        sent = _upload(board, journal, items, resume=resume, progress=progress, enter=enter)
        try:
            progress.stage("check")
            placed = Placed(device, home, manifest, info, timeout_s)
            golden = placed.check()
            enter(State.PROVED)
            progress.stage("measure")
            found = Judgement((), timed(placed)) if standard is None else standard.judge(placed)
            found.require_kept()
            enter(State.TIMED)
            unchanged = journal.current == release
            if unchanged:
                clear_journal(board)
            else:
                progress.stage("switch")
                switch(board, journal, info, timeout_s=timeout_s, on_state=enter)
        except VerificationError as fault:
            raise _refuse(board, journal, fault, info, timeout_s) from fault
        previous = journal.previous if unchanged else journal.current
        _prune(board, {release, previous})
        enter(State.PRUNED)
    return Deployment(
        release=release,
        previous=previous,
        state="unchanged" if unchanged else "installed",
        golden=golden,
        timing=found.timing,
        verdicts=found.verdicts,
        files_sent=len(sent),
        bytes_sent=sum(item.size_bytes for item in sent),
    )


def _upload(
    board: Board, journal: Journal, items: list[Item], *, resume: bool, progress: Progress, enter: OnState
) -> list[Item]:
    """Bring the release into its folder; returns the files that were sent."""
    release = journal.release
    partial = partial_path(release)
    _prune(board, {journal.current, journal.previous, release, f"{release}.partial" if resume else None})
    installed = release in board.releases()
    # A release that is there already is repaired in place: each file is replaced as a whole.
    home = release_path(release) if installed else partial
    missing = _altered(board, home, items)
    _require_space(board, missing)
    board.require_switch()
    enter(State.CHECKED)
    journal.write(board, State.UPLOADING)
    enter(State.UPLOADING)
    progress.stage("upload", total=sum(item.size_bytes for item in missing))
    try:
        for item in missing:
            path = f"{home}/{item.name}"
            board.device.put(item.source, path, executable=item.executable, progress=_advancing(progress))
    except DeviceUnreachableError:
        raise
    except DeviceError:
        # A full disk, most likely: leave the board as it was found.
        if not installed:
            board.device.remove(partial)
            clear_journal(board)
        raise
    _require_hashes(board, home, missing, removable=not installed)
    enter(State.UPLOADED)
    for stray in set(board.names(home)) - {item.name for item in items}:
        board.device.remove(f"{home}/{stray}")
    if not installed:
        board.rename(partial, release_path(release))
    enter(State.INSTALLED)
    return missing


def _refuse(
    board: Board, journal: Journal, fault: VerificationError, info: DeviceInfo, timeout_s: float
) -> EdgepruneError:
    """Take the release back; the error that tells what failed and what runs now."""
    name = short(journal.release)
    facts = {**fault.details, "refused": journal.release, "reason": fault.message, "current": journal.current}
    if journal.current == journal.release:
        clear_journal(board)
        return type(fault)(
            f"release {name} is current and fails its checks: {fault.message}",
            hint=fault.hint or "edgeprune rollback goes back to the previous release",
            **facts,
        )
    withdraw(board, journal)
    if journal.current is None:
        return type(fault)(
            f"release {name} was refused: {fault.message}; nothing was current before and nothing is now",
            hint=fault.hint,
            **facts,
        )
    try:
        check_current(board, journal.current, info, timeout_s=timeout_s)
        kept = "is current and passes its golden check"
    except VerificationError as e:
        kept = f"is current, but fails its golden check: {e.message}"
    taken_back = UndecidedError if isinstance(fault, UndecidedError) else RolledBackError
    return taken_back(
        f"release {name} was refused: {fault.message}; release {short(journal.current)} {kept}",
        hint=fault.hint,
        kept=kept,
        **facts,
    )


def _require_space(board: Board, missing: list[Item]) -> None:
    needed = sum(item.size_bytes for item in missing) + _SPARE_BYTES
    free = board.free_bytes()
    if needed > free:
        raise DeviceError(
            f"{board.device.url}: the release needs {needed} bytes and {free} are free",
            hint="free some space on the device",
            needed_bytes=needed,
            free_bytes=free,
        )


def _altered(board: Board, home: str, items: list[Item]) -> list[Item]:
    """Those whose file in the device's folder ``home`` is another or none."""
    altered = board.altered({f"{home}/{item.name}": item.sha256 for item in items})
    return [item for item in items if f"{home}/{item.name}" in altered]


def _require_hashes(board: Board, home: str, sent: list[Item], *, removable: bool) -> None:
    altered = [item.name for item in _altered(board, home, sent)]
    if not altered:
        return
    if removable:
        for name in altered:
            board.device.remove(f"{home}/{name}")
    raise VerificationError(
        f"{board.device.url}: what arrived is not what was sent: {', '.join(altered)}; nothing was switched",
        hint="flash again with resume; if it stays so, suspect the cable or the card",
        files=altered,
    )


def _prune(board: Board, keep: set[str | None]) -> None:
    """Remove the releases and partial uploads that are not in ``keep``; foreign files stay."""
    for name in board.names(RELEASES):
        if name not in keep and release_of(f"{RELEASES}/{name.removesuffix('.partial')}"):
            board.device.remove(f"{RELEASES}/{name}")


def _advancing(progress: Progress) -> Callable[[int, int], None]:
    last = 0

    def advance(done: int, total: int) -> None:
        nonlocal last
        progress.advance(done - last)
        last = done

    return advance
