"""Scratch folders on a device, removed after use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from edgeprune.devices.owner import Owner, held
from edgeprune.devices.protocol import Device
from edgeprune.errors import DeviceError


@contextmanager
def scratch(device: Device, kind: str) -> Iterator[str]:
    """A folder of its own below the folder ``kind``, removed when the block ends.

    It begins with the first file that is put there. Its name tells its owner, so that there is no moment in which it
    has none: what a killed process left below ``kind`` is removed by the next one of its computer, since a board's
    flash is small.

    Raises:
        DeviceError: the folder cannot be removed.
    """
    _sweep(device, kind)
    me = Owner.me()
    folder = f"{kind}/{me.to_name()}"
    held.add(me.token)
    try:
        yield folder
    except BaseException:
        # What went wrong inside matters more than what stays on a device that may be gone.
        with suppress(DeviceError):
            device.remove(folder)
        raise
    else:
        device.remove(folder)
    finally:
        held.discard(me.token)


def _sweep(device: Device, kind: str) -> None:
    for name in device.run(["ls", "-A", kind]).stdout.splitlines():
        owner = Owner.of_name(name)
        if owner is not None and owner.is_dead():
            device.remove(f"{kind}/{name}")
