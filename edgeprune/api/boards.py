"""flash, bench, rollback: a bundle on a board, and what is installed there."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from edgeprune.api.arguments import Where, board_of, path_of
from edgeprune.api.progress import reporting
from edgeprune.budget.promise import Promise
from edgeprune.budget.verdict import PATIENCE_S
from edgeprune.deploy.beside import flash_beside
from edgeprune.deploy.flash import Deployment
from edgeprune.deploy.installed import bench_installed
from edgeprune.deploy.rollback import Rollback
from edgeprune.deploy.rollback import rollback as go_back
from edgeprune.deploy.timing import WARMUP, Timing
from edgeprune.devices.protocol import Device
from edgeprune.progress import Progress


def flash(
    bundle: str | PathLike[str],
    *,
    device: str | Device = "local:",
    latency: str | float | None = None,
    flash: str | float | None = None,
    statistic: str = "median",
    beside: Where = None,
    patience_s: float = PATIENCE_S,
    resume: bool = False,
    progress: bool | Progress | None = None,
) -> Deployment:
    """A bundle installed on a device and proved there: hashes, golden output and latency, or the old release stays.

    Arguments and results are described in docs/API.md.

    Raises:
        UsageError, BundleError: what was asked for makes no sense.
        BusyError, DeviceError: somebody else is deploying, or the device failed; nothing was switched.
        VerificationError, RolledBackError, UndecidedError: the program does not keep what it promises.
    """
    promise = None if latency is None and flash is None else Promise.parse(latency, flash, statistic)
    with board_of(device) as board, reporting(progress) as bar:
        return flash_beside(
            Path(bundle),
            board,
            promise=promise,
            beside=path_of(beside),
            patience_s=patience_s,
            resume=resume,
            progress=bar,
        )


def bench(
    device: str | Device = "local:", *, warmup: int = WARMUP, repeats: int | None = None, threads: int | None = None
) -> Timing:
    """Latency of the network that is installed on a device: the current release, end to end.

    Arguments and results are described in docs/API.md.

    Raises:
        UsageError: nothing is installed, or fewer than one repeat. VerificationError: the program fails.
    """
    with board_of(device) as board:
        return bench_installed(board, warmup, repeats, threads)


def rollback(device: str | Device = "local:", *, progress: bool | Progress | None = None) -> Rollback:
    """The previous release of a device, current again after its files and its golden output were checked.

    Raises:
        UsageError: there is no previous release. BusyError: somebody else is deploying.
        VerificationError: the previous release fails its checks; current stays what it was.
    """
    with board_of(device) as board, reporting(progress) as bar:
        return go_back(board, progress=bar)
