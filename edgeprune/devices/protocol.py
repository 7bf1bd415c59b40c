"""The one protocol of a device: describe, put, get, run, remove.

A device is one live board reached by a URL. It knows files and commands, nothing of networks:
profiling and deployment are built on these five verbs, so a new transport is one new file.

Paths are POSIX paths relative to the device's root folder (``~/.edgeprune`` on a board, a folder
of choice on this computer). Absolute paths and ``..`` are refused with :class:`UsageError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from edgeprune.errors import EdgepruneError
from edgeprune.gpus import Gpu

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """Who a device is. Goes into profile fingerprints, so every field is stable over reboots."""

    machine: str  # uname -m: x86_64, aarch64, armv7l
    system: str  # uname -s
    cpu: str  # model name
    cores: int
    ram_bytes: int
    features: tuple[str, ...] = ()  # CPU flags the compiler cares about, sorted
    libc: str = ""  # "glibc 2.36", "musl 1.2.3", ""
    evidence: str = "measured"  # level of every figure taken on this device
    gpu: Gpu | None = None  # None: no GPU, or the device cannot tell
    clock: str = "monotonic"  # "virtual": the program counts cost, not time; "instructions": the board does

    @property
    def counts(self) -> bool:
        """Whether the clock counts a program's work instead of time, so that load on the computer changes nothing."""
        return self.clock != "monotonic"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Completed:
    """Outcome of a command. ``stdout`` and ``stderr`` are decoded with replacement."""

    returncode: int
    stdout: str
    stderr: str


class Closing:
    """What a ``with`` block closes at its end: a server or a port that stays open keeps others out."""

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(EdgepruneError):  # what it was opened for is done, or failed for a better reason
            self.close()


@runtime_checkable
class Device(Protocol):
    """A board that can hold files and run commands; a ``with`` block closes it (:class:`Closing`).

    Every method raises :class:`DeviceError` when the device fails and
    :class:`DeviceUnreachableError` when it is gone; a non-zero exit of the command itself is not
    an error of the device and is returned in :class:`Completed`.
    """

    url: str

    def describe(self) -> DeviceInfo: ...

    def put(
        self, source: Path | bytes, path: str, *, executable: bool = False, progress: Progress | None = None
    ) -> None:
        """Create or replace a file. Appears whole or not at all (partial name, fsync, rename)."""
        ...

    def get(self, path: str) -> bytes:
        """Contents of a file; :class:`DeviceError` if it is missing."""
        ...

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Completed:
        """Run a command with the device's root as working folder. Never through a shell string
        built from input: argv elements arrive at the program as they are."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all in it; a missing one is fine."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
