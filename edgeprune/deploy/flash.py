"""Flash a bundle: upload, prove it on the device, and only then make it current.

What is promised, for every failure and a ``kill -9`` at any moment: ``current`` names a release
that reproduced its golden output on this device, the release that was current before is still
there and runs, and the same call with ``resume=True`` completes.

What a refused release leads to:

- some other release is current: it stays, or becomes again, current; the new one is removed;
  :class:`RolledBackError` tells both.
- nothing was current: nothing is; the new one is removed; :class:`VerificationError`.
- the release is the current one already: nothing changes; :class:`VerificationError`.
- a hash computed on the device differs: :class:`VerificationError`, before anything could run; the
  altered files are removed and ``resume=True`` sends them again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeprune.compiler.manifest import read_manifest
from edgeprune.deploy.board import Board
from edgeprune.deploy.checks import BenchResult, GoldenResult, check_golden, require_latency
from edgeprune.deploy.fits import require_fit
from edgeprune.deploy.journal import Journal, OnState, State, clear_journal
from edgeprune.deploy.layout import RELEASES, partial_path, release_of, release_path, short
from edgeprune.deploy.lock import hold
from edgeprune.deploy.package import Item, read_items
from edgeprune.deploy.steady import patient_bench, steady_bench
from edgeprune.deploy.switch import check_current, settle, switch, withdraw
from edgeprune.devices.protocol import Device
from edgeprune.errors import (
    DeviceError,
    DeviceUnreachableError,
    EdgepruneError,
    RolledBackError,
    UsageError,
    VerificationError,
)
from edgeprune.progress import SILENT, Progress

BENCH_WARMUP = 3
BENCH_REPEATS = 20
_SPARE_BYTES = 64 << 10  # journal, links, folders


@dataclass(frozen=True, slots=True)
class Deployment:
    """What :func:`flash` did.

    Attributes:
        release: id of the release that is current now; ``previous`` the one kept for rollback.
        state: "installed", or "unchanged" if the release was current already.
        golden, bench: what the checks on the device found.
        files_sent, bytes_sent: what was uploaded; less than the bundle after a resume.
    """

    release: str
    previous: str | None
    state: str
    golden: GoldenResult
    bench: BenchResult
    files_sent: int
    bytes_sent: int

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "bench": self.bench.to_json()}


def flash(
    bundle: Path,
    device: Device,
    *,
    resume: bool = False,
    latency_budget_ms: float | None = None,
    latency_tolerance: float = 0.0,
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
        latency_budget_ms: limit of the median; the bundle's own ``latency_ms`` if it is None, no
            limit if there is neither.
        latency_tolerance: part of the budget that the median may be over it, 0.05 for 5 %.
        timeout_s: longest that one run of the program on the device may take.
        on_state: called on entering each state.

    Raises:
        UsageError: a budget or tolerance that makes no sense.
        BundleError: the bundle is incomplete, or built for another processor or a newer C library.
        BusyError: someone else is deploying to the device.
        DeviceError: the device failed or has too little space; nothing was switched.
        VerificationError, RolledBackError: as the module says.
    """
    if latency_budget_ms is not None and not latency_budget_ms > 0:
        raise UsageError(f"a latency budget of {latency_budget_ms} ms cannot be met", hint="give a positive number")
    if not latency_tolerance >= 0:
        raise UsageError(f"a latency tolerance of {latency_tolerance} makes no sense", hint="0.05 allows 5 %")
    enter: OnState = on_state or (lambda state: None)
    manifest = read_manifest(bundle)
    items = read_items(bundle, manifest)
    release = manifest.release_id
    home = release_path(release)
    budget_ms = latency_budget_ms if latency_budget_ms is not None else manifest.budget.get("latency_ms")
    board = Board(device)
    with hold(board):
        settle(board, timeout_s=timeout_s, progress=progress)
        enter(State.LOCKED)
        journal = Journal(State.LOCKED, release, board.current(), board.previous())
        info = device.describe()
        require_fit(bundle, manifest, info)
        sent = _upload(board, journal, items, resume=resume, progress=progress, enter=enter)
        try:
            progress.stage("check")
            golden = check_golden(device, home, manifest, timeout_s=timeout_s)
            enter(State.PROVED)
            timing = patient_bench(
                None if budget_ms is None else budget_ms * (1 + latency_tolerance),
                lambda: steady_bench(
                    device,
                    home,
                    manifest,
                    warmup=BENCH_WARMUP,
                    repeats=BENCH_REPEATS,
                    threads=manifest.threads,
                    timeout_s=timeout_s,
                    info=info,
                ),
            )
            if budget_ms is not None:
                require_latency(timing, budget_ms, latency_tolerance)
            enter(State.TIMED)
            unchanged = journal.current == release
            if unchanged:
                clear_journal(board)
            else:
                progress.stage("switch")
                switch(board, journal, timeout_s=timeout_s, on_state=enter)
        except VerificationError as fault:
            raise _refuse(board, journal, fault, timeout_s) from fault
        previous = journal.previous if unchanged else journal.current
        _prune(board, {release, previous})
        enter(State.PRUNED)
    return Deployment(
        release=release,
        previous=previous,
        state="unchanged" if unchanged else "installed",
        golden=golden,
        bench=timing,
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
    missing = [item for item in items if board.sha256(f"{home}/{item.name}") != item.sha256]
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


def _refuse(board: Board, journal: Journal, fault: VerificationError, timeout_s: float) -> EdgepruneError:
    """Take the release back; the error that tells what failed and what runs now."""
    name = short(journal.release)
    facts = {**fault.details, "refused": journal.release, "reason": fault.message, "current": journal.current}
    if journal.current == journal.release:
        clear_journal(board)
        return VerificationError(
            f"release {name} is current and fails its checks: {fault.message}",
            hint=fault.hint or "edgeprune rollback goes back to the previous release",
            **facts,
        )
    withdraw(board, journal)
    if journal.current is None:
        return VerificationError(
            f"release {name} was refused: {fault.message}; nothing was current before and nothing is now",
            hint=fault.hint,
            **facts,
        )
    try:
        check_current(board, journal.current, timeout_s=timeout_s)
        kept = "is current and passes its golden check"
    except VerificationError as e:
        kept = f"is current, but fails its golden check: {e.message}"
    return RolledBackError(
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


def _require_hashes(board: Board, home: str, sent: list[Item], *, removable: bool) -> None:
    altered = [item.name for item in sent if board.sha256(f"{home}/{item.name}") != item.sha256]
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
