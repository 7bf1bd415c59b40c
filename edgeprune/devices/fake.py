"""``fake:`` a device for everyone without a board: all of it is real except the clock.

Files are files and programs run on this computer, but ``bench`` and ``kernels`` of a native program
(docs/BOARD.md) get ``--virtual-clock``, so latencies are the same on every computer, and the device
says so: ``evidence="simulated"``. ``fake:`` lives in a temporary folder until it is closed,
``fake:/a/folder`` keeps its files there.

:class:`FakeFaults` makes it fail the ways boards fail. A dropped link stays down for this object;
opening the folder again is the reconnection.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from edgeprune.devices.common import chunks_of, require_space
from edgeprune.devices.local.device import LocalDevice, folder_of
from edgeprune.devices.protocol import Closing, Completed, DeviceInfo, Progress
from edgeprune.errors import DeviceError, DeviceUnreachableError

_TIMED_COMMANDS = ("bench", "kernels")
_WRITING_TOOLS = ("ln", "mv", "mkdir", "rm")


@dataclass(frozen=True, slots=True)
class FakeFaults:
    """What goes wrong, and when. Bytes and calls are counted over the life of one device object.

    Attributes:
        drop_after_bytes: the link drops when so many bytes were uploaded, in the middle of a file.
        drop_before_call, drop_after_call: the link drops before the n-th call (from 0) reaches the
            board, or after it was carried out and before its reply arrives.
        flip_bit_at: this bit of the upload stream is stored flipped.
        disk_bytes: size of the board's disk.
        full_after_bytes: somebody else fills the disk when so many bytes were uploaded.
        read_only: the disk is mounted read-only.
        fail_command: this tool is missing on the board.
    """

    drop_after_bytes: int | None = None
    drop_before_call: int | None = None
    drop_after_call: int | None = None
    flip_bit_at: int | None = None
    disk_bytes: int | None = None
    full_after_bytes: int | None = None
    read_only: bool = False
    fail_command: str | None = None


class FakeDevice(Closing):
    """A :class:`LocalDevice` with a virtual clock and, for tests, faults."""

    def __init__(self, root: Path | None = None, *, url: str = "", faults: FakeFaults | None = None) -> None:
        self.faults = faults or FakeFaults()
        self.calls = 0
        self.uploaded_bytes = 0
        self._down = False
        self._forget: Callable[[], object] = lambda: None
        if root is None:
            root = Path(tempfile.mkdtemp(prefix="edgeprune-fake-"))
            self._forget = weakref.finalize(self, shutil.rmtree, root, ignore_errors=True)
            url = url or "fake:"
        self.url = url or f"fake:{root}"
        self._computer = LocalDevice(root, url=self.url)
        self.root = root

    @classmethod
    def from_url(cls, url: str) -> FakeDevice:
        return cls(folder_of(url), url=url)

    def describe(self) -> DeviceInfo:
        with self._link():
            # Architecture and CPU features are this computer's: programs for them do run here.
            return replace(
                self._computer.describe(),
                cpu="edgeprune fake CPU",
                cores=1,
                ram_bytes=1 << 30,
                libc="",
                evidence="simulated",
                clock="virtual",
            )

    def put(
        self, source: Path | bytes, path: str, *, executable: bool = False, progress: Progress | None = None
    ) -> None:
        with self._link():
            self._require_writable(path)
            chunks, size = chunks_of(source)
            if self.faults.disk_bytes is not None:
                require_space(self.url, path, size, self._free_bytes(self.faults.disk_bytes))
            self._computer.put_chunks(self._wire(chunks), size, path, executable=executable, progress=progress)

    def get(self, path: str) -> bytes:
        with self._link():
            return self._computer.get(path)

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Completed:
        with self._link():
            tool = argv[0] if argv else ""
            if tool and tool == self.faults.fail_command:
                return Completed(127, "", f"{tool}: not found\n")
            if self.faults.read_only and tool in _WRITING_TOOLS:
                return Completed(1, "", f"{tool}: {os.strerror(errno.EROFS)}\n")
            if self.faults.disk_bytes is not None and tool == "df":
                return self._df(self.faults.disk_bytes)
            return self._computer.run(with_virtual_clock(argv), timeout_s=timeout_s)

    def remove(self, path: str) -> None:
        with self._link():
            self._require_writable(path)
            self._computer.remove(path)

    def close(self) -> None:
        self._forget()

    @contextmanager
    def _link(self) -> Iterator[None]:
        """One call over a link that may drop before or after it."""
        number, self.calls = self.calls, self.calls + 1
        if self._down or number == self.faults.drop_before_call:
            self._drop()
        yield
        if number == self.faults.drop_after_call:
            self._drop()

    def _drop(self) -> None:
        self._down = True
        raise DeviceUnreachableError(f"{self.url}: the link dropped", hint="connect the device again")

    def _wire(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            start, end = self.uploaded_bytes, self.uploaded_bytes + len(chunk)
            drop, full, flip = self.faults.drop_after_bytes, self.faults.full_after_bytes, self.faults.flip_bit_at
            if drop is not None and start <= drop < end:
                self.uploaded_bytes = drop
                yield chunk[: drop - start]
                self._drop()
            if full is not None and full < end:
                yield chunk[: max(0, full - start)]
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if flip is not None and start <= flip // 8 < end:
                at = flip // 8 - start
                chunk = chunk[:at] + bytes([chunk[at] ^ 1 << flip % 8]) + chunk[at + 1 :]
            self.uploaded_bytes = end
            yield chunk

    def _require_writable(self, path: str) -> None:
        if self.faults.read_only:
            raise DeviceError(
                f"{self.url}: writing {path}: {os.strerror(errno.EROFS)}", hint="mount it writable", errno="EROFS"
            )

    def _free_bytes(self, disk_bytes: int) -> int:
        used = sum(file.lstat().st_size for file in self.root.rglob("*") if file.is_file() and not file.is_symlink())
        return max(0, disk_bytes - used)

    def _df(self, disk_bytes: int) -> Completed:
        total, free = disk_bytes // 1024, self._free_bytes(disk_bytes) // 1024
        row = f"/dev/fake {total} {total - free} {free} {100 - 100 * free // max(total, 1)}% /"
        return Completed(0, f"Filesystem 1024-blocks Used Available Capacity Mounted on\n{row}\n", "")


def with_virtual_clock(argv: Sequence[str]) -> Sequence[str]:
    """A command, with its clock virtual if it runs a native program that times."""
    # Wherever it stands: a command that enters a folder first runs the program behind it.
    native = any("/" in program and command in _TIMED_COMMANDS for program, command in pairwise(argv))
    return [*argv, "--virtual-clock"] if native and "--virtual-clock" not in argv else argv
