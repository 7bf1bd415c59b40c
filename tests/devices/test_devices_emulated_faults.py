"""The faults of a serial console (docs/FAULTS.md, 14, 15, 17 to 19) on the login console of an emulated Raspberry Pi.

It is one board for all of them: a real kernel, busybox's shell, getty and login, lrzsz's receiver.
The faults are on the line to it (line_noise.py) or made on the board itself.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from deploy_bundles import DOUBLED, SAMPLE, compile_program, make_bundle, variant
from line_noise import QUIET, FaultyLink, Noise
from long_tests import long

from edgeprune.deploy.flash import flash
from edgeprune.deploy.installed import installed
from edgeprune.deploy.rollback import rollback
from edgeprune.deploy.status import status
from edgeprune.devices.console import upload, xmodem
from edgeprune.devices.console.device import SerialDevice
from edgeprune.devices.console.login import Credentials, hear
from edgeprune.devices.emulator.device import EmulatedDevice
from edgeprune.devices.emulator.images import USER, find_images
from edgeprune.devices.emulator.machine import BOARDS, Machine
from edgeprune.errors import DeviceError, DeviceUnreachableError, VerificationError

CONTENT = random.Random(3).randbytes(5_000)
KERNEL_MESSAGE = b"potentially unexpected fatal signal"
LOGIN = re.compile(r"login: $")
folders = count()

pytestmark = pytest.mark.xdist_group("raspberry")  # one board, that takes a while to boot


class Pi:
    """A machine that stays on while tests come and go. ``link``: the line of the latest device."""

    def __init__(self) -> None:
        # Then every user can have the kernel say something: with a program that crashes.
        board = replace(BOARDS["rpi3"], kernel="print-fatal-signals=1")
        self.machine = Machine(board, find_images(), "emulated:rpi3")
        self.console = self.machine.link
        hear(self.console, until=LOGIN, timeout_s=board.boot_s)

    def open(self, root: str = "") -> EmulatedDevice:
        self.link = FaultyLink(self.console)
        self.machine.link = self.link  # type: ignore[assignment]
        device = EmulatedDevice("rpi3", machine=self.machine, root=root)
        device.session.pace = 1  # no test computes, and most wait for an answer that is lost
        return device

    def leave_shells(self) -> None:
        """Until the console asks for a login."""
        for _ in range(3):
            self.console.write(b"\nexit\n")
            if LOGIN.search(hear(self.console, until=LOGIN, timeout_s=5)):
                return
        raise AssertionError("no login prompt")

    def close(self) -> None:
        self.machine.link = self.console
        self.machine.close()


@pytest.fixture(scope="module")
def pi(emulator_images: Path) -> Iterator[Pi]:
    pi = Pi()
    yield pi
    pi.close()


@pytest.fixture
def connect(pi: Pi) -> Iterator[Callable[[], EmulatedDevice]]:
    """Opens the device of this test, again after a fault; its root is empty at first."""
    root, opened = f"/home/pi/test {next(folders)}", []

    def connect() -> EmulatedDevice:
        opened.append(pi.open(root))
        return opened[-1]

    yield connect
    opened[-1].close()


def names(device: EmulatedDevice, folder: str = ".") -> list[str]:
    return sorted(device.run(["ls", "-A", folder]).stdout.splitlines())


@pytest.mark.parametrize(
    "noise",
    [
        Noise(message=0.001, seed=1),
        Noise(message=0.0003, drop=0.0001, double=0.0001, flip=0.0001, seed=2),
    ],
    ids=["messages", "all"],
)
def test_fault_17_noise_on_the_line_never_changes_a_result(pi, connect, noise):
    device = connect()
    pi.link.spoil_with(noise)
    device.put(CONTENT[:2000], "file")
    assert device.get("file") == CONTENT[:2000]
    for i in range(3):
        done = device.run(["sh", "-c", f"echo {i}; echo ran >>counter; exit {i}"])
        assert (done.returncode, done.stdout) == (i, f"{i}\n")
    assert device.get("counter") == b"ran\n" * 3  # asked for again, never run again
    assert pi.link.spoilt
    pi.link.spoil_with(QUIET)


def test_fault_17_the_kernel_speaks_on_the_console_during_uploads_and_replies(pi, connect):
    device = connect()
    device.session.pace = BOARDS["rpi3"].pace  # what crashes computes, and the console waits for it
    # A storm ends by itself, however slow the board is: no later test finds it going on.
    storm = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); sh -c 'kill -SEGV $$'; sleep 0.2; done"
    for receiver in (device.receiver, ""):  # XMODEM, then lines
        device.receiver = receiver
        heard = 0
        for _ in range(8):  # until the kernel did speak in the middle
            device.run(["sh", "-c", f"({storm}) >/dev/null 2>&1 &"])
            before = pi.link.heard.count(KERNEL_MESSAGE)
            device.put(CONTENT, "file")
            heard += pi.link.heard.count(KERNEL_MESSAGE) - before
            assert device.get("file") == CONTENT
            if heard >= 2:
                break
        assert heard >= 2
    assert device.run(["echo", "usable"]).stdout == "usable\n"


@pytest.mark.long
def test_fault_17_a_release_is_installed_and_taken_back_where_there_is_a_login(connect, tmp_path):
    program = compile_program(tmp_path, "aarch64-linux-musl")
    bundles = [make_bundle(tmp_path / name, variant(program, name)) for name in ("one", "two")]
    device = connect()
    one, two = (flash(bundle, device).release for bundle in bundles)
    assert (status(device).current, status(device).previous) == (two, one)
    assert installed(device).run([SAMPLE]) == [DOUBLED]
    assert rollback(device).release == one == status(device).current
    assert installed(device).run([SAMPLE]) == [DOUBLED]


def test_fault_17_a_wrong_password_is_refused_and_the_right_one_lets_in(pi, connect):
    pi.leave_shells()

    def open_with(password: str) -> SerialDevice:
        return SerialDevice(
            FaultyLink(pi.console),
            url="emulated:rpi3",
            ask_credentials=lambda: Credentials(USER, password),
            pace=BOARDS["rpi3"].pace,
        )

    with pytest.raises(DeviceError, match="refused user and password") as caught:
        open_with("not-the-one")
    assert caught.value.exit_code == 6
    assert "not-the-one" not in str(caught.value.to_json())
    device = connect()
    assert device.run(["id", "-un"]).stdout == "pi\n"


def test_fault_14_a_bit_flipped_in_transit_is_sent_again_and_one_in_storage_is_exit_7(pi, connect):
    device = connect()
    device.receiver = ""  # lines: between two of them the board can be asked for something else
    device.put(b"old", "file")
    pi.link.spoil_with(Noise(flip=0.0002, seed=4))
    device.put(CONTENT, "flipped in transit")
    pi.link.spoil_with(QUIET)
    assert pi.link.spoilt
    assert device.session.retries > 0
    assert device.get("flipped in transit") == CONTENT

    def rot(done: int, total: int) -> None:
        device.session.ask('printf X | dd of="$f" bs=1 seek=7 conv=notrunc')

    with pytest.raises(VerificationError, match="not on the board's disk what was sent") as caught:
        device.put(CONTENT, "file", progress=rot)
    assert caught.value.exit_code == 7
    assert device.get("file") == b"old"
    assert names(device) == ["file", "flipped in transit"]


@pytest.fixture
def small_disk(pi: Pi) -> Iterator[EmulatedDevice]:
    """A device whose folder ``small`` is a disk of 64 KiB, in a shell that may mount."""
    pi.open().close()  # logs in
    pi.console.write(b" exec unshare -Urm sh\n")
    hear(pi.console, until=re.compile("# $"), timeout_s=10)
    device = pi.open(f"/home/pi/test {next(folders)}")
    device.run(["mkdir", "small"])
    assert device.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "small"]).stderr == ""
    yield device
    device.close()
    pi.leave_shells()


def test_fault_15_a_disk_that_is_too_small_fills_up_or_is_read_only(pi, small_disk):
    device = small_disk
    device.put(b"old", "small/file")

    before = pi.link.sent
    with pytest.raises(DeviceError, match="are free") as caught:
        device.put(random.Random(1).randbytes(90_000), "small/file")
    assert caught.value.exit_code == 6
    assert pi.link.sent - before < 3_000  # found before the upload
    assert names(device, "small") == ["file"]

    def fill(done: int, total: int) -> None:
        device.session.ask("cat /dev/zero >small/filler")

    device.receiver = ""
    with pytest.raises(DeviceError, match="bytes were stored") as caught:
        device.put(CONTENT, "small/file", progress=fill)
    assert caught.value.exit_code == 6
    assert names(device, "small") == ["file", "filler"]
    device.remove("small/filler")
    device.put(b"old", "small/file")

    assert device.run(["mount", "-o", "remount,bind,ro", "small"]).stderr == ""
    with pytest.raises(DeviceError, match="Read-only") as caught:
        device.put(CONTENT, "small/file")
    assert caught.value.exit_code == 6
    assert (device.get("small/file"), names(device, "small")) == (b"old", ["file"])


def test_fault_18_a_receiver_that_is_not_heard_any_more_is_cancelled(pi, connect, monkeypatch):
    monkeypatch.setattr(xmodem, "_ATTEMPTS", 1)
    monkeypatch.setattr(upload, "_ATTEMPTS", 2)
    monkeypatch.setattr(upload, "_ANSWER_S", 0.25)
    device = connect()
    device.put(b"old", "file")
    pi.link.heard_again = b"\x18"
    cancelled = []

    def stall(done: int, total: int) -> None:
        cancelled.append(not pi.link.deaf)
        pi.link.deaf = True

    with pytest.raises(DeviceError, match="gives up") as caught:
        device.put(CONTENT, "file", progress=stall)
    assert caught.value.exit_code == 6
    assert "power" in caught.value.hint
    assert cancelled
    assert not pi.link.deaf  # only what cancels a receiver ends that
    assert device.run(["echo", "usable"]).stdout == "usable\n"
    assert device.get("file") == b"old"
    assert names(device) == ["file"]


PULLED = random.Random(5).sample(range(100, 6_000), 2)


@pytest.mark.parametrize("k", long(PULLED, PULLED[1:]))
def test_fault_19_the_cable_is_pulled_in_the_middle_of_an_upload(pi, connect, k):
    """The old file stays, the part that arrived is gone on with, the console is found again."""
    device = connect()
    device.receiver = ""
    device.put(b"old", "file")
    pi.link.cut_after = k
    with pytest.raises(DeviceUnreachableError) as caught:
        device.put(CONTENT, "file")
    assert caught.value.exit_code == 6
    with pytest.raises(DeviceUnreachableError):
        device.run(["true"])
    device = connect()
    assert device.get("file") == b"old"
    arrived = int(device.run(["sh", "-c", "cat .file.*.partial | wc -c"]).stdout)
    before = pi.link.sent
    device.receiver = ""
    device.put(CONTENT, "file")
    assert pi.link.sent - before < 4 / 3 * (len(CONTENT) - arrived) + 3_000
    assert device.get("file") == CONTENT
    assert names(device) == ["file"]
