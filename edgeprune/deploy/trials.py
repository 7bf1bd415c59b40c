"""Bundles tried out on a device without being installed: time them, run them, leave nothing behind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgeprune.compiler.manifest import Manifest, read_manifest
from edgeprune.deploy.installed import installed
from edgeprune.deploy.placed import Placed
from edgeprune.devices.protocol import Device, DeviceInfo
from edgeprune.devices.scratch import scratch

FOLDER = "trials"


class Trials:
    """Bundles on trial on one device, in its folder ``home``; files that are needed again are sent once.

    A console carries some kilobytes a second, and the dense network is timed beside every other one.

    Attributes:
        info: what the device said of itself, once.
    """

    def __init__(self, device: Device, home: str, info: DeviceInfo, *, timeout_s: float = 300.0) -> None:
        self._device, self._home, self._timeout_s = device, home, timeout_s
        self._inputs: set[str] = set()
        self._kept: dict[str, Manifest] = {}
        self.info = info

    @contextmanager
    def open(self, bundle: Path) -> Iterator[Placed]:
        """A bundle's deployable files on the device, until the ``with`` block ends."""
        manifest = read_manifest(bundle)
        home = f"{self._home}/{manifest.release_id}"
        try:
            yield self._put(bundle, manifest, home)
        finally:
            if home not in self._kept:
                self._device.remove(home)

    def keep(self, bundle: Path) -> Placed:
        """As :meth:`open`, until all trials end."""
        manifest = read_manifest(bundle)
        home = f"{self._home}/{manifest.release_id}"
        placed = self._put(bundle, manifest, home)
        self._kept[home] = manifest
        return placed

    def installed(self) -> Placed:
        """The current release of the device, in its own folder.

        Raises:
            UsageError: nothing is installed.
        """
        return installed(self._device, info=self.info, timeout_s=self._timeout_s)

    def run(self, placed: Placed, inputs: Sequence[bytes], batch: int) -> list[bytes]:
        """Outputs for ``batch`` stacked samples; inputs that were sent before are not sent again."""
        stored = []
        for data in inputs:
            path = f"{self._home}/inputs/{hashlib.sha256(data).hexdigest()}"
            if path not in self._inputs:
                self._device.put(data, path)
                self._inputs.add(path)
            stored.append(path)
        return placed.run_stored(stored, batch)

    def _put(self, bundle: Path, manifest: Manifest, home: str) -> Placed:
        if home not in self._kept:
            for name, entry in manifest.files.items():
                if entry.deploy:
                    self._device.put(bundle / name, f"{home}/{name}", executable=entry.executable)
        return Placed(self._device, home, manifest, self.info, self._timeout_s)


@contextmanager
def on_trial(device: Device, *, info: DeviceInfo | None = None, timeout_s: float = 300.0) -> Iterator[Trials]:
    """Trials of bundles on a device; all their files are removed when the ``with`` block ends.

    Args:
        info: what the device says of itself, if it was asked already.
    """
    with scratch(device, FOLDER) as home:
        yield Trials(device, home, info or device.describe(), timeout_s=timeout_s)
