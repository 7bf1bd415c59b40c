"""Scratch folders on a device, removed after use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from edgeprune.devices.owner import Owner, held
from edgeprune.devices.protocol import Device
from edgeprune.errors import DeviceError, DeviceUnreachableError

_OWNER = "owner.json"


@contextmanager
def scratch(device: Device, kind: str) -> Iterator[str]:
    """A new folder below the folder ``kind``, removed when the block ends.

    What a killed process left below ``kind`` is removed by the next one of its computer: a board's flash is small.

    Raises:
        DeviceError: the folder cannot be made or removed.
    """
    _sweep(device, kind)
    me = Owner.me()
    folder = f"{kind}/{me.token}"
    held.add(me.token)
    try:
        # First of all, so that there is never much without an owner.
        device.put(me.to_text().encode(), f"{folder}/{_OWNER}")
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
        folder = f"{kind}/{name}"
        try:
            owner = Owner.parse(device.get(f"{folder}/{_OWNER}").decode(errors="replace"))
        except DeviceUnreachableError:
            raise
        except DeviceError:
            continue  # it has just been made, or is not ours
        if owner is not None and owner.is_dead():
            device.remove(folder)
