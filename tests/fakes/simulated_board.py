"""A board of any transport with a simulated clock, which may be slower than others, and may die."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeprune.devices.fake import with_virtual_clock
from edgeprune.devices.protocol import Closing, Completed, Device, DeviceInfo, Progress
from edgeprune.errors import DeviceUnreachableError


class SimulatedBoard(Closing):
    """A device whose programs count what they cost; that takes ``by`` times as long as on another.

    Attributes:
        launches: of programs that time; ``dies_at``: the number of the one before which the board is gone.
    """

    def __init__(self, device: Device, by: float = 1.0, dies_at: int | None = None) -> None:
        self._device, self.by, self.dies_at = device, by, dies_at
        self.launches = 0

    @property
    def url(self) -> str:
        return self._device.url

    def describe(self) -> DeviceInfo:
        return replace(self._device.describe(), evidence="simulated", clock="virtual")

    def put(
        self, source: Path | bytes, path: str, *, executable: bool = False, progress: Progress | None = None
    ) -> None:
        self._reached()
        self._device.put(source, path, executable=executable, progress=progress)

    def get(self, path: str) -> bytes:
        self._reached()
        return self._device.get(path)

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Completed:
        timing = with_virtual_clock(argv)
        self.launches += timing is not argv
        self._reached()
        done = self._device.run(timing, timeout_s=timeout_s)
        if timing is argv:
            return done
        return replace(done, stdout="".join(f"{self._slower(line)}\n" for line in done.stdout.splitlines()))

    def remove(self, path: str) -> None:
        self._reached()
        self._device.remove(path)

    def close(self) -> None:
        self._device.close()

    def _reached(self) -> None:
        if self.dies_at is not None and self.launches >= self.dies_at:
            raise DeviceUnreachableError(f"{self.url}: it does not answer", hint="switch it on again")

    def _slower(self, line: str) -> str:
        said = json.loads(line)
        return json.dumps({k: [self.by * x for x in v] if k in ("samples", "whole") else v for k, v in said.items()})
