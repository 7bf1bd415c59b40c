"""``local-gpu:`` this computer with its NVIDIA GPU; ``local-gpu:1`` where it has several.

Files and commands are those of ``local:``, in a folder of their own: what is installed there is built for the GPU.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeprune.devices.local.device import LocalDevice
from edgeprune.devices.protocol import Completed, DeviceInfo
from edgeprune.errors import DeviceUnreachableError, UsageError
from edgeprune.gpus import Gpu, local_gpus
from edgeprune.home import home

_URL = re.compile(r"local-gpu:(\d{0,3})(/[^\0]*)?")


class LocalGpuDevice(LocalDevice):
    """A folder of this computer whose programs see one GPU.

    Raises:
        MissingDependencyError: there is no NVIDIA driver.
        DeviceUnreachableError: there is no such GPU, or the driver fails.
        UsageError: there are several, and which is meant was not said.
    """

    def __init__(self, root: Path | None = None, *, url: str = "local-gpu:", index: int | None = None) -> None:
        gpus = local_gpus()
        if index is None and len(gpus) > 1:
            listed = ", ".join(f"{url_of(i, gpus)} ({gpu.name}, {gpu.arch})" for i, gpu in enumerate(gpus))
            raise UsageError(f"{url}: this computer has {len(gpus)} GPUs", hint=f"say which: {listed}")
        number = index or 0
        if number >= len(gpus):
            raise DeviceUnreachableError(
                f"{url}: there is no GPU {number}, this computer has {len(gpus)}", hint="edgeprune devices lists them"
            )
        self.gpu: Gpu = gpus[number]
        # Programs take the first GPU that they see. Not by number: its meaning changes with other variables.
        self._sees = {"CUDA_VISIBLE_DEVICES": self.gpu.uuid} if len(gpus) > 1 else {}
        super().__init__(root or home() / f"device-gpu-{number}", url=url)

    @classmethod
    def from_url(cls, url: str) -> LocalGpuDevice:
        """``local-gpu:``, ``local-gpu:1``, ``local-gpu:/a/folder`` or ``local-gpu:1/a/folder``.

        Raises:
            UsageError: anything else; and what the class itself raises.
        """
        parts = _URL.fullmatch(url)
        if parts is None or not url.isprintable():
            raise UsageError(
                f"{url!r} names no GPU of this computer", hint="write local-gpu:, local-gpu:1 or local-gpu:1/a/folder"
            )
        number, folder = parts.groups()
        return cls(Path(folder) if folder else None, url=url, index=int(number) if number else None)

    def describe(self) -> DeviceInfo:
        return replace(super().describe(), gpu=self.gpu, evidence=self.gpu.evidence)

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Completed:
        return self.run_with({**os.environ, **self._sees}, argv, timeout_s)


def url_of(index: int, gpus: Sequence[Gpu]) -> str:
    return f"local-gpu:{index}" if len(gpus) > 1 else "local-gpu:"
