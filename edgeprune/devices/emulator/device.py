"""``emulated:`` boards inside QEMU, for whoever has none on the desk, and for tests.

``emulated:a53`` and ``emulated:a72`` count: their clock advances by a nanosecond for each instruction,
so latencies are the instructions that a network takes, whatever else this computer does. ``emulated:rpi3`` is
a whole Raspberry Pi 3 with a login on its serial console, and a clock that means nothing. All three
are reached as a ``serial:`` board is. ``emulated:aarch64`` runs single ARM programs on this computer's
kernel, which is the quickest way to see whether numbers are right. docs/EMULATED.md says more.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeprune.devices.common import check_argv
from edgeprune.devices.console.device import SerialDevice
from edgeprune.devices.console.login import Credentials, hear
from edgeprune.devices.emulator.disk import make_disk
from edgeprune.devices.emulator.images import PASSWORD, USER, find_images
from edgeprune.devices.emulator.machine import BOARDS, QEMU, Machine
from edgeprune.devices.local.device import LocalDevice
from edgeprune.devices.paths import check_path
from edgeprune.devices.protocol import Completed, Device, DeviceInfo
from edgeprune.errors import BusyError, DeviceError, DeviceUnreachableError, MissingDependencyError, UsageError
from edgeprune.home import home

_PROMPT = re.compile(r"(login: |[#$] )$")
_USER_MODE = "aarch64"
_USER_MODE_PROGRAMS = ("qemu-aarch64-static", "qemu-aarch64")
_AARCH64_ELF = b"\x7fELF\x02\x01"
_AARCH64 = 183
_RECEIVER_PAUSE_S = 0.01
_LOCKED = "Failed to get"  # … "write" lock: what QEMU says of a file that another QEMU uses
EVIDENCE = "emulated"


class AnyEmulated:
    """What the scheme ``emulated:`` opens."""

    @classmethod
    def from_url(cls, url: str) -> Device:
        """The device behind ``emulated:NAME``, ``emulated:a53:/a/disk.img`` or ``emulated:aarch64:/a/folder``.

        Raises:
            UsageError: there is no such board, or it can have no disk.
            BusyError: another board runs with that disk.
            MissingDependencyError: QEMU or the boards' images are missing.
            DeviceUnreachableError: it does not boot.
        """
        _, _, name = url.partition(":")
        kind, colon, path = name.partition(":")
        place = Path(path) if path.startswith("/") and path.isprintable() else None
        known = emulated_boards()
        if kind != _USER_MODE and kind not in BOARDS:
            raise UsageError(
                f"there is no emulated board {kind!r}", hint=f"these exist: {', '.join(known)}", boards=known
            )
        if colon and (place is None or (kind in BOARDS and not BOARDS[kind].disks)):
            with_disk = ", ".join(f"emulated:{n}:/a/disk.img" for n, board in BOARDS.items() if board.disks)
            raise UsageError(
                f"{url!r} is no emulated board",
                hint=f"with files that stay: {with_disk}, emulated:{_USER_MODE}:/a/folder",
                boards=known,
            )
        if kind == _USER_MODE:
            return UserModeDevice(place or home() / "emulated" / _USER_MODE, url=url)
        return EmulatedDevice(kind, url=url, disk=place)


class EmulatedDevice(SerialDevice):
    """A board in a QEMU of its own, switched off with :meth:`close`; files that are not on a disk are gone then.

    Args:
        machine: one that runs already, and goes on running.
        root: the device's folder on the board.
        disk: a file with the board's disk, made if it is missing.
    """

    def __init__(
        self, name: str, *, url: str = "", machine: Machine | None = None, root: str = "", disk: Path | None = None
    ) -> None:
        board = BOARDS[name]
        url = url or f"emulated:{name}"
        self._board = board
        self._machine = machine or switch_on(name, disk)
        self._owns_machine, self._disk = machine is None, disk
        try:
            super().__init__(
                self._machine.link,
                url=url,
                root=root,
                ask_credentials=lambda: Credentials(USER, PASSWORD),
                pace=board.pace,
                boot_s=board.boot_s,
                owns_link=False,
            )
        except BaseException:
            if self._owns_machine:
                self._machine.close()
            raise
        self.session.receiver_pause_s = _RECEIVER_PAUSE_S

    def describe(self) -> DeviceInfo:
        info = super().describe()
        return replace(info, cpu=f"{info.cpu} ({self._board.label})", evidence=EVIDENCE, clock=self._board.clock)

    def close(self) -> None:
        if not self._owns_machine:
            super().close()
            return
        if not self._closed and self._disk:
            with contextlib.suppress(DeviceError):
                self.session.ask("sync")
        self._closed = True  # a board that goes off needs no other farewell
        self._machine.close()


def switch_on(name: str, disk: Path | None = None) -> Machine:
    """Start a board and wait until its console asks for something.

    Raises:
        BusyError: another board runs with that disk.
        MissingDependencyError: QEMU or the boards' images are missing.
        DeviceUnreachableError: it does not boot.
    """
    board = BOARDS[name]
    images = find_images()
    if disk:
        make_disk(disk)
    machine = Machine(board, images, f"emulated:{name}", disk)
    try:
        seen = hear(machine.link, until=_PROMPT, timeout_s=board.boot_s)
        if not _PROMPT.search(seen):
            raise DeviceUnreachableError(f"emulated:{name} did not boot in {board.boot_s:g} s", console=seen[-500:])
    except DeviceUnreachableError as e:
        said = machine.complaint()
        machine.close()
        if disk and _LOCKED in said:
            raise BusyError(f"another emulated board runs with {disk}", hint="close it first", disk=str(disk)) from e
        raise DeviceUnreachableError(
            f"{e.message}{': ' + said.splitlines()[-1] if said else ''}", hint=e.hint, **e.details
        ) from e
    except BaseException:
        machine.close()
        raise
    return machine


class UserModeDevice(LocalDevice):
    """A folder of this computer whose 64-bit ARM programs run in QEMU's user mode.

    Raises:
        MissingDependencyError: QEMU's user mode is not installed.
    """

    def __init__(self, root: Path, *, url: str = "", cpu: str = "cortex-a72") -> None:
        found = next((p for p in map(shutil.which, _USER_MODE_PROGRAMS) if p), None)
        if found is None:
            raise MissingDependencyError(
                "qemu-aarch64-static is not installed", hint="sudo apt-get install qemu-user-static"
            )
        super().__init__(root, url=url or f"emulated:{_USER_MODE}:{root}")
        self._emulator = [found, "-cpu", cpu]

    def enter(self, folder: str) -> UserModeDevice:
        """Another folder of this computer: its shell knows nothing of the emulator."""
        return UserModeDevice(self.root / check_path(folder))

    def describe(self) -> DeviceInfo:
        return replace(
            super().describe(),
            machine="aarch64",
            cpu="Cortex-A72 (emulated, user mode)",
            cores=1,
            features=("asimd", "crc32"),
            libc="",
            evidence=EVIDENCE,
        )

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Completed:
        check_argv(argv)
        if list(argv) == ["uname", "-m"]:  # the kernel is this computer's, the programs are not
            return Completed(0, "aarch64\n", "")
        emulator = self._emulator if "/" in argv[0] and _is_arm_program(self.root / argv[0]) else []
        return super().run([*emulator, *argv], timeout_s=timeout_s)


def _is_arm_program(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError:
        return False
    return head.startswith(_AARCH64_ELF) and int.from_bytes(head[18:20], "little") == _AARCH64


def emulated_boards() -> list[str]:
    """URLs of the emulated boards."""
    return [f"emulated:{name}" for name in (*BOARDS, _USER_MODE)]


def boards_here() -> list[tuple[str, str, bool]]:
    """URL and title of each emulated board, and whether all that it needs is on this computer."""
    try:
        find_images()
        prepared = shutil.which(QEMU) is not None
    except MissingDependencyError:
        prepared = False
    rows = [(f"emulated:{name}", board.title, prepared) for name, board in BOARDS.items()]
    user_mode = any(map(shutil.which, _USER_MODE_PROGRAMS))
    return [*rows, (f"emulated:{_USER_MODE}", "64-bit ARM programs in a folder of this computer", user_mode)]
