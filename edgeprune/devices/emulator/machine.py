"""One QEMU process: started, spoken to over a socket pair, and never left behind.

The console is one end of a socket pair that QEMU inherits: no path, no port, nothing to connect to
for anyone else. A small shell watches a pipe from this process; when this process ends, however it
ends, the pipe closes and the shell kills QEMU.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeprune.devices.console.link import SocketLink
from edgeprune.devices.emulator.images import Images
from edgeprune.errors import DeviceUnreachableError, MissingDependencyError

QEMU = "qemu-system-aarch64"
# Comes with the console as input and the pipe as output. It must not keep the console open itself: a
# QEMU that ended would look alive. Its child stays a zombie until it ends, so the id is no one else's.
_GUARD = 'exec 3<&0 </dev/null; "$@" >/dev/null & p=$!; exec 3<&-; read -r x <&1; kill -9 $p'


@dataclass(frozen=True, slots=True)
class QemuBoard:
    """Settings of one emulated board: the arguments of QEMU.

    Attributes:
        options: machine, processor, memory.
        console: the kernel's name of the serial port that is wired to us, and ``port`` its number.
        kernel: what else the kernel is told.
        login: the console asks for user and password.
        pace: how many times longer things may take here than on a board.
        boot_s: longest boot.
        title: for lists.
        label: said beside the processor's name, and so in every fingerprint.
        clock: what the board's clock counts, as in :class:`DeviceInfo`.
        disks: it can have a disk.
    """

    options: tuple[str, ...]
    console: str
    title: str
    label: str
    clock: str = "monotonic"
    disks: bool = False
    kernel: str = "quiet"
    port: int = 0
    dtb: bool = False
    login: bool = False
    pace: float = 1.0
    boot_s: float = 120.0


def _counting(cpu: str) -> QemuBoard:
    return QemuBoard(
        ("-M", "virt", "-cpu", cpu, "-smp", "1", "-m", "512", "-icount", "shift=0"),
        "ttyAMA0",
        f"one {cpu.capitalize()}, instructions as nanoseconds",
        "emulated, instructions as nanoseconds",
        "instructions",
        disks=True,
        pace=30,
    )


BOARDS = {
    "a53": _counting("cortex-a53"),
    "a72": _counting("cortex-a72"),
    "rpi3": QemuBoard(
        ("-M", "raspi3b"),
        "ttyS1,115200",
        "Raspberry Pi 3 with a login on its serial console",
        "emulated",
        kernel="",
        port=1,
        dtb=True,
        login=True,
        pace=10,
        boot_s=240,
    ),
}


class Machine:
    """A board that was switched on. Its console is ``link``.

    Args:
        disk: a file system for the home of its user (emulator/disk.py); without one, that is gone with the power.

    Raises:
        MissingDependencyError: QEMU is not installed.
        DeviceUnreachableError: QEMU does not start.
    """

    def __init__(self, board: QemuBoard, images: Images, name: str, disk: Path | None = None) -> None:
        program = shutil.which(QEMU)
        if program is None:
            raise MissingDependencyError(f"{QEMU} is not installed", hint="sudo apt-get install qemu-system-arm")
        ours, theirs = socket.socketpair()
        watched, self._alive = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the machine)
        self.link = SocketLink(ours, name)
        self._guard: subprocess.Popen[bytes] | None = None
        try:
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "guard", program, *_arguments(board, images, disk)],
                stdin=theirs.fileno(),
                stdout=watched,
                stderr=self._log,
                start_new_session=True,  # Ctrl-C in the terminal is not for QEMU
            )
        except OSError as e:
            self.close()
            raise DeviceUnreachableError(f"{name}: QEMU does not start: {e}") from e
        finally:
            theirs.close()
            os.close(watched)

    def complaint(self) -> str:
        """What QEMU said on its error output."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()

    def close(self) -> None:
        """Switch off; twice is fine."""
        self.link.close()
        if self._log.closed:
            return
        os.close(self._alive)
        if self._guard:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._guard.wait(10)
        self._log.close()


def _arguments(board: QemuBoard, images: Images, disk: Path | None) -> list[str]:
    words = [f"console={board.console} panic=-1", board.kernel, "edgeprune.login" if board.login else ""]
    words += ["edgeprune.disk"] if disk else []
    tree = ["-dtb", str(images.dtb)] if board.dtb else []
    silent = ["-serial", "null"] * board.port
    return [
        *board.options,
        *("-nodefaults", "-display", "none", "-no-reboot", "-nic", "none"),
        *("-kernel", str(images.kernel), "-initrd", str(images.initramfs), *tree, *_disk(disk)),
        *("-append", " ".join(w for w in words if w)),
        *("-chardev", "socket,id=console,fd=3", *silent, "-serial", "chardev:console"),
    ]


def _disk(file: Path | None) -> list[str]:
    if file is None:
        return []
    # As JSON, for a comma in the name would end it.
    node = {"driver": "raw", "node-name": "disk", "file": {"driver": "file", "filename": str(file)}}
    return ["-blockdev", json.dumps(node), "-device", "virtio-blk-device,drive=disk"]
