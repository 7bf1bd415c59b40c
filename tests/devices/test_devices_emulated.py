"""Boards in QEMU: they go when whoever opened them goes, they count, and one asks for a login."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from edgeprune.devices.emulator import disk, machine
from edgeprune.devices.emulator.device import EmulatedDevice, boards_here, emulated_boards
from edgeprune.devices.emulator.disk import make_disk
from edgeprune.devices.registry import list_devices, open_device
from edgeprune.errors import BusyError, DeviceError, DeviceUnreachableError, MissingDependencyError, UsageError

# A loop of a fixed number of instructions, timed with the board's own clock.
COUNTING = r"""
#include <stdio.h>
#include <time.h>
int main(void) {
  struct timespec a, b;
  for (int i = 0; i < 3; i++) {
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (long n = 200000; n; n--) __asm__ volatile("add x9, x9, #1" ::: "x9");
    clock_gettime(CLOCK_MONOTONIC, &b);
    if (i) printf("%ld\n", (b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec);
  }
  return 0;
}
"""


@pytest.mark.parametrize(
    "url", ["emulated:", "emulated:z80", "emulated:aarch64:relative", "emulated:a53:relative", "emulated:rpi3:/disk"]
)
def test_other_boards_do_not_exist(url):
    with pytest.raises(UsageError) as caught:
        open_device(url)
    assert caught.value.details["boards"] == emulated_boards()


def test_without_images_or_qemu(home, monkeypatch):
    with pytest.raises(MissingDependencyError):
        open_device("emulated:a53")
    assert {url: here for url, _, here in boards_here()}["emulated:a53"] is False
    assert {row.url for row in list_devices()} >= set(emulated_boards())
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    images = machine.Images(home, {})
    with pytest.raises(MissingDependencyError, match="not installed"):
        machine.Machine(machine.BOARDS["a53"], images, "emulated:a53")


def test_what_does_not_boot_says_why(home, emulator_images):
    broken = machine.Machine(machine.BOARDS["a53"], machine.Images(home, {}), "emulated:a53")
    with pytest.raises(DeviceUnreachableError):
        broken.link.read(30)
    assert "vmlinuz" in broken.complaint()
    broken.close()
    broken.close()


@pytest.mark.xdist_group("counting")
def test_latencies_are_instructions_and_repeat(counting_board: EmulatedDevice, tmp_path: Path):
    (tmp_path / "count.c").write_text(COUNTING)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-O2", "-s", "-static"]
    subprocess.run([*command, "count.c", "-o", "count"], check=True, cwd=tmp_path)
    counting_board.put(tmp_path / "count", "/".join(["counting", "count"]), executable=True)
    launches = [counting_board.run(["counting/count"]).stdout.splitlines() for _ in range(3)]
    assert all(len(lines) == 2 for lines in launches)
    # Interrupts of the timer and the console only ever add to a sample: the smaller one of each launch is compared.
    times = [min(map(float, lines)) for lines in launches]
    # three instructions a turn
    assert min(times) == pytest.approx(600_000, rel=0.05)
    assert max(times) == pytest.approx(min(times), rel=0.02)


@pytest.mark.xdist_group("counting")
def test_it_says_what_its_figures_are(counting_board: EmulatedDevice):
    info = counting_board.describe()
    assert info.cpu == "Cortex-A53 (emulated, instructions as nanoseconds)"
    assert (info.machine, info.cores, info.evidence) == ("aarch64", 1, "emulated")


def test_no_qemu_is_left_when_its_owner_is_killed(emulator_images: Path):
    program = (
        "import sys, time\nfrom edgeprune.devices.emulator.device import EmulatedDevice\n"
        "from edgeprune.devices.emulator.images import find_images\n"
        "from edgeprune.devices.emulator.machine import BOARDS, Machine\n"
        "m = Machine(BOARDS['a53'], find_images(), 'x'); m.link.read(30)\n"
        "print(m._guard.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        guard = int(owner.stdout.readline())
        assert _members(guard)
        os.kill(owner.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _members(guard) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _members(guard) == []


def _members(session: int) -> list[str]:
    """Processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def test_a_disk_outlives_its_board_and_serves_one_at_a_time(emulator_disks: Path, tmp_path: Path):
    url = f"emulated:a53:{tmp_path}/a, b.img"
    with closing(open_device(url)) as board:
        board.put(b"kept", "folder/file")
        with pytest.raises(BusyError, match="another emulated board"):
            open_device(url)
    with closing(open_device(url)) as board:
        assert board.get("folder/file") == b"kept"
        assert board.run(["df", "-P", "."]).stdout.splitlines()[-1].startswith("/dev/vda ")
    assert [p.name for p in tmp_path.iterdir()] == ["a, b.img"]


def test_a_disk_that_cannot_be_made_costs_nothing(emulator_disks: Path, tmp_path: Path, monkeypatch):
    with pytest.raises(DeviceError, match="cannot be made"):
        make_disk(tmp_path / "missing" / "board.img")
    with pytest.raises(DeviceError):
        make_disk(tmp_path / "board.img", size=1000)  # no file system is that small
    monkeypatch.setattr(disk.shutil, "which", lambda name, path=None: None)
    with pytest.raises(MissingDependencyError, match=r"mkfs\.ext4"):
        make_disk(tmp_path / "board.img")
    assert list(tmp_path.iterdir()) == []


def test_a_raspberry_pi_with_a_login_and_kernel_messages(emulator_images: Path):
    device = open_device("emulated:rpi3")
    try:
        assert device.run(["id", "-un"]).stdout == "pi\n"
        info = device.describe()
        assert (info.cpu, info.cores) == ("Cortex-A53 (emulated)", 4)
        device.put(b"x" * 5000, "folder/file")
        assert device.get("folder/file") == b"x" * 5000
    finally:
        device.close()
    with pytest.raises(DeviceUnreachableError):
        device.run(["true"])


def test_user_mode_runs_arm_programs(tmp_path: Path):
    if not shutil.which("qemu-aarch64-static"):
        pytest.skip("qemu-aarch64-static is not installed: sudo apt-get install qemu-user-static")
    source = tmp_path / "hello.c"
    source.write_text('#include <stdio.h>\nint main(int c, char **v) { printf("%d %s\\n", c, v[c - 1]); return 3; }\n')
    program = tmp_path / "hello"
    # -O2 -s, and outside of the repository, as elsewhere: else zig builds another C library, which takes two minutes.
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-O2", "-s", "-static"]
    subprocess.run([*command, str(source), "-o", str(program)], check=True, cwd=tmp_path)
    device = open_device(f"emulated:aarch64:{tmp_path / 'root'}")
    device.put(program, "hello", executable=True)
    done = device.run(["./hello", "two words"])
    assert (done.returncode, done.stdout) == (3, "2 two words\n")
    assert device.describe().evidence == "emulated"
