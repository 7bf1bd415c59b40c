"""Use what is installed: run the current release on data, and time a release."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.compiler.manifest import Manifest, TensorEntry
from edgeprune.deploy.board import Board
from edgeprune.deploy.layout import release_path, short
from edgeprune.deploy.package import installed_manifest
from edgeprune.deploy.placed import Placed
from edgeprune.deploy.timing import WARMUP, Timing, timed
from edgeprune.devices.protocol import Device
from edgeprune.errors import UsageError


def run_installed(
    device: Device, inputs: Sequence[bytes], batch: int = 1, *, threads: int | None = None, timeout_s: float = 300.0
) -> list[bytes]:
    """Outputs of the current release, in the manifest's order; see :meth:`Placed.run`.

    Raises:
        UsageError: nothing is installed.
        BadInputError, VerificationError: as :meth:`Placed.run` raises them.
    """
    return installed(device, timeout_s=timeout_s).run(inputs, batch, threads=threads)


def current_release(device: Device) -> tuple[str, Manifest]:
    """Folder and manifest of the current release; by its folder, not through the link, which may be switched.

    Raises:
        UsageError: nothing is installed.
        VerificationError: its manifest is missing or altered.
    """
    board = Board(device)
    release = _require_release(board, None)
    return release_path(release), installed_manifest(board, release)


def installed(device: Device, release: str | None = None, *, timeout_s: float = 300.0) -> Placed:
    """The current release where it lies, or another one on the device by its id.

    Raises:
        UsageError: there is no such release.
    """
    board = Board(device)
    release = _require_release(board, release)
    return Placed(device, release_path(release), installed_manifest(board, release), device.describe(), timeout_s)


def installed_ports(device: Device) -> tuple[tuple[TensorEntry, ...], tuple[TensorEntry, ...]]:
    """Inputs and outputs of the current release.

    Raises:
        UsageError: nothing is installed.
    """
    _, manifest = current_release(device)
    return manifest.inputs, manifest.outputs


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
