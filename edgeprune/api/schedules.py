"""The schedules that a store holds for a target on a device, for builds outside of a fit."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from edgeprune.api.shipped import knows, shipped_for
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.devices.protocol import Device
from edgeprune.devices.registry import open_device
from edgeprune.errors import DeviceError, MissingDependencyError, ProfileError, UsageError
from edgeprune.graph.network import Network
from edgeprune.latency.records import Fingerprint
from edgeprune.latency.store import Profile, ProfileStore
from edgeprune.profiling.fingerprint import fingerprint_of
from edgeprune.targets import Target


def schedule_book(
    network: Network,
    target: Target,
    store: Path,
    device: str | Device,
    threads: int,
    *,
    required: bool,
    allow_mismatch: bool,
) -> ScheduleBook:
    """Schedules from the profile of this device; where there is none and none is ``required``, from one that edgeprune
    ships for the target, and else an empty book.

    A profile taken with more or fewer weights around serves too: a pruned network has fewer than the dense one that was
    profiled. Of several that is taken which knows most of the network's kernels, at any widths.

    Raises:
        ProfileMismatchError, ProfileError: ``required`` and the store holds no such profile.
        UsageError, DeviceError, MissingDependencyError: ``required`` and the device cannot be asked.
    """
    if not required and not knows(store, target):
        with shipped_for(network, target, threads) as shipped:
            return ScheduleBook(target, () if shipped is None else shipped.records())
    try:
        with open_device(device) if isinstance(device, str) else nullcontext(device) as board:
            info = board.describe()
        with ProfileStore(store) as opened:
            asked = fingerprint_of(target, info, threads, network.kernels)
            alike = [
                p
                for p in opened.profiles()
                if replace(p.fingerprint, weight_span=asked.weight_span) == asked and len(p)
            ]
            families = {n.spec.family for n in network.kernels.nodes}
            nearest = max(alike, key=lambda p: _covered(p, families, asked), default=None)
            wanted = asked if nearest is None else nearest.fingerprint
            return ScheduleBook(target, opened.find(wanted, allow_mismatch=allow_mismatch).records())
    except (ProfileError, UsageError, DeviceError, MissingDependencyError):
        if required:
            raise
        return ScheduleBook(target)


def _covered(profile: Profile, families: set[str], asked: Fingerprint) -> tuple[int, bool]:
    """How many kernels of a network a profile knows; and whether it was taken with as many weights around."""
    known = {r.spec.family for r in profile.records() if r.ok}
    return len(families & known), profile.fingerprint == asked
