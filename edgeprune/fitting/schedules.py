"""The schedules that a store holds for a target on a device, for builds outside of a fit."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.devices.registry import open_device
from edgeprune.errors import DeviceError, ProfileError, UsageError
from edgeprune.latency.store import ProfileStore
from edgeprune.profiling.fingerprint import fingerprint_of
from edgeprune.targets import Target


def schedule_book(
    target: Target, store: Path, device_url: str, threads: int, *, required: bool, allow_mismatch: bool
) -> ScheduleBook:
    """Schedules from the profile of this device; an empty book where there is none and none is ``required``.

    Raises:
        ProfileMismatchError, ProfileError: ``required`` and the store holds no such profile.
        UsageError, DeviceError: ``required`` and the device cannot be asked.
    """
    if not store.exists() and not required:
        return ScheduleBook(target)
    try:
        with closing(open_device(device_url)) as device:
            info = device.describe()
        with ProfileStore(store) as opened:
            found = opened.find(fingerprint_of(target, info, threads), allow_mismatch=allow_mismatch)
            return ScheduleBook(target, found.records())
    except (ProfileError, UsageError, DeviceError):
        if required:
            raise
        return ScheduleBook(target)
