"""What is installed: the program of a release, ready to run, and its latency."""

from __future__ import annotations

from edgeprune.deploy.board import Board
from edgeprune.deploy.layout import release_path, short
from edgeprune.deploy.package import installed_manifest
from edgeprune.deploy.placed import Placed
from edgeprune.deploy.timing import WARMUP, Timing, timed
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.errors import UsageError


def installed(
    device: Device, release: str | None = None, *, info: DeviceInfo | None = None, timeout_s: float = 300.0
) -> Placed:
    """The current release where it lies, or another one on the device by its id.

    It is named by its folder, not through the link, which may be switched.

    Args:
        info: what the device says of itself, if it was asked already.

    Raises:
        UsageError: nothing is installed, or there is no such release.
        VerificationError: its manifest is missing or altered.
    """
    board = Board(device)
    release = _require_release(board, release)
    manifest = installed_manifest(board, release)
    return Placed(device, release_path(release), manifest, info or device.describe(), timeout_s)


def bench_installed(
    device: Device,
    warmup: int = WARMUP,
    repeats: int | None = None,
    threads: int | None = None,
    *,
    release: str | None = None,
    timeout_s: float = 300.0,
) -> Timing:
    """Latency of the current release, or of another one on the device by its id.

    Args:
        repeats: inferences that each launch times; None: as many as fill a moment.

    Raises:
        UsageError: there is no such release; fewer than one repeat.
        VerificationError: the program crashes, does not end or prints no samples.
    """
    if warmup < 0 or (repeats is not None and repeats < 1):
        raise UsageError(f"{warmup} warm-up runs and {repeats} repeats cannot be timed", hint="repeat at least once")
    placed = installed(device, release, timeout_s=timeout_s)
    return timed(placed, warmup=warmup, repeats=repeats, threads=threads)


def _require_release(board: Board, release: str | None) -> str:
    if release is None:
        current = board.current()
        if current is None:
            raise UsageError(f"{board.device.url}: no release is installed", hint="edgeprune flash BUNDLE --device URL")
        return current
    known = board.releases()
    if release not in known:
        raise UsageError(
            f"{board.device.url}: there is no release {release!r}",
            hint=f"these are installed: {', '.join(short(name) for name in sorted(known)) or 'none'}",
        )
    return release
