"""A folder of a device as a device of its own, so that what happens in it cannot touch what is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from edgeprune.devices.paths import check_path
from edgeprune.devices.protocol import Closing, Completed, Device, DeviceInfo, Progress

_ENTER = 'cd "$0" && exec "$@"'


@runtime_checkable
class Enterable(Protocol):
    """A device whose shell cannot start its programs, and that can open a folder of itself instead."""

    def enter(self, folder: str) -> Device: ...


class Subfolder(Closing):
    """The device protocol over ``device``, with ``folder`` as the root; the outer device stays open.

    Raises:
        UsageError: the folder is absolute or leads out; DeviceError: it cannot be made.
    """

    def __init__(self, device: Device, folder: str) -> None:
        self.url = device.url
        self._device, self._folder = device, check_path(folder)
        self._device.put(b"", self._in(".edgeprune"))  # makes the folder, whatever tools the board has
        self._entered = device.enter(folder) if isinstance(device, Enterable) else None

    def _in(self, path: str) -> str:
        return f"{self._folder}/{check_path(path)}"

    def describe(self) -> DeviceInfo:
        return self._device.describe()

    def put(
        self, source: Path | bytes, path: str, *, executable: bool = False, progress: Progress | None = None
    ) -> None:
        self._device.put(source, self._in(path), executable=executable, progress=progress)

    def get(self, path: str) -> bytes:
        return self._device.get(self._in(path))

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Completed:
        if self._entered:
            return self._entered.run(argv, timeout_s=timeout_s)
        return self._device.run(["sh", "-c", _ENTER, self._folder, *argv], timeout_s=timeout_s)

    def remove(self, path: str) -> None:
        self._device.remove(self._in(path))

    def close(self) -> None:
        """Remove the folder and all in it."""
        self._device.remove(self._folder)
