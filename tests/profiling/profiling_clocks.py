"""A device with a clock of time, which tests make slow."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgeprune.devices.fake import FakeDevice
from edgeprune.devices.protocol import Completed, DeviceInfo


class Clocked(FakeDevice):
    """Says that its clock is a common one, and changes the rows that timing programs print."""

    launches = 0

    @abstractmethod
    def slowed(self, rows: list[dict[str, Any]]) -> None:
        """Change the rows of launch ``launches``."""

    def describe(self) -> DeviceInfo:
        return replace(super().describe(), clock="monotonic")

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Completed:
        done = super().run(argv, timeout_s=timeout_s)
        if "kernels" not in argv:
            return done
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        rows = [line for line in lines if "index" in line]
        self.slowed(rows)
        self.launches += 1
        return replace(done, stdout="".join(json.dumps(line) + "\n" for line in lines))
