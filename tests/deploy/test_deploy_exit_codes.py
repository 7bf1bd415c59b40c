"""The faults of a deployment as whoever types the command meets them: exit code, message, and what runs afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import Command, done, error_of, refused
from deploy_bundles import DOUBLED, SAMPLE, make_bundle, needing_a_newer_libc, with_elf_machine
from faulty_device import offer_faulty_devices
from serial_board import PtyBoard

from edgeprune.deploy.installed import installed
from edgeprune.deploy.status import status
from edgeprune.devices.fake import FakeDevice

WEIGHTS = os.urandom(100_000)  # longer on the wire than all that is said before and after them


@pytest.fixture
def folder(tmp_path, bundle, monkeypatch) -> Path:
    """A board that runs "one", and whose faults are in its URL."""
    offer_faulty_devices(monkeypatch)
    done("flash", bundle("one"), "--device", f"fake:{tmp_path / 'board'}", "-q")
    return tmp_path / "board"


def running(folder: Path) -> str:
    """The release that is current and runs; nothing may be left of what failed."""
    device = FakeDevice(folder)
    now = status(device)
    assert (now.interrupted, now.owner) == (None, None)
    assert installed(device).run([SAMPLE]) == [DOUBLED]
    assert now.current
    return now.current


def test_fault_14_a_flipped_bit_is_exit_7_and_resume_mends_it(folder, bundle):
    before = running(folder)
    error = refused(7, "VerificationError", "flash", bundle("two"), "--device", f"faulty:{folder}?flip_bit_at=9000")
    assert "nothing was switched" in error["message"]
    device = FakeDevice(folder)
    assert (status(device).current, status(device).releases) == (before, (before,))
    assert done("flash", bundle("two"), "--resume", "--device", f"fake:{folder}")["files_sent"] == 1


def test_fault_14_a_release_that_rotted_is_not_gone_back_to(folder, bundle):
    one = running(folder)
    two = done("flash", bundle("two"), "--device", f"fake:{folder}")["release"]
    model = folder / "releases" / one / "model"
    model.write_bytes(bytes([model.read_bytes()[0] ^ 1]) + model.read_bytes()[1:])
    error = refused(7, "VerificationError", "rollback", "--device", f"fake:{folder}")
    assert (error["details"]["refused"], error["details"]["current"]) == (one, two)
    assert running(folder) == two


@pytest.mark.parametrize(
    ("fault", "message"),
    [("disk_bytes=60000", "are free"), ("full_after_bytes=5000", "No space"), ("read_only=1", "Read-only")],
)
def test_fault_15_a_full_or_read_only_disk_is_exit_6(folder, bundle, fault, message):
    before = running(folder)
    device = f"faulty:{folder}?{fault}"
    error = refused(6, "DeviceError", "flash", bundle("two", files={"big": bytes(90_000)}), "--device", device, "-q")
    assert message in error["message"]
    assert error["hint"]
    assert running(folder) == before
    assert not list(folder.rglob("*.partial"))


def test_fault_21_what_the_board_cannot_load_never_becomes_current(folder, program, tmp_path):
    before = running(folder)
    machine = 183 if FakeDevice(folder).describe().machine == "x86_64" else 62
    foreign = make_bundle(tmp_path / "foreign", with_elf_machine(program, 64, machine))
    error = refused(3, "BundleError", "flash", foreign, "--device", f"fake:{folder}", "-q")
    assert "built for" in error["message"]
    newer = make_bundle(tmp_path / "newer", needing_a_newer_libc(program))
    error = refused(3, "BundleError", "flash", newer, "--device", f"local:{folder}", "-q")
    assert "GLIBC" in error["message"] or "glibc" in error["message"]
    assert running(folder) == before


@pytest.mark.parametrize("name", ["crash in check", "crash as current", "wrong", "slow"])
def test_fault_22_a_bad_release_is_exit_9_with_both_facts(folder, bundle, name):
    before = running(folder)
    error = refused(
        9, "RolledBackError", "flash", bundle(name), "--device", f"fake:{folder}", "--latency", "10ms", "-q"
    )
    for fact in ("was refused", before[:12], "passes its golden check"):
        assert fact in error["message"]
    assert running(folder) == before


def test_fault_23_a_public_or_unreachable_server(bundle, monkeypatch):
    error = refused(2, "UsageError", "flash", bundle("one"), "--device", "rpc://192.0.2.7:9090", "-q")
    assert "ssh -N -L" in error["hint"]
    # Port 1 of this computer: nobody listens there.
    refused(6, "DeviceUnreachableError", "flash", bundle("one"), "--device", "rpc://127.0.0.1:1", "-q")


def test_fault_24_two_runs_at_once_then_ctrl_c(folder, bundle):
    """The first is at work in its check, which never ends; the second is told who is there."""
    before = running(folder)
    first = Command("flash", bundle("hang"), "--device", f"fake:{folder}")
    first.wait_for("check")
    error = refused(8, "BusyError", "flash", bundle("two"), "--device", f"fake:{folder}", "-q")
    assert error["details"]["owner"]["pid"] == first.process.pid
    assert f"process {first.process.pid}" in error["message"]
    refused(8, "BusyError", "rollback", "--device", f"fake:{folder}")
    first.interrupt()
    error_of(*first.end(), 130, "InterruptedRunError")
    device = FakeDevice(folder)
    assert (status(device).current, status(device).owner) == (before, None)
    done("flash", bundle("two"), "--device", f"fake:{folder}", "-q")
    assert status(device).previous == before


def test_fault_24_the_lock_of_a_run_that_was_killed_is_taken_over(folder, bundle):
    first = Command("flash", bundle("hang"), "--device", f"fake:{folder}")
    first.wait_for("check")
    first.process.kill()
    first.process.communicate()
    assert done("status", "--device", f"fake:{folder}")["owner_dead"] is True
    assert done("flash", bundle("two"), "--device", f"fake:{folder}", "-q")["state"] == "installed"
    running(folder)


@pytest.fixture
def serial_boards(tmp_path, bundle) -> Iterator[Callable[..., PtyBoard]]:
    """Boards with one home that runs "one"; each takes the place of the last."""
    made: list[PtyBoard] = []

    def power_on(**options: object) -> PtyBoard:
        if made:
            made[-1].close()
            (tmp_path / "home-bin").rename(tmp_path / f"old-bin-{len(made)}")
        made.append(PtyBoard(tmp_path / "home", **options))  # type: ignore[arg-type]
        return made[-1]

    done("flash", bundle("one"), "--device", f"fake:{tmp_path / 'home' / '.edgeprune'}", "-q")
    yield power_on
    made[-1].close()


def test_fault_19_the_cable_is_pulled_in_the_middle_of_a_flash(serial_boards, bundle):
    board = serial_boards(cut_after=70_000)
    folder = board.home / ".edgeprune"
    before, two = running(folder), bundle("two", files={"weights.bin": WEIGHTS})
    error = error_of(*Command("flash", two, "--device", board.url, "-q").end(), 6, "DeviceUnreachableError")
    assert "cable" in error["hint"]
    assert status(FakeDevice(folder)).current == before
    (partial,) = folder.rglob(".weights.bin.*.partial")
    assert partial.stat().st_size > 0
    again = serial_boards()
    code, body = Command("flash", two, "--resume", "--device", again.url, "-q").end()
    assert (code, body.get("previous")) == (0, before)
    assert again.sent < 4 / 3 * len(WEIGHTS)  # not all of them a second time
    assert running(folder) == body["release"]
    assert not list(folder.rglob("*.partial"))


def test_fault_24_ctrl_c_in_the_middle_of_a_flash_leaves_the_console_usable(serial_boards, bundle):
    board = serial_boards(bytes_per_s=20_000)
    folder = board.home / ".edgeprune"
    before, two = running(folder), bundle("two", files={"weights.bin": WEIGHTS})
    flashing = Command("flash", two, "--device", board.url)
    flashing.wait_for("upload")
    flashing.interrupt()
    error_of(*flashing.end(), 130, "InterruptedRunError")
    now = status(FakeDevice(folder))
    assert (now.current, now.owner) == (before, None)
    board.bytes_per_s = None
    code, body = Command("flash", two, "--resume", "--device", board.url, "-q").end()
    assert (code, body.get("previous")) == (0, before)
    assert running(folder) == body["release"]


def test_fault_19_a_port_in_use_is_exit_8(serial_boards, bundle):
    board = serial_boards()
    first = Command("flash", bundle("hang"), "--device", board.url)
    first.wait_for("check")
    error = refused(8, "BusyError", "flash", bundle("two"), "--device", board.url, "-q")
    assert error["details"]["port"] == board.port
    first.interrupt()
    error_of(*first.end(), 130, "InterruptedRunError")
    assert status(FakeDevice(board.home / ".edgeprune")).owner is None


def test_fault_19_two_ports_that_match_are_not_guessed_between(bundle, monkeypatch):
    from serial.tools import list_ports

    found = [SimpleNamespace(device=f"/dev/ttyUSB{i}", serial_number="A5XK") for i in range(2)]
    monkeypatch.setattr(list_ports, "comports", lambda: found)
    error = refused(2, "UsageError", "flash", bundle("one"), "--device", "serial://?serial_number=A5XK", "-q")
    assert error["details"]["ports"] == ["/dev/ttyUSB0", "/dev/ttyUSB1"]


def test_fault_18_a_receiver_that_gives_up_is_exit_6_and_leaves_the_old_release(serial_boards, bundle):
    board = serial_boards(receiver="cancel")
    folder = board.home / ".edgeprune"
    before = running(folder)
    error = error_of(*Command("flash", bundle("two"), "--device", board.url, "-q").end(), 6, "DeviceError")
    assert "gives up" in error["message"]
    assert "power" in error["hint"]
    assert running(folder) == before
    assert not list(folder.rglob("*.partial"))
    # The console is a shell again.
    code, body = Command("status", "--device", board.url).end()
    assert (code, body["current"]) == (0, before)


def test_what_is_done_with_a_board_imports_no_torch(bundle, tmp_path):
    """It takes seconds of each command."""
    board = f"fake:{tmp_path / 'board'}"
    np.save(tmp_path / "x.npy", np.frombuffer(SAMPLE, np.float32)[None])
    flashes = [["flash", str(bundle(name)), "--device", board, "-q"] for name in ("one", "two")]
    others = [["run", "--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy")], ["bench"], ["status"]]
    commands = [*flashes, *([*words, "--device", board] for words in (*others, ["rollback"]))]
    program = (
        "import json, sys; from edgeprune.cli.main import main\n"
        "codes = [main([*words, '--json']) for words in json.loads(sys.argv[1])]\n"
        "print('\\n', codes, sorted({'torch', 'scipy', 'onnx', 'tvm', 'matplotlib'} & {*sys.modules}))"
    )
    told = subprocess.run([sys.executable, "-c", program, json.dumps(commands)], capture_output=True, text=True)
    assert told.stdout.splitlines()[-1].strip() == "[0, 0, 0, 0, 0, 0] []", told.stderr
    assert np.load(tmp_path / "y.npy").tobytes() == DOUBLED
